"""Who may ask for what: the administrator by a session or a script by the token, and with which protection."""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import redirect, request, session, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response

from webapp.auth import NotSignedIn
from webapp.http.errors import wants_page
from webapp.services import services

log = logging.getLogger(__name__)

csrf = CSRFProtect()


def requester() -> str:
    """Who asks: "script" with the token, or "administrator" signed in and, to change anything, with a CSRF token.

    Raises NotSignedIn, TooManyAttempts where wrong tokens are tried, or CSRFError for a foreign or missing CSRF token.
    """
    authorization = request.headers.get("Authorization", "")
    if authorization.split(" ")[0] == "Bearer":  # another scheme is that of a proxy in front, and not for us
        token = services().settings.admin_token
        expected = f"Bearer {token}".encode()
        if not token:
            raise NotSignedIn("Scripts are not admitted: ADMIN_TOKEN is not set.")
        # Compared first, so that a right token costs no write and goes on working while others guess beside it.
        if hmac.compare_digest(authorization.encode(errors="replace"), expected):
            return "script"
        log.warning("a script sent a wrong token", extra=client())
        services().door.count_wrong_token(source())
        raise NotSignedIn("The token is wrong.")
    if not services().door.is_open(session.get("administrator")):
        raise NotSignedIn
    csrf.protect()
    return "administrator"


def turned_away() -> Response | None:
    """The way to the sign-in for a person who is not signed in, None for who may look; a script gets NotSignedIn.

    What is sent to change anything is left to its view, which asks for the requester.
    """
    if request.method not in ("GET", "HEAD"):
        return None
    try:
        requester()
    except NotSignedIn:
        if not wants_page():
            raise
        return redirect(url_for("admin.sign_in"), 303)
    return None


def source() -> str:
    """Where the request comes from, without its address: the same for the same one."""
    return services().corrections.source_of(request.remote_addr)


def client() -> dict[str, Any]:
    """The same for the log."""
    return {"fields": {"client": source()[:12]}}
