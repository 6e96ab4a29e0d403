"""gunicorn's sync worker, which here never waits for a client.

The plain one answers one request at a time and is held up by whoever sends slowly, says nothing or does not hang up.
This one collects the requests of many connections side by side, answers each when it is whole, and lets those that
are slow to end do so meanwhile. What comes in faster than it can be answered is refused at once, so that those who are
answered do not wait long.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import json
import logging
import os
import re
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from gunicorn import http, util
from gunicorn.glogging import Logger
from gunicorn.http import errors as malformed
from gunicorn.http import wsgi
from gunicorn.workers.sync import SyncWorker

from webapp.connections import Connection, waiting
from webapp.headers import always
from webapp.logs import formatter
from webapp.services import services

log = logging.getLogger(__name__)

# Whoever reads an answer must take it within this time. So much of one the kernel takes off our hands at once.
ANSWER_SECONDS = 5.0
SEND_BUFFER_BYTES = 512 << 10
KERNEL_WAITS_SECONDS = 5
# Of each worker; beyond it, whoever has been slow for longest makes room, or whoever has sent most.
MOST_SLOW = 512
MOST_COLLECTED_BYTES = 32 << 20
STOP_SECONDS = 10.0

# A queue that it takes longer than WAIT_SECONDS to answer is a crowd when it has been one for PATIENCE_SECONDS: not a
# burst, which passes. After that there is no patience with one as long, until none has been for as many seconds. One of
# MOST_WAITING is a crowd at any time, and one of FEWEST_WAITING for each worker never.
WAIT_SECONDS = 0.025
PATIENCE_SECONDS = 0.3
FEWEST_WAITING = 4
MOST_WAITING = 1024
REFUSED_AT_ONCE = 16
RETRY_AFTER_SECONDS = 1
OVERLOADED = 503, "overloaded", "The server is busy. Please try again in a moment."
# A watcher that is refused would take us for ill.
PROBES = re.compile(rb"(GET|HEAD) /(healthz|readyz|metrics)[ ?]")

REFUSALS = (
    (malformed.LimitRequestLine, 414, "address_too_long", "The address is too long."),
    (malformed.LimitRequestHeaders, 431, "headers_too_large", "The headers are too large."),
    (malformed.UnsupportedTransferCoding, 501, "unknown_coding", "The body's transfer coding is not known here."),
    (malformed.ExpectationFailed, 417, "expectation_failed", "That expectation cannot be met."),
    (malformed.NoMoreData, 400, "malformed", "This is not a whole HTTP request."),
    (malformed.ParseException, 400, "malformed", "This is not a well-formed HTTP request."),
)


class Fault(Exception):
    """The application failed to read or open something: none of the client's doing."""


class Log(Logger):
    """gunicorn's own lines, in the form of ours."""

    def setup(self, cfg):
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter())


class Crowd:
    """Tells a crowd before the door from a burst that passes."""

    def __init__(self, workers: int):
        self._workers = workers
        self._seconds = 0.001  # that an answer takes, on average
        self._since: float | None = None
        self._looked, self._there_until = 0.0, 0.0

    def answered(self, seconds: float) -> None:
        # A single answer that takes seconds does not make hundreds of quick ones a crowd.
        usual = min(seconds, 0.1)
        self._seconds += (usual - self._seconds) / 32
        self._looked += seconds  # nobody looks meanwhile
        if self._since is not None:
            self._since += seconds - usual

    def is_one(self, number: int, now: float) -> bool:
        """Whether one of the `number` that wait should be refused."""
        if now - self._looked > PATIENCE_SECONDS:
            self._since = None
        self._looked = now
        if number <= max(FEWEST_WAITING, WAIT_SECONDS / self._seconds) * self._workers:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now < self._there_until or now - self._since > PATIENCE_SECONDS or number > MOST_WAITING:
            self._there_until = now + PATIENCE_SECONDS
        return now < self._there_until


class Answer(wsgi.Response):
    """Head and body in one piece, where the body is one; and without the server's name."""

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
        self._release()
        return super().sendfile(respiter)

    def close(self):
        self.send_headers()
        self._release()
        super().close()

    def _emit_body(self, data):
        if self.chunked:
            self._release()
            super()._emit_body(data)
        else:
            self._release(data)

    def _release(self, data=b""):
        if held := self._held + data:
            self._held = b""
            self.sock.sendall(held)


class Worker(SyncWorker):
    def run(self):
        self._selector = selectors.DefaultSelector()
        # Those we wait for, in the order of their coming, each with how much of it is counted in `_collected`.
        self._slow: dict[Connection, int] = {}
        self._whole: collections.deque[Connection] = collections.deque()  # requests that can be answered
        self._crowd = Crowd(self.cfg.workers)
        self._collected, self._refused, self._swept_at = 0, 0, 0.0
        self._metrics, self._https = services(self.wsgi).metrics, services(self.wsgi).settings.https
        self._selector.register(self.PIPE[0], selectors.EVENT_READ)
        self._listeners = [listener.sock for listener in self.sockets]
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, self._welcome)
        while self.alive and self.is_parent_alive():
            self._turn()
        self._finish()

    def _turn(self) -> None:
        self.notify()
        for key, _ in self._selector.select(0 if self._whole else 1.0):
            if isinstance(key.data, Connection):
                if key.data in self._slow:  # and has not made room in this turn
                    self._go_on(key.data)
            elif not key.data:
                os.read(key.fileobj, 4096)  # a signal has come
            elif not self._whole:  # otherwise another worker may be sooner
                key.data(key.fileobj)
        self._serve()
        now = time.monotonic()
        if now - self._swept_at > 1:
            self._swept_at = now
            self._sweep(now)

    def _finish(self) -> None:
        """Answers whoever waits when we are told to stop, and lets requests that are on their way arrive."""
        end = time.monotonic() + STOP_SECONDS
        for listener in self._listeners:
            self._selector.unregister(listener)
            while waiting(listener) and time.monotonic() < end:
                self.notify()
                self._welcome(listener)
                self._serve()
            # When the last one does so, the kernel turns away whoever comes: a proxy asks elsewhere. With the listener
            # open they would wait, and be cut off when this process has ended.
            listener.close()
        self._listeners = []
        while time.monotonic() < end and (self._whole or not all(connection.leaving for connection in self._slow)):
            self._turn()

    # Connections that come, that we wait for, and that end

    def _welcome(self, listener: socket.socket) -> None:
        """Takes in the next whole request that waits; in a crowd, so many that all but one can be refused."""
        for _ in range(REFUSED_AT_ONCE + 1):
            try:
                client, address = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._give_up_one()
                elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                    raise
                return
            client.setblocking(False)
            connection = Connection(client, address)
            try:
                whole = connection.read()
            except OSError:
                client.close()
                continue
            if not whole:
                self._wait_for(connection)
                continue
            self._line_up(connection)
            if not self._in_a_crowd():
                return

    def _line_up(self, connection: Connection) -> None:
        if sum(len(one.received) for one in self._whole) > MOST_COLLECTED_BYTES:
            self._refuse(connection)
        elif PROBES.match(connection.received):
            self._whole.appendleft(connection)
        else:
            self._whole.append(connection)

    def _in_a_crowd(self) -> bool:
        """Whether the first in our line should be refused; the other workers have lines like it."""
        number = sum(map(waiting, self._listeners)) + 1 + (len(self._whole) - 1) * self.cfg.workers
        return self.alive and self._crowd.is_one(number, time.monotonic())

    def _serve(self) -> None:
        """Answers the first in our line; in a crowd, refuses REFUSED_AT_ONCE before."""
        for _ in range(REFUSED_AT_ONCE):
            if not self._whole or PROBES.match(self._whole[0].received) or not self._in_a_crowd():
                break
            self._refuse(self._whole.popleft())
        if self._whole:
            self._answer(self._whole.popleft())

    def _go_on(self, connection: Connection) -> None:
        """Takes what has come in from one that we wait for."""
        try:
            done = connection.drain() if connection.leaving else connection.read()
        except OSError:
            self._drop(connection)
            return
        if done and connection.leaving:
            self._drop(connection)
        elif done:
            self._forget(connection)
            self._line_up(connection)
        else:
            self._count(connection)

    def _wait_for(self, connection: Connection) -> None:
        self._slow[connection] = 0
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._count(connection)

    def _count(self, connection: Connection) -> None:
        """Counts what has come in, and makes room where that is too much."""
        self._collected += len(connection.received) - self._slow[connection]
        self._slow[connection] = len(connection.received)
        while len(self._slow) > MOST_SLOW:
            self._give_up_one()
        while self._collected > MOST_COLLECTED_BYTES:
            self._give_up(max(self._slow, key=self._slow.get))

    def _forget(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        self._collected -= self._slow.pop(connection)

    def _drop(self, connection: Connection) -> None:
        self._forget(connection)
        connection.socket.close()

    def _give_up_one(self) -> None:
        """Gives up the one that we have waited for longest."""
        if connection := next(iter(self._slow), None):
            self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        if not connection.leaving:
            self._refused += 1
            self._turn_away(connection, *OVERLOADED)
        self._drop(connection)

    def _sweep(self, now: float) -> None:
        for connection in [connection for connection in self._slow if connection.deadline < now]:
            if connection.received and not connection.leaving:
                self._turn_away(connection, 408, "too_slow", "The request took too long to arrive.")
            self._drop(connection)
        if self._refused:
            log.warning("%s requests were refused: more come than can be answered", self._refused)
            self._refused = 0

    # Answers

    def _answer(self, connection: Connection) -> None:
        began = time.monotonic()
        client, request = connection.socket, None
        client.settimeout(ANSWER_SECONDS)
        try:
            # What has come in is all that is read: nobody waits for the rest of what is refused anyway.
            request = next(http.get_parser(self.cfg, [bytes(connection.received)], connection.address))
            request._expected_100_continue = False  # the connection has told the client already
            self.handle_request(client, request, client, connection.address)  # by then the listener may be closed
        except malformed.NoMoreData as error:
            self.handle_error(None, client, connection.address, error)
        except OSError as error:
            log.info("a client has gone, or is too slow: %s", type(error).__name__)
        except BaseException as error:  # SystemExit too, by which the arbiter ends a worker that is stuck
            self.handle_error(request, client, connection.address, error)
        self._part(connection)
        self._crowd.answered(time.monotonic() - began)

    def _refuse(self, connection: Connection) -> None:
        self._refused += 1
        self._turn_away(connection, *OVERLOADED)
        self._part(connection)

    def _turn_away(self, connection: Connection, status: int, code: str, message: str) -> None:
        self._metrics.refuse(code)
        self._send(connection.socket, connection.received[:5] == b"HEAD ", status, code, message)

    def _part(self, connection: Connection) -> None:
        if connection.leave():
            connection.socket.close()
        else:
            self._wait_for(connection)

    def handle_request(self, listener, req, client, addr):
        answer, environ = wsgi.create(req, client, addr, client.getsockname(), self.cfg, Answer)
        answer.force_close()
        body = _given(self.wsgi, environ, answer.start_response)
        try:
            if isinstance(body, environ["wsgi.file_wrapper"]):
                answer.write_file(body)
            else:
                for piece in _pieces(body):
                    self.notify()  # a long answer is no worker that is stuck
                    answer.write(piece)
            answer.close()
        except OSError:
            raise
        except BaseException:
            if not answer.begun:
                raise
            log.exception("an answer broke off")
        finally:
            if hasattr(body, "close"):
                body.close()

    def handle_error(self, req, client, addr, exc):
        """Answers what the application has not: a request that is none, or a fault beneath the application.

        Logged without what was sent, which may be anything, and without the address.
        """
        number = secrets.token_hex(8)
        about = {"fields": {"request": number}}
        refusal = next((refusal for kind, *refusal in REFUSALS if isinstance(exc, kind)), None)
        if refusal and req is None:
            log.info("a request was refused: %s", refusal[1], extra=about)
        else:
            log.error("unexpected error beneath the application", exc_info=exc, extra=about)
            refusal = 500, "internal", "Something went wrong on the server. It has been logged."
        self._metrics.refuse(refusal[1])
        self._send(client, req is not None and req.method == "HEAD", *refusal, number)

    def _send(
        self, client: socket.socket, head_only: bool, status: int, code: str, message: str, number: str | None = None
    ) -> None:
        """Sends an error without the application, in the form that its own have."""
        head, body = _error(status, code, message, self._https)
        head += f"Date: {util.http_date()}\r\nX-Request-ID: {number or secrets.token_hex(8)}\r\n\r\n"
        with contextlib.suppress(OSError):
            client.send(head.encode() + (b"" if head_only else body))


@functools.cache
def _error(status: int, code: str, message: str, https: bool) -> tuple[str, bytes]:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = always(https) | {
        "Cache-Control": "no-store",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": len(body),
    }
    if status == 503:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines) + "\r\n", body


def _given(application: Callable, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
    """What the application answers, its OSErrors told from those of the client's connection."""
    try:
        return application(environ, start_response)
    except OSError as error:
        raise Fault from error


def _pieces(body: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from body
    except OSError as error:
        raise Fault from error


def prepare(listeners: list) -> None:
    """Has the kernel keep silent connections back for a while, where it can (Linux), and take a whole answer at once.

    What is set on a listener holds for the connections that it accepts.
    """
    for listener in listeners:
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, KERNEL_WAITS_SECONDS)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
