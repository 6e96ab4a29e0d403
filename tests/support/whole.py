"""Starts web and worker together, again and again and quickly, so that all of it can be killed at once.

`python -m tests.support.whole` reads the numbers of rounds from its input, a line each, and for each starts a group of
processes: a leader, gunicorn with its workers, and the worker. All modules have been imported by then, so that a round
takes a second. It prints the leader's process number; whoever asked kills the group.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
from gunicorn.app.wsgiapp import WSGIApplication

from model.inference import classifier  # noqa: F401  what a round would have to import
from webapp.settings import ROOT, Settings
from webapp.worker import consumer

ROUND = "INKLING_ROUND"  # trainers have it in their environment, and are found by it
ADOPT_ORPHANS = 36  # prctl's PR_SET_CHILD_SUBREAPER


def main() -> None:
    os.chdir(ROOT)
    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    for line in sys.stdin:
        leader = _forked(partial(_lead, line.strip()))
        print(leader, flush=True)
        with suppress(ChildProcessError):
            while True:
                os.wait()


def _lead(name: str) -> None:
    os.setsid()
    os.environ[ROUND] = name
    _forked(_serve)
    _forked(lambda: consumer.main(Settings.read()))
    signal.pause()


def _serve() -> None:
    # One sender and one hour stand for many.
    os.environ.update(CORRECTIONS_PER_HOUR="999999999", CORRECTIONS_PER_DAY="999999999")
    sys.argv = ["gunicorn"]
    WSGIApplication("gunicorn").run()


def _forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        finally:
            os._exit(1)
    return child


if __name__ == "__main__":
    main()
