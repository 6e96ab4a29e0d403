"""The sign by which a child process shows its worker that its work goes on: a byte on its standard output."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from selectors import EVENT_READ, DefaultSelector

# Longer than reading MNIST and making a round of drawings take on a slow and busy machine.
SILENT_SECONDS = 300.0
BEAT_SECONDS = 1.0

_pipe: int | None = None
_beaten_at = 0.0


class WorkerGone(Exception):
    """The worker that asked for this has ended."""


def begin() -> None:
    """Keeps the standard output for beats; from now on prints go to the error output."""
    global _pipe
    sys.stdout.flush()
    _pipe = os.dup(1)  # which processes that this one starts do not inherit
    os.dup2(2, 1)
    os.set_blocking(_pipe, False)


def beat() -> None:
    """Shows that the work goes on. Called from the work itself: another thread would beat on while it hangs."""
    global _beaten_at
    if _pipe is not None and time.monotonic() - _beaten_at > BEAT_SECONDS:
        _beaten_at = time.monotonic()
        with contextlib.suppress(OSError):  # the worker has gone, or does not read: neither is a matter of the work
            os.write(_pipe, b".")


def beat_or_stop(worker_gone: threading.Event) -> None:
    """The same; raises WorkerGone where the worker has ended: nothing may be written any more."""
    beat()
    if worker_gone.is_set():
        raise WorkerGone


def awaited(child: subprocess.Popen) -> int | None:
    """The exit code of a child when it ends; None once it has shown no progress for SILENT_SECONDS."""
    assert child.stdout, "the child has no pipe to beat through"
    with DefaultSelector() as selector:
        selector.register(child.stdout, EVENT_READ)
        while selector.select(SILENT_SECONDS):
            if not os.read(child.stdout.fileno(), 4096):  # it is about to end
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(SILENT_SECONDS)
                return None
    return None
