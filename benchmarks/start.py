"""Measure how soon a web worker answers: `python -m benchmarks.start`.

The only worker of a server is killed. Its replacement is asked at once for the first page, measured from its fork as
the kernel records it, and then for its first prediction; another one only five seconds after its fork. A whole server
is measured from the start of its process. All figures are medians.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.figures import Figure, table
from benchmarks.server import START_SECONDS, Failed, Server, installation, serving

ROUNDS = 5
REST_SECONDS = 5.0


def figures(rounds: int = ROUNDS, rest_seconds: float = REST_SECONDS) -> list[Figure]:
    with installation() as folder:
        starts = [_start(folder) for _ in range(rounds)]
        with serving(folder, workers=1) as server:
            pages, readings = zip(*[_at_once(server) for _ in range(rounds)], strict=True)
            rested = [_rested(server, rest_seconds) for _ in range(rounds)]
    return [
        Figure("first page, from a worker's fork", "ms", _median(pages), 500),
        Figure("its first reading, right after that page", "ms", _median(readings), 2500),
        Figure(f"first reading of a worker {rest_seconds:g} s old", "ms", _median(rested), 50),
        Figure("first page, from the start of the whole server", "ms", _median(starts)),
    ]


def _median(seconds: Iterable[float]) -> float:
    return statistics.median(seconds) * 1e3


def _start(folder: Path) -> float:
    begun = time.perf_counter()
    with serving(folder, workers=1, ready="/"):
        return time.perf_counter() - begun


def _at_once(server: Server) -> tuple[float, float]:
    """Return the seconds from a worker's fork to its first page, and from there to its first prediction."""
    forked = _replace_worker(server)
    server.get("/")
    return _now() - forked, server.predict()


def _rested(server: Server, seconds: float) -> float:
    """Return the seconds of a worker's first prediction, made `seconds` after its fork."""
    forked = _replace_worker(server)
    time.sleep(max(0.0, forked + seconds - _now()))
    return server.predict()


def _replace_worker(server: Server) -> float:
    """Kill the only worker and return the time, as by `_now`, at which the next one was forked."""
    [old] = server.workers()
    os.kill(old, signal.SIGKILL)
    end = _now() + START_SECONDS
    while _now() < end:
        new = [pid for pid in server.workers() if pid != old]
        if new:
            ticks = Path(f"/proc/{new[0]}/stat").read_text().rpartition(")")[2].split()[19]
            return int(ticks) / os.sysconf("SC_CLK_TCK")
        time.sleep(0.001)
    raise Failed("no worker took the place of one that was killed")


def _now() -> float:
    """Return the seconds since boot, the clock of a process's start time in /proc."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    print(table(figures()))
