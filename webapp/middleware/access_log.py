"""The outermost middleware: adds common headers and a request id to each answer, counts it and logs a line.

The line and the counters have the status, the time and the annotations of the request; never an address, a body or a
path, since a receipt's path is a secret.
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
from webapp.metrics.counters import NO_ROUTE, Metrics
from webapp.middleware.headers import security_headers

log = logging.getLogger("webapp.requests")

NUMBER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# RFC 3986, 3.2.2 and 3.2.3: a registered name or IPv4 address, or an IP literal; then perhaps a port.
# A label of a name is neither empty nor longer than 63 (RFC 1035, 2.3.4): Werkzeug raises at such.
LABEL = r"[A-Za-z0-9_~!$&'()*+,;=%-]{1,63}"
HOST = re.compile(rf"(?=.{{1,261}}$)({LABEL}(\.{LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\])(:[0-9]{{0,5}})?", re.ASCII)
# RFC 9110, 5.6.7: a conditional header with a date in any other form is ignored. Libraries raise at some of them.
DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", re.ASCII)
DATED = "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"
ANNOTATIONS = "inkling.annotations"
STATIC = "/static/<path:name>"


def annotate_request(**annotations: Any) -> None:
    """Add `route`, `code`, `version` or `verdict` to the log line and the counters of the current request."""
    request.environ.setdefault(ANNOTATIONS, {}).update(annotations)


def register(app: Flask) -> None:
    app.before_request(lambda: annotate_request(route=request.url_rule.rule if request.url_rule else NO_ROUTE))


def has_valid_host(environ: dict[str, Any]) -> bool:
    """Tell whether a request has a valid Host header (RFC 9112, 3.2); the server refuses several of them."""
    host = environ.get("HTTP_HOST")
    return environ["SERVER_PROTOCOL"] == "HTTP/1.0" if host is None else HOST.fullmatch(host) is not None


class AccessLogMiddleware:
    """Wrap the WSGI application. A request without a valid host goes to `refuse`, a WSGI application too."""

    def __init__(self, application: Callable, refuse: Callable, https: bool, metrics: Metrics):
        self._application, self._refuse, self._metrics = application, refuse, metrics
        self._defaults = [(name.lower(), name, value) for name, value in security_headers(https).items()]

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        began = time.perf_counter()
        number = environ.get("HTTP_X_REQUEST_ID", "")
        if not NUMBER.fullmatch(number):
            number = secrets.token_hex(8)
        annotations = environ[ANNOTATIONS] = {"route": STATIC}  # Flask, which static files do not reach, sets its own
        for name in DATED:
            if name in environ and not DATE.fullmatch(environ[name]):
                del environ[name]
        sent: dict[str, str] = {}

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable:
            sent.update((name.lower(), value) for name, value in headers)
            sent["status"] = status[:3]
            headers = headers + [(name, value) for lower, name, value in self._defaults if lower not in sent]
            return start_response(status, [*headers, ("X-Request-ID", number)], exc_info)

        token = request_id.set(number)
        try:
            if has_valid_host(environ):
                body = self._application(environ, start)
            else:  # Werkzeug raises at some invalid hosts where a page has links; this one it takes for none
                body = self._refuse(environ | {"HTTP_HOST": "?"}, start)
            self._record(environ["REQUEST_METHOD"], sent["status"], sent.get("content-length"), began, annotations)
            return body
        finally:
            request_id.reset(token)

    def _record(self, method: str, status: str, length: str | None, began: float, annotations: dict[str, Any]) -> None:
        seconds = time.perf_counter() - began
        self._metrics.count(method, status, seconds, annotations)
        level = logging.ERROR if status >= "500" else logging.INFO
        fields = {
            "method": method,
            "status": int(status),
            "bytes": int(length) if length else None,
            "ms": round(seconds * 1000, 2),
            **annotations,
        }
        log.log(level, "%s %s: %s", method, annotations["route"], status, extra={"fields": fields})
