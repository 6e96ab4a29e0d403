"""Counters for Prometheus; docs/serving.md describes them.

Each web worker counts in files of its own, and the worker that answers /metrics sums them. Figures in the database are
queried at each scrape. Counters of other processes are not exposed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, multiprocess, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from webapp.storage.engine import Database
from webapp.storage.schema import ACTIVE, ENDED, REVIEW_STATES, Correction, Run, champion_id

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
    """Counters of this process."""

    def __init__(self):
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

    def exposition(self, database: Database, accepted: str) -> tuple[bytes, str]:
        """Return the counters of all web workers and the database's figures as text, and its content type.

        `accepted` is the scraper's Accept header.
        """
        try:
            encode, content_type = choose_encoder(accepted)
        except TypeError:  # a version in the header is not a number
            encode, content_type = choose_encoder("")
        registry = self._own
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        registry.register(collector := DatabaseCollector(database))
        try:
            return encode(registry), content_type
        finally:
            registry.unregister(collector)


class DatabaseCollector(Collector):
    """Figures in the database; `inkling_database_up` alone if it does not answer."""

    def __init__(self, database: Database):
        self._database = database

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            with self._database.reading() as session:
                runs = dict(session.execute(select(Run.state, func.count()).group_by(Run.state)).all())
                by_state = select(Correction.state, func.count()).group_by(Correction.state)
                corrections = dict(session.execute(by_state).all())
                champion = champion_id(session)
        except SQLAlchemyError:
            yield GaugeMetricFamily("inkling_database_up", "Whether the database answers.", 0)
            return
        yield GaugeMetricFamily("inkling_database_up", "Whether the database answers.", 1)
        yield _by_state("inkling_runs", "Runs, by state.", dict.fromkeys(ACTIVE + ENDED, 0) | runs)
        yield _by_state("inkling_corrections", "Corrections, by state.", dict.fromkeys(REVIEW_STATES, 0) | corrections)
        yield GaugeMetricFamily("inkling_promoted_version", "The version promoted last.", champion or 0)


def _by_state(name: str, meaning: str, counts: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=["state"])
    for state, number in counts.items():
        family.add_metric([state], number)
    return family
