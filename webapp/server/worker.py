"""gunicorn's sync worker, changed so that it never waits for a client.

gunicorn's own handles one connection at a time, so a slow client blocks it. This one reads the requests of many
connections side by side, answers each once it is complete, keeps its connection for the next one, and drains refused
requests in the background. Under overload it refuses requests at once, first those of the client that makes most, so
that the others are answered without a long wait.
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
from typing import Any

from gunicorn import http, util
from gunicorn.http import errors as parsing
from gunicorn.http import wsgi
from gunicorn.workers.sync import SyncWorker

from webapp.server.connections import Connection
from webapp.server.listeners import backlog, peer
from webapp.server.overload import FEWEST_WAITING, ClientShares, OverloadDetector, first_to_evict
from webapp.server.refusals import INTERNAL, MALFORMED, OVERLOADED, TOO_SLOW, Refusal, render, wants_page
from webapp.server.responses import BufferedResponse, call_application, iterate
from webapp.services import services

log = logging.getLogger(__name__)

# Time limit of each write of an answer to its client.
ANSWER_SECONDS = 5.0
# Limits of one worker: connections without a complete request, and bytes received of those and of waiting requests.
MOST_PENDING = 512
MOST_BUFFERED_BYTES = 32 << 20
STOP_SECONDS = 10.0
# At a stop an idle connection stays open this long: a request already on its way is answered with Connection: close.
LAST_USE_SECONDS = 0.5

# With requests of its own a worker leaves new connections to other workers for so many turns.
MOST_TURNS_WITHOUT_ACCEPT = 4
REFUSED_AT_ONCE = 16
# A client that makes less than half as many requests as the busiest one is hardly the cause of an overload: its
# requests are refused only where the queue is this many times as long.
PATIENCE_WITH_OTHERS = 4
# Monitoring that is refused would take the server for dead. A client with more than MOST_PROBES recent requests, about
# half as many a second, is not monitoring.
PROBES = rb"(GET|HEAD) %b/(healthz|readyz|metrics)[ ?]"  # below the base path
MOST_PROBES = 100

LONGEST_METHOD = 16
FORWARDED_FOR = re.compile(rb"\r\nx-forwarded-for:([^\r\n]*)", re.I)


class Worker(SyncWorker):
    def run(self):
        self._selector = selectors.DefaultSelector()
        # Incomplete, idle and draining connections in the order of their arrival, with their part of `_buffered`.
        self._pending: dict[Connection, int] = {}
        self._ready: collections.deque[Connection] = collections.deque()  # with a request to answer
        self._detector, self._shares = OverloadDetector(self.cfg.workers), ClientShares()
        self._buffered, self._refused, self._swept_at = 0, 0, 0.0  # bytes, requests since the last sweep, seconds
        self._turns_without_accept = 0
        settings = services(self.wsgi).settings
        self._metrics, self._trusted_proxies = services(self.wsgi).metrics, settings.trusted_proxies
        self._probes = re.compile(PROBES % re.escape(settings.base_path.encode()))
        self._render = functools.cache(functools.partial(render, self.wsgi, settings.https))
        self._selector.register(self.PIPE[0], selectors.EVENT_READ)
        self._listeners = [listener.sock for listener in self.sockets]
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, self._accept)
        while self.alive and self.is_parent_alive():
            self._turn()
        self._shut_down()

    def _turn(self) -> None:
        self.notify()
        for key, _ in self._selector.select(0 if self._ready else 1.0):
            if isinstance(key.data, Connection):
                if key.data in self._pending:  # not evicted in this turn
                    self._receive(key.data)
            elif not key.data:
                os.read(key.fd, 4096)  # gunicorn's pipe: a signal has come
            elif not self._ready or self._turns_without_accept >= MOST_TURNS_WITHOUT_ACCEPT or self._is_overloaded():
                self._turns_without_accept = 0
                key.data(key.fileobj)
            else:
                self._turns_without_accept += 1
        self._serve()
        now = time.monotonic()
        if now - self._swept_at > 1:
            self._swept_at = now
            self._sweep(now)

    def _shut_down(self) -> None:
        """Answer all requests that wait, and those that arrive completely within STOP_SECONDS."""
        end = time.monotonic() + STOP_SECONDS
        for listener in self._listeners:
            self._selector.unregister(listener)
            while time.monotonic() < end and self._accept(listener):
                self.notify()
                self._serve()
            # Once every worker has closed the listener, the kernel rejects new connections, and a proxy tries another
            # server. With an open listener they would wait, and be reset when this process ends.
            listener.close()
        self._listeners = []
        for connection in self._pending:
            if connection.idle:
                connection.deadline = time.monotonic() + LAST_USE_SECONDS
        while time.monotonic() < end and (self._ready or not all(connection.closing for connection in self._pending)):
            self._turn()

    # Requests: accepted, queued, answered or refused

    def _accept(self, listener: socket.socket) -> bool:
        """Accept connections up to one with a complete request; under overload several, to choose which to refuse.

        Return whether more may wait.
        """
        for _ in range(REFUSED_AT_ONCE + 1):
            try:
                client, address = listener.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._evict_one()
                elif error.errno != errno.ECONNABORTED:
                    raise
                return True
            client.setblocking(False)
            connection = Connection(client, peer(address))
            try:
                ready = connection.read()
            except OSError:
                client.close()
                continue
            if not ready:
                self._watch(connection)
                continue
            self._enqueue(connection)
            # How many wait on a Unix socket shows only by accepting them.
            if listener.family != socket.AF_UNIX and not self._is_overloaded():
                break
        return True

    def _enqueue(self, connection: Connection) -> None:
        # Each trusted proxy has added the address of its client, as `ProxyFix` in webapp.app understands it.
        if self._trusted_proxies:
            addresses = b",".join(FORWARDED_FOR.findall(connection.head)).split(b",")
            if len(addresses) >= self._trusted_proxies:
                connection.client = addresses[-self._trusted_proxies].strip() or connection.client
        is_probe = self._probes.match(connection.received) is not None
        if is_probe:
            connection.client = "probes", connection.client
        count = self._shares.count(connection.client)
        connection.is_probe = is_probe and count <= MOST_PROBES
        if connection.is_probe:
            self._ready.appendleft(connection)
        else:
            self._ready.append(connection)
        sizes = {one: len(one.received) for one in self._ready}
        if sum(sizes.values()) > MOST_BUFFERED_BYTES and len(sizes) > 1:
            self._refuse(first_to_evict(sizes))

    def _is_overloaded(self) -> bool:
        # The kernel's queue, the request at hand, and the queues of all workers, taken to be as long as this one's.
        waiting = sum(map(backlog, self._listeners)) + 1 + (len(self._ready) - 1) * self.cfg.workers
        return self.alive and self._detector.is_overloaded(waiting, time.monotonic())

    def _serve(self) -> None:
        """Answer the first request of the queue; under overload, refuse up to REFUSED_AT_ONCE before."""
        if self._ready and self._is_overloaded():
            self._shed_load()
        if self._ready:
            self._answer(self._ready.popleft())

    def _shed_load(self) -> None:
        """Refuse the requests that cannot be answered in time: the busiest client's first, of each the oldest first."""
        counts = {one: self._shares.of(one.client) for one in self._ready if not one.is_probe}
        highest, left = self._shares.highest(), len(counts)
        for connection in sorted(counts, key=counts.__getitem__, reverse=True)[:REFUSED_AT_ONCE]:
            patience = PATIENCE_WITH_OTHERS if 2 * counts[connection] < highest else 1
            if left <= patience * self._detector.capacity:
                break
            self._refuse(connection)
            left -= 1

    def _answer(self, connection: Connection) -> None:
        began = time.monotonic()
        client, request, is_kept = connection.socket, None, False
        client.settimeout(ANSWER_SECONDS)
        try:
            # Parse the bytes received and read no more: the rest of a request that is refused anyway is not awaited.
            request = next(http.get_parser(self.cfg, [bytes(connection.received)], connection.address))
            request._expected_100_continue = False  # the connection has sent it already
            is_kept = self._respond(request, connection)
        except parsing.NoMoreData as error:
            self._fail(connection, request, error)
        except OSError as error:
            log.info("a client has gone, or is too slow: %s", type(error).__name__)
        except BaseException as error:  # SystemExit too, by which the arbiter ends a worker that is stuck
            self._fail(connection, request, error)
        if is_kept:
            client.setblocking(False)
            self._watch(Connection(client, connection.address, idle=True))
        else:
            self._end(connection)
        self._detector.record_answer(time.monotonic() - began)

    def _respond(self, request: Any, connection: Connection) -> bool:
        """Send the application's answer; return whether the connection is kept for another request.

        Raises OSError if the client has gone or is too slow, and the application's errors before anything is sent.
        """
        client = connection.socket
        answer, environ = wsgi.create(
            request, client, connection.address, client.getsockname(), self.cfg, BufferedResponse
        )
        body = call_application(self.wsgi, environ, answer.start_response)
        # With a long queue here, the client's next request may be answered sooner by another worker.
        if not self.alive or not connection.is_complete or len(self._ready) >= FEWEST_WAITING:
            answer.force_close()
        try:
            if isinstance(body, environ["wsgi.file_wrapper"]):
                answer.write_file(body)
            else:
                for piece in iterate(body):
                    self.notify()  # so that the arbiter does not kill this worker during a long answer
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
        """Answer a malformed request, or an error outside the application.

        The log line has neither the request's content, which may be anything, nor its address.
        """
        number = secrets.token_hex(8)
        about = {"fields": {"request": number}}
        refusal = next((refusal for kind, refusal in MALFORMED.items() if isinstance(error, kind)), None)
        if refusal and request is None:
            log.info("a request was refused: %s", refusal.code, extra=about)
        else:
            log.error("unexpected error beneath the application", exc_info=error, extra=about)
            refusal = INTERNAL
        self._send_refusal(connection, refusal, number)

    def _refuse(self, connection: Connection) -> None:
        """Refuse a request of the queue."""
        self._ready.remove(connection)
        self._refused += 1
        self._send_refusal(connection, OVERLOADED)
        self._end(connection)

    def _send_refusal(self, connection: Connection, refusal: Refusal, number: str | None = None) -> None:
        """Send a refusal as far as the client's socket takes it without waiting; `number` is the request's id."""
        method = bytes(connection.received[:LONGEST_METHOD]).partition(b" ")[0].decode("latin-1")
        self._metrics.count_refusal(method, refusal.status, refusal.code)
        try:
            head, body = self._render(refusal, wants_page(connection.head))
        except OSError:  # such as too many open files to read a template
            head, body = self._render(refusal, False)
        head += f"Date: {util.http_date()}\r\nX-Request-ID: {number or secrets.token_hex(8)}\r\n\r\n"
        with contextlib.suppress(OSError):
            connection.socket.send(head.encode() + (b"" if connection.received[:5] == b"HEAD " else body))

    # Pending connections: watched until their request is complete, or until they are drained and closed

    def _watch(self, connection: Connection) -> None:
        self._pending[connection] = 0
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._count_bytes(connection)

    def _unwatch(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        self._buffered -= self._pending.pop(connection)

    def _receive(self, connection: Connection) -> None:
        """Read from a pending connection."""
        try:
            done = connection.drain() if connection.closing else connection.read()
        except OSError:
            self._close(connection)
            return
        if done and connection.closing:
            self._close(connection)
        elif done:
            self._unwatch(connection)
            self._enqueue(connection)
        else:
            self._count_bytes(connection)

    def _count_bytes(self, connection: Connection) -> None:
        """Update the count of bytes received, and evict connections over the limits."""
        self._buffered += len(connection.received) - self._pending[connection]
        self._pending[connection] = len(connection.received)
        while len(self._pending) > MOST_PENDING:
            self._evict_one()
        while self._buffered > MOST_BUFFERED_BYTES:
            self._evict(first_to_evict(self._pending))

    def _evict_one(self) -> None:
        """Evict the oldest connection, if possible an idle one, of the client that has most of them."""
        idle = [connection for connection in self._pending if connection.idle]
        if self._pending:
            self._evict(first_to_evict(dict.fromkeys(idle or self._pending, 1)))

    def _evict(self, connection: Connection) -> None:
        if connection.received:
            self._refused += 1
            self._send_refusal(connection, OVERLOADED)
        self._close(connection)

    def _sweep(self, now: float) -> None:
        """Close connections after their deadline, and log how many requests were refused; called once a second."""
        for connection in [connection for connection in self._pending if connection.deadline < now]:
            if connection.received:
                self._send_refusal(connection, TOO_SLOW)
            self._close(connection)
        self._shares.halve()
        if self._refused:
            log.warning("%s requests were refused: more come than can be answered", self._refused)
            self._refused = 0

    def _end(self, connection: Connection) -> None:
        """Close a connection after its answer, once nothing is left to drain."""
        if connection.shut_down():
            connection.socket.close()
        else:
            self._watch(connection)

    def _close(self, connection: Connection) -> None:
        self._unwatch(connection)
        connection.socket.close()
