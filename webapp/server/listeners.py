"""Listening sockets: their options, and how many connections wait to be accepted."""

from __future__ import annotations

import socket
import sys

DEFER_ACCEPT_SECONDS = 5
# Large enough for most answers, so that a slow reader does not hold up the worker.
SEND_BUFFER_BYTES = 512 << 10


def configure(listeners: list) -> None:
    """Set socket options, which accepted connections inherit, on gunicorn's `listeners`."""
    for listener in listeners:
        if hasattr(socket, "TCP_DEFER_ACCEPT"):  # Linux: the kernel keeps back connections that have sent nothing
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_ACCEPT_SECONDS)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def backlog(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted; 0 where the system does not say (Linux does, for TCP)."""
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except (AttributeError, OSError):
        return 0
    return int.from_bytes(info[24:28], sys.byteorder)  # tcpi_unacked: of a listening socket, the accept queue's length
