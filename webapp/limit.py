"""A limit on the requests that a web process has taken and not answered: what is above it is refused at once.

So nobody waits for long, and there is always a thread for those that watch the server.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response

from webapp import errors
from webapp.edge import NOTES, OVERLOADED
from webapp.exchange import MAX_FILE_BYTES

log = logging.getLogger(__name__)

# Requests of each process, and of those from one address, that wait or are being answered.
MOST = 128
MOST_OF_ONE = 96
# Of these, so many are answered at a time: more would only take the interpreter's lock from each other. While one has
# waited for so long, no more are taken of a client that has more than a few.
AT_ONCE = 2
WAIT_SECONDS = 0.5
FEW_OF_ONE = 8
# Some requests of each client to these are beside the limit: a watcher that waits would take the server for ill.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
MOST_PROBES = 4
# An administrator's import is the largest body; a larger one is refused unread. Of those that are not small, so many
# bytes are kept at a time.
LARGEST_BODY = MAX_FILE_BYTES + 4096
SMALL_BODY = 64 << 10
MOST_BYTES = 32 << 20
RETRY_AFTER_SECONDS = 1
TELL_SECONDS = 1.0

BUSY = 503, OVERLOADED, "The server is busy. Please try again in a moment."
TOO_SLOW = 408, "too_slow", "The request took too long to arrive."


class Limit:
    """A WSGI application behind the limit; `app` is the one whose errors have the form of the refusals."""

    def __init__(self, application: Callable, app: Flask):
        self._application, self._app = application, app
        self._lock, self._turns = threading.Lock(), threading.Semaphore(AT_ONCE)
        self._taken: Counter[Hashable] = Counter()
        self._waiting: deque[float] = deque()  # since when, the longest first
        self._refused, self._told_at = 0, 0.0

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        client, length = environ.get("REMOTE_ADDR"), _length(environ)
        with self._place(("probe", client), MOST_PROBES * (environ["PATH_INFO"] in PROBES)) as is_probe:
            if is_probe:
                return self._application(environ, start_response)
        with self._place("bytes", MOST_BYTES, length if length > SMALL_BODY else 0) as has_room:
            if not has_room:
                return self._refusal(environ, *BUSY)(environ, start_response)
            try:
                if length:  # before it has a place, which others would wait for
                    body = environ["wsgi.input"].read(length)
                    if len(body) < length:
                        raise ConnectionError("the client has gone")
                    environ["wsgi.input"] = io.BytesIO(body)
            except OSError:
                return self._refusal(environ, *TOO_SLOW)(environ, start_response)
            with self._place(("request", client), MOST_OF_ONE) as has, self._place("request", MOST * has) as is_free:
                answer = self._in_turn(environ, start_response) if is_free else None
        # No refusal has a place, which would be one less for others.
        return self._refusal(environ, *BUSY)(environ, start_response) if answer is None else answer

    def _in_turn(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes] | None:
        """The answer; None in a crowd that this client is the cause of."""
        now = time.monotonic()
        with self._lock:
            is_late = bool(self._waiting) and now - self._waiting[0] > WAIT_SECONDS
            is_crowd = is_late and self._taken["request", environ.get("REMOTE_ADDR")] > FEW_OF_ONE
            if not is_crowd:
                self._waiting.append(now)
        if is_crowd:
            return None
        self._turns.acquire()
        try:
            with self._lock:
                self._waiting.popleft()
            return self._application(environ, start_response)
        except OSError as error:  # which the server would take for one of the client's connection
            raise RuntimeError("the application failed to read or open something") from error
        finally:
            self._turns.release()

    @contextmanager
    def _place(self, key: Hashable, most: int, amount: int = 1) -> Iterator[bool]:
        """Takes this amount of what the key stands for until the block ends; whether there was so much left."""
        with self._lock:
            if fits := self._taken[key] + amount <= most:
                self._taken[key] += amount
        try:
            yield fits
        finally:
            with self._lock:
                self._taken[key] -= amount if fits else 0
                if not self._taken[key]:
                    del self._taken[key]

    def _refusal(self, environ: dict[str, Any], status: int, code: str, message: str) -> Response:
        with self._app.request_context(environ):
            response = errors.answer(status, code, message)
        environ[NOTES]["route"] = "none"
        if code == OVERLOADED:
            response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            self._tell()
        return response

    def _tell(self) -> None:
        """Logs refusals together, at most once a second."""
        with self._lock:
            self._refused += 1
            if time.monotonic() - self._told_at < TELL_SECONDS:
                return
            told, self._refused, self._told_at = self._refused, 0, time.monotonic()
        log.warning("%s requests were refused: more come than can be answered", told)


def _length(environ: dict[str, Any]) -> int:
    """Of a body that is read here; 0 where there is none, or it is refused unread."""
    told = environ.get("CONTENT_LENGTH", "")
    length = int(told) if told.isascii() and told.isdecimal() and len(told) < 10 else 0
    return length if length <= LARGEST_BODY and "HTTP_TRANSFER_ENCODING" not in environ else 0
