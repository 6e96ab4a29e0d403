"""gunicorn's sync worker, kept from waiting for connections on which nothing is said.

Browsers open connections ahead of need. A sync worker that accepts such a one waits for its first word until the
arbiter takes it for stuck and kills it; so the kernel is asked to hand over only connections that have spoken, and one
that it hands over all the same is given half a second.
"""

from __future__ import annotations

import select
import socket

from gunicorn.glogging import Logger
from gunicorn.workers.sync import SyncWorker

from webapp.logs import formatter

KERNEL_WAITS_SECONDS = 5
FIRST_WORD_SECONDS = 0.5


class Log(Logger):
    """gunicorn's own lines, in the form of ours."""

    def setup(self, cfg):
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter())


class Worker(SyncWorker):
    def handle(self, listener, client, addr):
        if select.select([client], [], [], FIRST_WORD_SECONDS)[0]:
            super().handle(listener, client, addr)
        else:
            client.close()


def prefer_spoken(listeners: list) -> None:
    """Has the kernel keep silent connections back, where it can (Linux)."""
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        for listener in listeners:
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, KERNEL_WAITS_SECONDS)
