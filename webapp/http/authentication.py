"""Authentication of requests: an administrator by session and CSRF token, a script by bearer token."""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import g, redirect, request, session
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response

from webapp.auth import NotSignedIn
from webapp.http.error_page import sign_in_address
from webapp.http.errors import wants_page
from webapp.services import services

log = logging.getLogger(__name__)

csrf = CSRFProtect()

POLL = "X-Inkling-Poll"  # sent by js/admin/admin.js


def authenticate(other_token: str = "") -> str:
    """Return "script" for a request with a bearer token, the administrator's name for one of a signed-in session.

    `other_token` is one that opens this route alone, beside ADMIN_TOKEN, which opens every one.

    Raises NotSignedIn, TooManyAttempts after too many wrong tokens, or CSRFError if a session's request that may change
    something has no valid CSRF token.
    """
    authorization = request.headers.get("Authorization", "")
    if authorization.split(" ")[0] == "Bearer":  # any other scheme is meant for a proxy in front
        tokens = [token for token in (services().settings.admin_token, other_token) if token]
        if not tokens:
            raise NotSignedIn("Scripts are not admitted: ADMIN_TOKEN is not set.")
        # Compare before counting: a right token costs no write, and works while others are guessing.
        sent = authorization.encode(errors="replace")
        if any(hmac.compare_digest(sent, f"Bearer {token}".encode()) for token in tokens):
            return "script"
        log.warning("a script sent a wrong token", extra=log_fields())
        services().authenticator.count_wrong_token(client_digest())
        raise NotSignedIn("The token is wrong.")
    name = signed_in()
    if name is None:
        raise NotSignedIn
    csrf.protect()
    return name


def signed_in() -> str | None:
    """Return the name of the administrator whose session is open; None without one.

    What a page fetches by itself, with POLL, does not count as its use.
    """
    return services().authenticator.holder(session.get("administrator"), in_use=POLL not in request.headers)


def admin_required() -> Response | None:
    """Authenticate the requests of a blueprint, as its `before_request`, and set `g.by` to the result.

    Redirects a browser that opens a page without a session to the sign-in page. Raises the errors of `authenticate`.
    """
    if request.method == "OPTIONS":  # reveals only the methods
        return None
    try:
        g.by = authenticate()
    except NotSignedIn:
        if request.method not in ("GET", "HEAD") or not wants_page():
            raise
        return redirect(sign_in_address(f"{request.script_root}{request.full_path}".removesuffix("?")), 303)
    return None


def forbid_storing(response: Response) -> Response:
    """Forbid to store any answer below /admin: signed out, the browser's Back would show it again."""
    if f"{request.path}/".startswith("/admin/"):
        response.cache_control.no_store = True
    return response


def client_digest() -> str:
    """Return a digest of the client's address, under which its attempts are counted."""
    return services().corrections.submitter_of(request.remote_addr)


def log_fields() -> dict[str, Any]:
    """Return the `extra` of a log line that names the client by its digest."""
    return {"fields": {"client": client_digest()[:12]}}
