"""gunicorn's threaded worker with what it lacks: errors in our form, and no client that holds up all the others."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import struct
import sys
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.http import errors as malformed
from gunicorn.http import wsgi
from gunicorn.workers import gthread

from webapp import errors
from webapp.headers import always
from webapp.logs import formatter
from webapp.services import services

log = logging.getLogger(__name__)

# A client that sends nothing, or takes nothing, for so long gives its thread back.
STALL_SECONDS = 8
KERNEL_WAITS_SECONDS = 5
# What is left of a refused request is read and dropped this long and this far: its sender would otherwise get a broken
# connection in place of the answer.
LINGER_SECONDS = 3.0
LINGER_BYTES = 64 << 20

INTERNAL = 500, "internal", "Something went wrong on the server. It has been logged."
MALFORMED = {
    malformed.LimitRequestLine: (414, "address_too_long", "The address is too long."),
    malformed.LimitRequestHeaders: (431, "headers_too_large", "The headers are too large."),
    malformed.UnsupportedTransferCoding: (501, "unknown_coding", "The body's transfer coding is not known here."),
    malformed.ExpectationFailed: (417, "expectation_failed", "That expectation cannot be met."),
    malformed.ParseException: (400, "malformed", "This is not a well-formed HTTP request."),
}

wsgi.SERVER = "Inkling"  # the name in each answer's Server


class Log(Logger):
    """gunicorn's own lines, in the form of ours."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter())

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], BlockingIOError):
            log.info("a client is too slow")
        else:
            super().exception(msg, *args, **kwargs)


class Worker(gthread.ThreadWorker):
    def handle(self, conn: gthread.TConn) -> Any:
        if not conn.initialized and not conn.wait_for_data(0):
            return gthread._DEFER  # the loop waits for the first byte, not a thread
        kept = super().handle(conn)
        if not kept:
            with contextlib.suppress(OSError):  # the loop, which closes it, would wait for the client
                util.close_graceful(conn.sock.dup(), LINGER_SECONDS, LINGER_BYTES)
                conn.sock.shutdown(socket.SHUT_RDWR)
        return kept

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        # Whoever waits already is answered; then a proxy is refused, and asks elsewhere.
        for listener in self.sockets:
            taken = -1
            while taken != self.nr_conns:
                taken = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answers what the application has not: a request that is none, or a fault beneath the application.

        Logged without what was sent, which may be anything, and without the address.
        """
        status, code, message = next((told for kind, told in MALFORMED.items() if isinstance(exc, kind)), INTERNAL)
        number = secrets.token_hex(8)
        if status == 500:
            log.error("unexpected error beneath the application", exc_info=exc, extra={"fields": {"request": number}})
        else:
            log.info("a request was refused: %s", code, extra={"fields": {"request": number}})
        services(self.wsgi).metrics.refuse(code)
        with self.wsgi.test_request_context(headers={"Accept": "application/json"}):
            response = errors.answer(status, code, message)
        headers = always(services(self.wsgi).settings.https) | dict(response.headers)
        headers |= {"X-Request-ID": number, "Date": util.http_date(), "Connection": "close"}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *map(": ".join, headers.items()), "", ""]
        with contextlib.suppress(OSError):
            client.sendall("\r\n".join(lines).encode() + response.get_data())


def prepare(listeners: list) -> None:
    """Limits how long a connection may stall, and has the kernel keep silent ones back for a while (Linux).

    What is set on a listener holds for the connections that it accepts.
    """
    stall = struct.pack("ll", STALL_SECONDS, 0)
    for listener in listeners:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, stall)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, stall)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, KERNEL_WAITS_SECONDS)
