"""Flask's session cookies, accepted independently of the clock."""

from __future__ import annotations

from flask import Flask, Request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import BadSignature


class SessionCookies(SecureCookieSessionInterface):
    """Read cookies without a check of their age.

    Flask drops a cookie signed in the future, so that everybody would be signed out when the clock is set back. A
    session's expiry is in its row (`webapp.auth`).
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
