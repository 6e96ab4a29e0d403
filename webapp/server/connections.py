"""A client's connection, read and ended without ever waiting for the client."""

from __future__ import annotations

import re
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from webapp.corrections.digit_files import MAX_FILE_BYTES

# A request must be whole within this time; before the next one, its connection may be silent for so long. A larger
# body than this, an administrator's import, is refused unread.
REQUEST_SECONDS = 30.0
IDLE_SECONDS = 20.0
MOST_BODY_BYTES = MAX_FILE_BYTES + 4096
# What is left of a refused request is read and dropped this far and this long: its sender would otherwise get a broken
# connection in place of the answer.
DRAINED_BYTES = 64 << 20
DRAIN_SECONDS = 3.0

PIECE_BYTES = 64 << 10
PIECES_AT_ONCE = 32
LONGEST_HEAD = 64 << 10
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.I)
ASKS_FIRST = re.compile(rb"[^\r\n]* HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*expect:[ \t]*100-continue[ \t]*\r\n", re.I)


@dataclass(eq=False)
class Connection:
    """What has come in so far of one request of a connection; its socket does not block."""

    socket: socket.socket
    address: Any
    idle: bool = False  # nothing has come since the answer before
    client: Any = None  # whose requests it is counted among
    is_probe: bool = False
    deadline: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    leaving: bool = False
    _size: int | None = None  # of the request, once its head is there
    _with_body: bool = True
    _drained: int = 0

    def __post_init__(self):
        self.client = self.address[0] if isinstance(self.address, tuple) else self.address
        self.deadline = time.monotonic() + (IDLE_SECONDS if self.idle else REQUEST_SECONDS)

    @property
    def head(self) -> bytes:
        """The request's first line and headers, as far as they have come in."""
        end = self.received.find(HEAD_END)
        return bytes(self.received[: end + len(HEAD_END) if end >= 0 else LONGEST_HEAD])

    def read(self) -> bool:
        """Takes what has come in; returns whether it can be answered. Raises OSError where the client has gone."""
        for _ in range(PIECES_AT_ONCE):
            try:
                piece = self.socket.recv(PIECE_BYTES)
            except BlockingIOError:
                return False
            if not piece:
                raise ConnectionError("the client has gone")
            if self.idle:
                self.idle, self.deadline = False, time.monotonic() + REQUEST_SECONDS
            self.received += piece
            if self._can_be_answered():
                return True
        return False

    @property
    def is_whole(self) -> bool:
        """Whether all of a request has come in, and nothing after it."""
        return self._with_body and len(self.received) == self._size

    def leave(self) -> bool:
        """Ends our side after the answer; returns whether nothing has to be waited for before closing."""
        if self.is_whole:
            return True
        self.leaving, self.deadline = True, time.monotonic() + DRAIN_SECONDS
        self.received.clear()
        try:
            self.socket.setblocking(False)
            self.socket.shutdown(socket.SHUT_WR)
            return self.drain()
        except OSError:
            return True

    def drain(self) -> bool:
        """Drops what the client still sends after the answer; returns whether that was all. Raises OSError likewise."""
        for _ in range(PIECES_AT_ONCE):
            try:
                piece = self.socket.recv(PIECE_BYTES)
            except BlockingIOError:
                return False
            self._drained += len(piece)
            if not piece or self._drained > DRAINED_BYTES:
                return True
        return False

    def _can_be_answered(self) -> bool:
        """Whether the request is whole, or will be refused as it is."""
        if self._size is None:
            end = self.received.find(HEAD_END)
            if end < 0:
                return len(self.received) > LONGEST_HEAD or not self.received[:1].isupper()
            self._size = self._measured(bytes(self.received[: end + len(HEAD_END)]))
        return len(self.received) >= self._size

    def _measured(self, head: bytes) -> int:
        """How long the request will be. What it really says is for gunicorn's parser to find out, and to refuse."""
        lower = head.lower()
        lengths = LENGTH.findall(head)
        is_measured = len(lengths) == lower.count(b"\r\ncontent-length") <= 1
        is_measured = is_measured and b"\r\ntransfer-encoding" not in lower
        body = int(lengths[0]) if is_measured and lengths else 0
        self._with_body = is_measured and body <= MOST_BODY_BYTES
        size = len(head) + (body if self._with_body else 0)
        if len(self.received) < size and ASKS_FIRST.match(head):
            self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return size


def waiting(listener: socket.socket) -> int:
    """How many connections wait to be accepted; 0 where the system does not tell. Linux does, of TCP."""
    try:
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except (AttributeError, OSError):
        return 0
    return int.from_bytes(told[24:28], sys.byteorder)  # tcpi_unacked, which of a listener is this
