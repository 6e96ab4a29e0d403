"""Security headers of every answer, errors included (OWASP ASVS 5.0, 3.4)."""

from __future__ import annotations

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)


def security_headers(https: bool) -> dict[str, str]:
    """Return the headers that an answer has unless it sets them itself; `https`: clients connect by TLS only."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": POLICY,
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-cache",
    }
    return headers | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})
