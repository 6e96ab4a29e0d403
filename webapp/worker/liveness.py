"""Heartbeats of a child process, bytes on its standard output, by which its worker finds one that hangs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from selectors import EVENT_READ, DefaultSelector

# Longer than reading MNIST and one set of synthetic drawings take on a slow and busy machine.
SILENT_SECONDS = 300.0
HEARTBEAT_SECONDS = 1.0

_pipe: int | None = None
_sent_at = 0.0


class WorkerExited(Exception):
    """The worker that started this process has exited."""


def open_pipe() -> None:
    """Reserve the standard output for heartbeats; prints go to the standard error output from now on."""
    global _pipe
    sys.stdout.flush()
    _pipe = os.dup(1)  # not inherited by child processes
    os.dup2(2, 1)
    os.set_blocking(_pipe, False)


def heartbeat() -> None:
    """Send a heartbeat, at most one a second. The work itself calls it: another thread would not notice it hanging."""
    global _sent_at
    if _pipe is not None and time.monotonic() - _sent_at > HEARTBEAT_SECONDS:
        _sent_at = time.monotonic()
        with contextlib.suppress(OSError):  # the worker has exited, or does not read: the work need not fail
            os.write(_pipe, b".")


def heartbeat_or_stop(worker_exited: threading.Event) -> None:
    """Send a heartbeat; raise WorkerExited if the worker has exited, after which nothing may be written."""
    heartbeat()
    if worker_exited.is_set():
        raise WorkerExited


def wait_for(child: subprocess.Popen) -> int | None:
    """Wait for a child's end and return its exit code; None after SILENT_SECONDS without a heartbeat."""
    assert child.stdout, "the child has no pipe for heartbeats"
    with DefaultSelector() as selector:
        selector.register(child.stdout, EVENT_READ)
        while selector.select(SILENT_SECONDS):
            if not os.read(child.stdout.fileno(), 4096):  # it is about to end
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(SILENT_SECONDS)
                return None
    return None
