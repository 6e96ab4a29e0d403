"""What is counted, for Prometheus; docs/serving.md says what the names mean.

Each web worker counts in files of its own, and whichever is asked adds them up. What the database knows is not counted
but looked up when somebody asks. Other processes count for themselves alone, and nobody asks them.
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
# Whatever a client calls its method, there is no name of its making in what we count.
METHODS = {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}

# Where the workers have their files, by the library's own variable. In memory, where the system has a folder for that:
# a full disk would end a process that writes to a file through mapped memory.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = "/dev/shm"
PREFIX = "inkling-counters-"


def share(name: str) -> None:
    """Has the processes that will be forked off this one count together; to be called before the first.

    `name` is this server's alone while it lives: what one of that name has left, since it was killed, is removed.
    """
    parent = MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir()
    folder = os.path.join(parent, f"{PREFIX}{os.geteuid()}-{name}")
    if os.path.isdir(folder) and not os.path.islink(folder):  # rmtree would wait for the writer of a named pipe
        shutil.rmtree(folder, ignore_errors=True)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:  # somebody else has put something there
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    os.environ[FOLDER] = folder
    values.ValueClass = values.MultiProcessValue()


def forget(pid: int) -> None:
    """Takes a worker that has ended from what is told of each one alive; what it has counted stays."""
    multiprocess.mark_process_dead(pid)


def unshare() -> None:
    shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


class Metrics:
    """What this process counts."""

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

    def count(self, method: str, status: str, seconds: float, notes: Mapping[str, Any]) -> None:
        """Counts one answered request; `notes` are those of `webapp.middleware.access_log`."""
        route = notes["route"]
        self._requests.labels(route, method if method in METHODS else "other", status).inc()
        self._seconds.labels(route).observe(seconds)
        if verdict := notes.get("verdict"):
            for name, number in ((verdict, 1),) if isinstance(verdict, str) else verdict.items():
                self._readings.labels(name).inc(number)
        if code := notes.get("code"):
            self.refuse(code)

    def refuse(self, code: str) -> None:
        """Counts an error, of a request or of one that was turned away before it was read."""
        self._errors.labels(code).inc()

    def exposition(self, database: Database, accepted: str) -> tuple[bytes, str]:
        """All that the web workers have counted and the database knows, as text and its content type.

        `accepted` is what the scraper sent as Accept.
        """
        try:
            encode, content_type = choose_encoder(accepted)
        except TypeError:  # by a version that is no number
            encode, content_type = choose_encoder("")
        registry = self._own
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        registry.register(known := Known(database))
        try:
            return encode(registry), content_type
        finally:
            registry.unregister(known)


class Known(Collector):
    """What the database knows; where it does not answer, that is all there is to tell."""

    def __init__(self, database: Database):
        self._database = database

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            with self._database.reading() as session:
                runs = dict(session.execute(select(Run.state, func.count()).group_by(Run.state)).all())
                sent = select(Correction.state, func.count()).group_by(Correction.state)
                corrections = dict(session.execute(sent).all())
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
