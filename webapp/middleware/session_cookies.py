"""Session cookies as Flask makes them, whatever the clock says."""

from __future__ import annotations

from flask import Flask, Request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadSignature


class SessionCookies(SecureCookieSessionInterface):
    """Reads a cookie by its signature alone.

    Flask drops one that was signed at a later time than now, which signs everybody out whenever the clock is put back.
    How long a session lasts is in its row (`webapp.auth`).
    """

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        serializer = self.get_signing_serializer(app)
        if serializer is None:  # without a SECRET_KEY
            return None
        value = request.cookies.get(self.get_cookie_name(app), "")
        try:
            return self.session_class(serializer.loads(value))
        except BadSignature:
            return self.session_class()
