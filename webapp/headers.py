"""The security headers of every answer, errors included (OWASP ASVS 5.0, 3.4)."""

from __future__ import annotations

from flask import Flask, Response, current_app, request

from webapp.errors import BadRequest
from webapp.services import services

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
}


def register(app: Flask) -> None:
    app.before_request(_refuse_unmeasured)
    app.after_request(_add)


def _refuse_unmeasured() -> None:
    """A body whose length is not told is cut at the limit without a word, and its rest taken for nothing: refused."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        raise BadRequest(411, "length_required", "The request must tell its length (Content-Length).")


def _add(response: Response) -> Response:
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    if not response.headers.get("Cache-Control"):
        response.headers["Cache-Control"] = "no-cache"
    if services(current_app).settings.https:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response
