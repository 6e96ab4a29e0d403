"""Counters for Prometheus; docs/watching.md describes them.

Each web worker counts in files of its own, and the worker that answers /metrics sums them. Counters of other processes
are not exposed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Any other method is counted as "other": clients cannot add label values.
METHODS = {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
NO_ROUTE = "none"

# The library's own variable for the folder of the workers' files. The folder is in shared memory where the system has
# it: on a full disk, a write through mapped memory would kill the process.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SHARED_MEMORY = "/dev/shm"
PREFIX = "inkling-counters-"


def share_counters(name: str) -> None:
    """Make the processes that are forked from this one count together; call it before the first fork.

    `name` is unique among running servers: counters that a killed server of that name has left are removed.
    """
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else tempfile.gettempdir()
    folder = os.path.join(parent, f"{PREFIX}{os.geteuid()}-{name}")
    if os.path.isdir(folder) and not os.path.islink(folder):  # rmtree would wait for the writer of a named pipe
        shutil.rmtree(folder, ignore_errors=True)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:  # not ours, or not removable
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    os.environ[FOLDER] = folder
    values.ValueClass = values.MultiProcessValue()


def mark_dead(pid: int) -> None:
    """Drop the gauges of a worker that has ended; its counters stay."""
    multiprocess.mark_process_dead(pid)


def remove_counters() -> None:
    """Remove the folder that `share_counters` has made."""
    shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


class Metrics:
    """Counters of this process, and collectors of what is asked for at each scrape."""

    def __init__(self, *collectors: Collector):
        self._collectors = collectors
        own = self._own = CollectorRegistry()
        labels = ["route", "method", "status"]
        self._requests = Counter("inkling_requests", "Requests answered.", labels, registry=own)
        self._seconds = Histogram(
            "inkling_request_seconds", "Time to an answer.", ["route"], buckets=BUCKETS, registry=own
        )
        self._errors = Counter("inkling_errors", "Requests answered by an error, by code.", ["code"], registry=own)
        self._readings = Counter("inkling_readings", "Pictures read, by verdict.", ["verdict"], registry=own)
        self.not_loaded = Counter(
            "inkling_versions_not_loaded", "Promoted versions that a worker could not load.", registry=own
        )
        self.version = Gauge(
            "inkling_version", "The version that answers, by worker.", multiprocess_mode="liveall", registry=own
        )

    def count(self, method: str, status: str, seconds: float, annotations: Mapping[str, Any]) -> None:
        """Count an answered request with its annotations (`webapp.middleware.access_log`)."""
        route = annotations["route"]
        self._count_request(route, method, status)
        self._seconds.labels(route).observe(seconds)
        if verdict := annotations.get("verdict"):
            for name, number in ((verdict, 1),) if isinstance(verdict, str) else verdict.items():
                self._readings.labels(name).inc(number)
        if code := annotations.get("code"):
            self._errors.labels(code).inc()

    def count_refusal(self, method: str, status: int, code: str) -> None:
        """Count a request that the server has refused before the application had it: it has no route and no time."""
        self._count_request(NO_ROUTE, method, str(status))
        self._errors.labels(code).inc()

    def _count_request(self, route: str, method: str, status: str) -> None:
        self._requests.labels(route, method if method in METHODS else "other", status).inc()

    def exposition(self, accepted: str) -> tuple[bytes, str]:
        """Return the counters of all web workers and what the collectors find as text, and its content type.

        `accepted` is the scraper's Accept header.
        """
        try:
            encode, content_type = choose_encoder(accepted)
        except TypeError:  # a version in the header is not a number
            encode, content_type = choose_encoder("")
        registry = CollectorRegistry()
        if FOLDER in os.environ:
            multiprocess.MultiProcessCollector(registry)
        else:
            registry.register(self._own)
        for collector in self._collectors:
            registry.register(collector)
        return encode(registry), content_type
