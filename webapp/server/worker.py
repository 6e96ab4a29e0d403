"""gunicorn's sync worker, which here never waits for a client.

The plain one answers one request at a time and is held up by whoever sends slowly, says nothing or does not hang up.
This one collects the requests of many connections side by side, answers each when it is whole, keeps its connection for
the next one, and lets those that are slow to end do so meanwhile. What comes in faster than it can be answered is
refused at once, so that those who are answered do not wait long; first the requests of the client that makes most of
them.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import logging
import os
import re
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Flask
from gunicorn import http, util
from gunicorn.glogging import Logger
from gunicorn.http import errors as malformed
from gunicorn.http import wsgi
from gunicorn.workers.sync import SyncWorker
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from webapp.http import errors
from webapp.logs import formatter
from webapp.middleware.headers import security_headers
from webapp.server.connections import Connection, waiting
from webapp.server.shares import Shares, first_to_go
from webapp.services import services

log = logging.getLogger(__name__)

# Whoever reads an answer must take it within this time. So much of one the kernel takes off our hands at once.
ANSWER_SECONDS = 5.0
SEND_BUFFER_BYTES = 512 << 10
KERNEL_WAITS_SECONDS = 5
# Of each worker; beyond it, the client that has most of them, or has sent most, makes room.
MOST_SLOW = 512
MOST_COLLECTED_BYTES = 32 << 20
STOP_SECONDS = 10.0
# A connection that a client uses all the time is used once more in this time, and is told that it ends.
LAST_USE_SECONDS = 0.5

# A queue that it takes longer than WAIT_SECONDS to answer is a crowd when it has been one for PATIENCE_SECONDS: not a
# burst, which passes. After that there is no patience with one as long, until none has been for as many seconds. One of
# MOST_WAITING is a crowd at any time, and one of FEWEST_WAITING for each worker never.
WAIT_SECONDS = 0.025
PATIENCE_SECONDS = 0.3
FEWEST_WAITING = 4
MOST_WAITING = 1024
# Requests on kept connections may be answered before one that waits for another worker to be sooner.
MOST_PASSED_OVER = 4
REFUSED_AT_ONCE = 16
RETRY_AFTER_SECONDS = 1
# A client that makes less than half as many requests as the one that makes most is hardly the cause of a crowd: a line
# may be so many times as long before its requests are refused too.
LINE_OF_OTHERS = 4
# A watcher that is refused would take us for ill. One that asks more often, about twice this a second, is no watcher.
PROBES = re.compile(rb"(GET|HEAD) /(healthz|readyz|metrics)[ ?]")
MOST_PROBES = 100

ACCEPT = re.compile(rb"\r\naccept:([^\r\n]{0,300})", re.I)
FORWARDED_FOR = re.compile(rb"\r\nx-forwarded-for:([^\r\n]*)", re.I)


class Refusal(NamedTuple):
    status: int
    code: str
    message: str


OVERLOADED = Refusal(503, "overloaded", "The server is busy. Please try again in a moment.")
TOO_SLOW = Refusal(408, "too_slow", "The request took too long to arrive.")
INTERNAL = Refusal(500, "internal", "Something went wrong on the server. It has been logged.")
MALFORMED = {
    malformed.LimitRequestLine: Refusal(414, "address_too_long", "The address is too long."),
    malformed.LimitRequestHeaders: Refusal(431, "headers_too_large", "The headers are too large."),
    malformed.UnsupportedTransferCoding: Refusal(
        501, "unknown_coding", "The body's transfer coding is not known here."
    ),
    malformed.ExpectationFailed: Refusal(417, "expectation_failed", "That expectation cannot be met."),
    malformed.NoMoreData: Refusal(400, "malformed", "This is not a whole HTTP request."),
    malformed.ParseException: Refusal(400, "malformed", "This is not a well-formed HTTP request."),
}


class Fault(Exception):
    """The application failed to read or open something: none of the client's doing."""


class Log(Logger):
    """gunicorn's own lines, in the form of ours."""

    def setup(self, cfg):
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter())


class OverloadDetector:
    """Tells a crowd before the door from a burst that passes."""

    def __init__(self, workers: int):
        self._workers = workers
        self._seconds = 0.001  # that an answer takes, on average
        self._since: float | None = None
        self._looked, self._there_until = 0.0, 0.0

    @property
    def bearable(self) -> float:
        """How many may wait for one worker without being a crowd."""
        return max(FEWEST_WAITING, WAIT_SECONDS / self._seconds)

    def answered(self, seconds: float) -> None:
        # A single answer that takes seconds does not make hundreds of quick ones a crowd.
        usual = min(seconds, 0.1)
        self._seconds += (usual - self._seconds) / 32
        self._looked += seconds  # nobody looks meanwhile
        if self._since is not None:
            self._since += seconds - usual

    def is_one(self, number: int, now: float) -> bool:
        """Whether the `number` that wait are too many."""
        if now - self._looked > PATIENCE_SECONDS:
            self._since = None
        self._looked = now
        if number <= self.bearable * self._workers:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now < self._there_until or now - self._since > PATIENCE_SECONDS or number > MOST_WAITING:
            self._there_until = now + PATIENCE_SECONDS
        return now < self._there_until


class Answer(wsgi.Response):
    """Head and body in one piece, where the body is one; and without the server's name."""

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
        self._crowd, self._shares = OverloadDetector(self.cfg.workers), Shares()
        self._collected, self._refused, self._swept_at = 0, 0, 0.0
        self._passed_over = 0  # turns in which somebody was left to wait before the door
        self._metrics, self._https = services(self.wsgi).metrics, services(self.wsgi).settings.https
        self._rendered = functools.cache(functools.partial(rendered, self.wsgi, self._https))
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
                os.read(key.fd, 4096)  # a signal has come
            elif not self._whole or self._passed_over >= MOST_PASSED_OVER or self._in_a_crowd():
                self._passed_over = 0
                key.data(key.fileobj)
            else:  # another worker may be sooner
                self._passed_over += 1
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
        for connection in self._slow:
            if connection.idle:
                connection.deadline = time.monotonic() + LAST_USE_SECONDS
        while time.monotonic() < end and (self._whole or not all(connection.leaving for connection in self._slow)):
            self._turn()

    # Connections that come, that we wait for, and that end

    def _welcome(self, listener: socket.socket) -> None:
        """Takes in the next whole request that waits; in a crowd several, to choose among them which to refuse."""
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
        if self._https and (told := FORWARDED_FOR.findall(connection.head)):  # by the proxy in front, which is trusted
            connection.client = told[-1].rpartition(b",")[2].strip()
        if PROBES.match(connection.received):
            connection.client = "probes", connection.client
        made = self._shares.count(connection.client)
        connection.is_probe = connection.client[0] == "probes" and made <= MOST_PROBES
        if connection.is_probe:
            self._whole.appendleft(connection)
        else:
            self._whole.append(connection)
        sizes = {one: len(one.received) for one in self._whole}
        if sum(sizes.values()) > MOST_COLLECTED_BYTES and len(sizes) > 1:
            self._refuse(first_to_go(sizes))

    def _in_a_crowd(self) -> bool:
        """Whether too many wait: in our line, in those of the other workers, which are like it, and before the door."""
        number = sum(map(waiting, self._listeners)) + 1 + (len(self._whole) - 1) * self.cfg.workers
        return self.alive and self._crowd.is_one(number, time.monotonic())

    def _serve(self) -> None:
        """Answers the first in our line; in a crowd, refuses up to REFUSED_AT_ONCE before."""
        if self._whole and self._in_a_crowd():
            self._thin_out()
        if self._whole:
            self._answer(self._whole.popleft())

    def _thin_out(self) -> None:
        """Refuses what cannot be answered in time, first of the client that makes most requests, the oldest first."""
        made = {one: self._shares.of(one.client) for one in self._whole if not one.is_probe}
        most, left = self._shares.most(), len(made)
        for connection in sorted(made, key=made.__getitem__, reverse=True)[:REFUSED_AT_ONCE]:
            others = LINE_OF_OTHERS if 2 * made[connection] < most else 1
            if left <= others * self._crowd.bearable:
                break
            self._refuse(connection)
            left -= 1

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
            self._give_up(first_to_go(self._slow))

    def _forget(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        self._collected -= self._slow.pop(connection)

    def _drop(self, connection: Connection) -> None:
        self._forget(connection)
        connection.socket.close()

    def _give_up_one(self) -> None:
        """Gives up one that we wait for, best an idle one: of the client that has most of them, the oldest."""
        idle = [connection for connection in self._slow if connection.idle]
        if self._slow:
            self._give_up(first_to_go(dict.fromkeys(idle or self._slow, 1)))

    def _give_up(self, connection: Connection) -> None:
        if not connection.leaving and not connection.idle:
            self._refused += 1
            self._turn_away(connection, OVERLOADED)
        self._drop(connection)

    def _sweep(self, now: float) -> None:
        for connection in [connection for connection in self._slow if connection.deadline < now]:
            if connection.received and not connection.leaving:
                self._turn_away(connection, TOO_SLOW)
            self._drop(connection)
        self._shares.fade()
        if self._refused:
            log.warning("%s requests were refused: more come than can be answered", self._refused)
            self._refused = 0

    # Answers

    def _answer(self, connection: Connection) -> None:
        began = time.monotonic()
        client, request, is_kept = connection.socket, None, False
        client.settimeout(ANSWER_SECONDS)
        try:
            # What has come in is all that is read: nobody waits for the rest of what is refused anyway.
            request = next(http.get_parser(self.cfg, [bytes(connection.received)], connection.address))
            request._expected_100_continue = False  # the connection has told the client already
            is_kept = self._respond(request, connection)
        except malformed.NoMoreData as error:
            self._fail(connection, request, error)
        except OSError as error:
            log.info("a client has gone, or is too slow: %s", type(error).__name__)
        except BaseException as error:  # SystemExit too, by which the arbiter ends a worker that is stuck
            self._fail(connection, request, error)
        if is_kept:
            client.setblocking(False)
            self._wait_for(Connection(client, connection.address, idle=True))
        else:
            self._part(connection)
        self._crowd.answered(time.monotonic() - began)

    def _refuse(self, connection: Connection) -> None:
        self._whole.remove(connection)
        self._refused += 1
        self._turn_away(connection, OVERLOADED)
        self._part(connection)

    def _turn_away(self, connection: Connection, refusal: Refusal, number: str | None = None) -> None:
        """Answers by an error without the application, in the form that its own have."""
        self._metrics.refuse(refusal.code)
        try:
            head, body = self._rendered(refusal, _wants_page(connection.head))
        except OSError:  # such as too many open files to read a template
            head, body = self._rendered(refusal, False)
        head += f"Date: {util.http_date()}\r\nX-Request-ID: {number or secrets.token_hex(8)}\r\n\r\n"
        with contextlib.suppress(OSError):
            connection.socket.send(head.encode() + (b"" if connection.received[:5] == b"HEAD " else body))

    def _part(self, connection: Connection) -> None:
        if connection.leave():
            connection.socket.close()
        else:
            self._wait_for(connection)

    def _respond(self, request: Any, connection: Connection) -> bool:
        """Has the application answer; returns whether the connection can be used for another request."""
        client = connection.socket
        answer, environ = wsgi.create(request, client, connection.address, client.getsockname(), self.cfg, Answer)
        body = _given(self.wsgi, environ, answer.start_response)
        # Where many wait, another worker may be sooner to take the next request.
        if not self.alive or not connection.is_whole or len(self._whole) >= FEWEST_WAITING:
            answer.force_close()
        try:
            if isinstance(body, environ["wsgi.file_wrapper"]):
                answer.write_file(body)
            else:
                for piece in _pieces(body):
                    self.notify()  # a long answer is no worker that is stuck
                    answer.write(piece)
            answer.close()
            return not answer.should_close()
        except OSError:
            raise
        except BaseException:
            if not answer.begun:
                raise
            log.exception("an answer broke off")
            return False
        finally:
            if hasattr(body, "close"):
                body.close()

    def _fail(self, connection: Connection, request: Any, error: BaseException) -> None:
        """Answers what the application has not: a request that is none, or a fault beneath the application.

        Logged without what was sent, which may be anything, and without the address.
        """
        number = secrets.token_hex(8)
        about = {"fields": {"request": number}}
        refusal = next((refusal for kind, refusal in MALFORMED.items() if isinstance(error, kind)), None)
        if refusal and request is None:
            log.info("a request was refused: %s", refusal.code, extra=about)
        else:
            log.error("unexpected error beneath the application", exc_info=error, extra=about)
            refusal = INTERNAL
        self._turn_away(connection, refusal, number)


def rendered(app: Flask, https: bool, refusal: Refusal, page: bool) -> tuple[str, bytes]:
    """The head and body of a refusal, as a page or in JSON. Raises OSError where a template cannot be read."""
    with app.test_request_context(headers={"Accept": "text/html" if page else "application/json"}):
        response = errors.answer(*refusal)
    body = response.get_data()
    headers = security_headers(https) | dict(response.headers) | {"Content-Length": len(body), "Connection": "close"}
    if refusal.status == 503:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    first = f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines) + "\r\n", body


def _wants_page(head: bytes) -> bool:
    told = ACCEPT.search(head)
    return told is not None and _prefers_page(told[1].decode("latin-1"))


@functools.lru_cache(maxsize=64)
def _prefers_page(accept: str) -> bool:
    return errors.prefers_page(parse_accept_header(accept, MIMEAccept))


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
