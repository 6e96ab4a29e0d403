"""Authentication of requests: the administrator by a session and a CSRF token, a script by its token."""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import g, redirect, request, session, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response

from webapp.auth import NotSignedIn
from webapp.http.errors import wants_page
from webapp.services import services

log = logging.getLogger(__name__)

csrf = CSRFProtect()


def authenticate() -> str:
    """Return "script" for a request with the token, "administrator" for one signed in that, to change anything, has a
    CSRF token.

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
        services().authenticator.count_wrong_token(source())
        raise NotSignedIn("The token is wrong.")
    if not services().authenticator.is_open(session.get("administrator")):
        raise NotSignedIn
    csrf.protect()
    return "administrator"


def admin_required() -> Response | None:
    """Guard a blueprint: admit the administrator and scripts alone, and note in `g.by` which of the two it is.

    Lead a person who opens a page without being signed in to the sign-in. OPTIONS is left alone: it reveals only the
    methods. Raises what `authenticate` raises.
    """
    if request.method == "OPTIONS":
        return None
    try:
        g.by = authenticate()
    except NotSignedIn:
        if request.method not in ("GET", "HEAD") or not wants_page():
            raise
        return redirect(url_for("sign_in.page"), 303)
    return None


def source() -> str:
    """Where the request comes from, without its address: the same for the same one."""
    return services().corrections.submitter_of(request.remote_addr)


def client() -> dict[str, Any]:
    """The same for the log."""
    return {"fields": {"client": source()[:12]}}
