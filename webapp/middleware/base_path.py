"""The application below a path, beside others on the same host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from webapp.metrics.counters import NO_ROUTE
from webapp.middleware.access_log import ANNOTATIONS


class BasePath:
    """WSGI middleware: move `base`, such as "/inkling", from PATH_INFO to SCRIPT_NAME, by which Flask makes URLs."""

    def __init__(self, application: Callable, base: str):
        self._application, self._base = application, base

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == self._base:  # relative links of a page would leave it
            environ[ANNOTATIONS]["route"] = NO_ROUTE
            query = quote(environ["QUERY_STRING"], "%!$&'()*+,/:;=?@", encoding="latin-1")
            location = f"{self._base}/?{query}" if query else f"{self._base}/"
            start_response("308 Permanent Redirect", [("Location", location), ("Content-Length", "0")])
            return []
        is_below = path.startswith(f"{self._base}/")
        # Nothing is at an address with two slashes: the application answers others' paths by its own page.
        environ |= {"SCRIPT_NAME": self._base, "PATH_INFO": path[len(self._base) :] if is_below else f"/{path}"}
        return self._application(environ, start_response)
