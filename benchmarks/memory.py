"""Measure the memory of a web worker: `python -m benchmarks.memory`.

A server's only worker answers 10,000 predictions, then 10,000 more. Its resident memory (RSS) counts all of its pages;
a second worker adds the growth of all processes' proportional memory (PSS), which counts a shared page once.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure, table
from benchmarks.server import Server, installation, serving
from benchmarks.serving import Way, load

READINGS = 10_000
SECONDS = 2


def figures(readings: int = READINGS) -> list[Figure]:
    with installation() as folder:
        with serving(folder, workers=1) as server:
            _read(server, readings)
            [worker] = server.workers()
            first, one_worker = megabytes(worker, "Rss"), _all_processes(server)
            _read(server, readings)
            grown = megabytes(worker, "Rss") - first
        with serving(folder, workers=2) as server:
            _read(server, readings)
            second = _all_processes(server) - one_worker
    return [
        Figure(f"memory of a web worker after {readings:,} readings", "MB", first, 300),
        Figure(f"its growth over {readings:,} more", "MB", grown, 3),
        Figure("what a second worker adds to all of them", "MB", second, first, "the first, resident"),
    ]


def megabytes(pid: int, kind: str) -> float:
    """Return the megabytes of a process: "Rss", resident, or "Pss", where a page of n processes counts 1/n."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024 / 1e6


def _all_processes(server: Server) -> float:
    return sum(megabytes(pid, "Pss") for pid in (server.process.pid, *server.workers()))


def _read(server: Server, readings: int) -> None:
    done = 0.0
    while done < readings:
        done += load(Way(f"{server.url}/predict"), SECONDS).per_second * SECONDS


if __name__ == "__main__":
    print(table(figures()))
