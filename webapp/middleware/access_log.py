"""The outermost layer: every answer, whichever part gives it, leaves through here.

It gets its request's number and the headers that all answers have, is counted, and leaves one line in the log. What
the line and the counters tell beyond status and time is what the parts have noted; never an address, a body or a path:
that of a receipt is a secret.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, request

from webapp.logs import request_id
from webapp.metrics import Metrics
from webapp.middleware.headers import security_headers

log = logging.getLogger("webapp.requests")

NUMBER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# RFC 3986, 3.2.2 and 3.2.3: a registered name or IPv4 address, or an IP literal; then perhaps a port.
HOST = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{0,5})?", re.ASCII)
# RFC 9110, 5.6.7. A condition on a date in any other form is to be ignored; libraries fail at some of them.
DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", re.ASCII)
DATED = "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"
NOTES = "inkling.notes"
STATIC = "/static/<path:name>"


def annotate_request(**what: Any) -> None:
    """Has the line and the counters of the request under way tell this: `route`, `code`, `version` or `verdict`."""
    request.environ.setdefault(NOTES, {}).update(what)


def register(app: Flask) -> None:
    app.before_request(lambda: annotate_request(route=request.url_rule.rule if request.url_rule else "none"))


def names_host(environ: dict[str, Any]) -> bool:
    """Whether a request names its host as it must (RFC 9112, 3.2); the server refuses one that names several."""
    host = environ.get("HTTP_HOST")
    return environ["SERVER_PROTOCOL"] == "HTTP/1.0" if host is None else HOST.fullmatch(host) is not None


class AccessLogMiddleware:
    """The application as the server calls it. A request that names no valid host goes straight to `refuse`."""

    def __init__(self, application: Callable, refuse: Callable, https: bool, metrics: Metrics):
        self._application, self._refuse, self._metrics = application, refuse, metrics
        self._always = [(name.lower(), name, value) for name, value in security_headers(https).items()]

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        began = time.perf_counter()
        number = environ.get("HTTP_X_REQUEST_ID", "")
        if not NUMBER.fullmatch(number):
            number = secrets.token_hex(8)
        notes = environ[NOTES] = {"route": STATIC}  # these do not come to Flask
        for name in DATED:
            if name in environ and not DATE.fullmatch(environ[name]):
                del environ[name]
        sent: dict[str, str] = {}

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable:
            sent.update((name.lower(), value) for name, value in headers)
            sent["status"] = status[:3]
            headers = headers + [(name, value) for lower, name, value in self._always if lower not in sent]
            return start_response(status, [*headers, ("X-Request-ID", number)], exc_info)

        token = request_id.set(number)
        try:
            body = (self._application if names_host(environ) else self._refuse)(environ, start)
            self._tell(environ["REQUEST_METHOD"], sent["status"], sent.get("content-length"), began, notes)
            return body
        finally:
            request_id.reset(token)

    def _tell(self, method: str, status: str, length: str | None, began: float, notes: dict[str, Any]) -> None:
        seconds = time.perf_counter() - began
        self._metrics.count(method, status, seconds, notes)
        level = logging.ERROR if status >= "500" else logging.INFO
        told = {"method": method, "status": int(status), "bytes": int(length) if length else None}
        fields = told | {"ms": round(seconds * 1000, 2)} | notes
        log.log(level, "%s %s: %s", method, notes["route"], status, extra={"fields": fields})
