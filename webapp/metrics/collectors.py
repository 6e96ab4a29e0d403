"""Figures that are asked for at each scrape: of the database, of Redis, and of what is running here.

Each server is asked in a thread and waited for two seconds at most, so that one that is away, or hangs, leaves the
scrape whole.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from redis import RedisError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from webapp.release import COMMIT, RELEASE, SCHEMA
from webapp.storage.disk_reserve import free_bytes
from webapp.storage.engine import Database
from webapp.storage.health import Question
from webapp.storage.schema import ACTIVE, ENDED, REVIEW_STATES, Correction, Import, Run, champion_id
from webapp.storage.workers import count_alive


class Asked(Collector):
    """A collector without metrics of its own before it is asked."""

    def describe(self) -> list[Metric]:
        return []


class DatabaseCollector(Asked):
    """Figures in the database; `inkling_database_up` alone if it does not answer."""

    def __init__(self, database: Database):
        self._database = database
        self._question = Question(self._ask)

    def collect(self) -> Iterator[Metric]:
        try:
            found = self._question.answer()
        except (SQLAlchemyError, OSError):  # TimeoutError is an OSError
            found = None
        yield GaugeMetricFamily("inkling_database_up", "Whether the database answers.", found is not None)
        yield from found or ()

    def _ask(self) -> list[Metric]:
        suits = self._database.misfit() is None
        judged = GaugeMetricFamily("inkling_schema_suits", "Whether this release can work with the schema.", suits)
        try:
            return [judged, *self._figures()]
        except SQLAlchemyError:
            if suits:
                raise
            return [judged]

    def _figures(self) -> list[Metric]:
        with self._database.reading() as session:
            return [*_stored(session), *_waiting(session, time.time()), *_training(session), *self._space(session)]

    def _space(self, session: Session) -> Iterator[Metric]:
        if self._database.is_postgresql:
            size = session.scalar(select(func.pg_database_size(func.current_database())))
        else:
            size = sum(path.stat().st_size for path in self._database.files if path.exists())
        yield GaugeMetricFamily("inkling_database_size_bytes", "Size of the database.", size)
        if (free := free_bytes(self._database)) is not None:
            yield GaugeMetricFamily("inkling_database_free_bytes", "Space left on the disk of SQLite's file.", free)


def _stored(session: Session) -> Iterator[Metric]:
    runs = dict(session.execute(select(Run.state, func.count()).group_by(Run.state)).all())
    yield _family("inkling_runs", "Runs, by state.", "state", dict.fromkeys(ACTIVE + ENDED, 0) | runs)
    by_state = select(Correction.state, func.count()).group_by(Correction.state)
    corrections = dict(session.execute(by_state).all())
    every = dict.fromkeys(REVIEW_STATES, 0) | corrections
    yield _family("inkling_corrections", "Corrections, by state.", "state", every)
    yield GaugeMetricFamily("inkling_promoted_version", "The version promoted last.", champion_id(session) or 0)
    yield GaugeMetricFamily("inkling_workers", "Workers that are alive, at work or idle.", count_alive(session))


def _waiting(session: Session, now: float) -> list[Metric]:
    lengths: dict[str, float] = {}
    ages: dict[str, float] = {}
    tables: dict[str, type[Run] | type[Import]] = {"run": Run, "import": Import}
    for work, table in tables.items():
        queued = select(func.count(), func.min(table.created_at)).where(table.state == "queued")
        lengths[work], oldest = session.execute(queued).one()
        ages[work] = max(0.0, now - oldest) if oldest is not None else 0.0  # negative by a clock set back
    return [
        _family("inkling_queue_length", "Work that waits for a worker.", "work", lengths),
        _family("inkling_queue_oldest_seconds", "Age of the oldest work that waits, 0 if none.", "work", ages),
    ]


def _training(session: Session) -> list[Metric]:
    """Return the figures of the running run; all are 0 without one."""
    run = session.scalar(select(Run).where(Run.state == "running"))
    progress = run.progress if run else {}
    number, epochs = (run.id, run.epochs) if run else (0, 0)
    epoch, share = progress.get("epoch") or 0, progress.get("fraction") or 0
    return [
        GaugeMetricFamily("inkling_training_run", "Number of the run that is trained.", number),
        GaugeMetricFamily("inkling_training_epochs", "Epochs that it will take.", epochs),
        GaugeMetricFamily("inkling_training_epoch", "Epoch that is under way.", epoch),
        GaugeMetricFamily("inkling_training_progress_ratio", "Share of it that is done.", share),
    ]


class RedisCollector(Asked):
    """Whether Redis answers and how quickly; `ping` raises RedisError if it does not."""

    def __init__(self, ping: Callable[[], Any]):
        self._ping = ping
        self._question = Question(self._ask)

    def collect(self) -> Iterator[Metric]:
        try:
            seconds = self._question.answer()
        except (RedisError, OSError):
            seconds = None
        yield GaugeMetricFamily("inkling_redis_up", "Whether Redis answers.", seconds is not None)
        if seconds is not None:
            yield GaugeMetricFamily("inkling_redis_ping_seconds", "Time to an answer of Redis.", seconds)

    def _ask(self) -> float:
        began = time.perf_counter()
        self._ping()
        return time.perf_counter() - began


class BuildCollector(Asked):
    """What is running here."""

    def collect(self) -> Iterator[Metric]:
        build = {"release": RELEASE, "commit": COMMIT[:12], "python": platform.python_version(), "schema": SCHEMA}
        yield InfoMetricFamily("inkling_build", "What is running here.", build)


def _family(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
