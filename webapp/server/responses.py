"""Answers of the application on their way to the client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gunicorn.http import wsgi


class ApplicationError(Exception):
    """An OSError of the application, such as a file that is gone; one of the connection stays an OSError."""


class BufferedResponse(wsgi.Response):
    """gunicorn's response, with the head held back to be sent in one call with the body, and without Server."""

    headers_sent: bool
    _held = b""

    def default_headers(self):
        return [line for line in super().default_headers() if not line.startswith("Server:")]

    def send_headers(self):
        if not self.headers_sent:
            lines = self.default_headers() + [f"{name}: {value}\r\n" for name, value in self.headers]
            self._held = ("".join(lines) + "\r\n").encode("latin-1")
            self.headers_sent = True

    @property
    def begun(self) -> bool:
        """Whether anything has been sent."""
        return self.headers_sent and not self._held

    def sendfile(self, respiter):
        self.send_headers()
        self._flush()
        return super().sendfile(respiter)

    def close(self):
        self.send_headers()
        self._flush()
        super().close()

    def _emit_body(self, data):
        if self.chunked:
            self._flush()
            super()._emit_body(data)
        else:
            self._flush(data)

    def _flush(self, data=b""):
        if held := self._held + data:
            self._held = b""
            self.sock.sendall(held)


def call_application(application: Callable, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
    """Call a WSGI application. Raises ApplicationError in place of OSError."""
    try:
        return application(environ, start_response)
    except OSError as error:
        raise ApplicationError from error


def iterate(body: Iterable[bytes]) -> Iterator[bytes]:
    """Iterate over a WSGI body. Raises ApplicationError in place of OSError."""
    try:
        yield from body
    except OSError as error:
        raise ApplicationError from error
