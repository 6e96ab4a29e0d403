"""A client's connection, read and closed without ever waiting for the client."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from webapp.corrections.digit_files import MAX_FILE_BYTES

# Time for a request to arrive completely, and for a kept connection to be silent before the next one. A large body has
# as long as it takes at SLOWEST_BYTES a second: a photo of 10 MB over a slow line.
REQUEST_SECONDS = 30.0
SLOWEST_BYTES = 100_000
IDLE_SECONDS = 20.0
# A request with a larger body than the largest import is refused unread.
MOST_BODY_BYTES = MAX_FILE_BYTES + 4096
# Limits for draining the rest of a refused request: closed at once, the connection would be reset, and the client would
# lose the answer.
DRAINED_BYTES = 64 << 20
DRAIN_SECONDS = 3.0

CHUNK_BYTES = 64 << 10
CHUNKS_AT_ONCE = 32
LONGEST_HEAD = 64 << 10
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.I)
EXPECTS_CONTINUE = re.compile(rb"[^\r\n]* HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*expect:[ \t]*100-continue[ \t]*\r\n", re.I)


@dataclass(eq=False)
class Connection:
    """A non-blocking socket and the bytes received of one request."""

    socket: socket.socket
    address: Any
    idle: bool = False  # nothing received since the answer before
    client: Any = None  # key under which its requests are counted
    is_probe: bool = False
    deadline: float = 0.0  # of time.monotonic()
    received: bytearray = field(default_factory=bytearray)
    closing: bool = False
    _size: int | None = None  # bytes of the complete request, None until its head has arrived
    _with_body: bool = True
    _drained: int = 0

    def __post_init__(self):
        self.client = self.address[0] if isinstance(self.address, tuple) else self.address
        self.deadline = time.monotonic() + (IDLE_SECONDS if self.idle else REQUEST_SECONDS)

    @property
    def head(self) -> bytes:
        """The request's first line and headers, as far as received."""
        end = self.received.find(HEAD_END)
        return bytes(self.received[: end + len(HEAD_END) if end >= 0 else LONGEST_HEAD])

    def read(self) -> bool:
        """Receive available bytes; return whether the request can be answered. Raises OSError if the client is gone."""
        for _ in range(CHUNKS_AT_ONCE):
            try:
                chunk = self.socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                return False
            if not chunk:
                raise ConnectionError("the client has gone")
            if self.idle:
                self.idle, self.deadline = False, time.monotonic() + REQUEST_SECONDS
            self.received += chunk
            if self._can_be_answered():
                return True
        return False

    @property
    def is_complete(self) -> bool:
        """Whether exactly one whole request has been received."""
        return self._with_body and len(self.received) == self._size

    def shut_down(self) -> bool:
        """Shut down writing after the answer; return whether the socket can be closed, else `drain` it first."""
        if self.is_complete:
            return True
        self.closing, self.deadline = True, time.monotonic() + DRAIN_SECONDS
        self.received.clear()
        try:
            self.socket.setblocking(False)
            self.socket.shutdown(socket.SHUT_WR)
            return self.drain()
        except OSError:
            return True

    def drain(self) -> bool:
        """Receive and drop available bytes; return whether the socket can be closed. Raises OSError as `read` does."""
        for _ in range(CHUNKS_AT_ONCE):
            try:
                chunk = self.socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                return False
            self._drained += len(chunk)
            if not chunk or self._drained > DRAINED_BYTES:
                return True
        return False

    def _can_be_answered(self) -> bool:
        """Whether the request is complete, or will be refused as it is."""
        if self._size is None:
            end = self.received.find(HEAD_END)
            if end < 0:
                return len(self.received) > LONGEST_HEAD or not self.received[:1].isupper()
            self._size = self._request_size(bytes(self.received[: end + len(HEAD_END)]))
            self.deadline = max(self.deadline, time.monotonic() + self._size / SLOWEST_BYTES)
        return len(self.received) >= self._size

    def _request_size(self, head: bytes) -> int:
        """Return the request's size in bytes; only its head's where the body is refused unread.

        Reads Content-Length only to know when the body is complete; gunicorn's parser validates it. Answers a request
        that expects 100 (Continue).
        """
        lower = head.lower()
        lengths = LENGTH.findall(head)
        has_length = len(lengths) == lower.count(b"\r\ncontent-length") <= 1
        has_length = has_length and b"\r\ntransfer-encoding" not in lower
        body = int(lengths[0]) if has_length and lengths else 0
        self._with_body = has_length and body <= MOST_BODY_BYTES
        size = len(head) + (body if self._with_body else 0)
        if len(self.received) < size and EXPECTS_CONTINUE.match(head):
            self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return size
