"""Which workers are alive: each writes the time into a row of its own, also while it has nothing to do."""

from __future__ import annotations

import math
import secrets
import threading
import time

from sqlalchemy import ColumnElement, delete, func, not_, select
from sqlalchemy.orm import Session

from webapp.storage.engine import Database
from webapp.storage.schema import Worker
from webapp.storage.timestamps import within

REPORT_SECONDS = 15.0
# Longer than a report may wait for a busy database. A killed worker counts as alive for so long.
ALIVE_SECONDS = 60.0


class Presence:
    """The row of the worker that this process is."""

    def __init__(self, database: Database):
        self._database = database
        self._id = secrets.token_hex(8)
        self._reported_at, self._stopped = -math.inf, False
        self._lock = threading.Lock()

    def report(self) -> None:
        """Write that this worker is alive, every REPORT_SECONDS; the first time, delete the rows of dead workers.

        Raises a database error.
        """
        with self._lock:
            if self._stopped or time.monotonic() - self._reported_at < REPORT_SECONDS:
                return
            with self._database.writing() as session:
                if self._reported_at == -math.inf:
                    session.execute(delete(Worker).where(not_(_is_alive())))
                session.merge(Worker(id=self._id, seen_at=time.time(), stopped=False))
            self._reported_at = time.monotonic()

    def stop(self) -> None:
        """Write that this worker has ended, after which it reports no more. Raises a database error."""
        with self._lock:
            self._stopped = True
            with self._database.writing() as session:
                session.merge(Worker(id=self._id, seen_at=time.time(), stopped=True))


def count_alive(session: Session) -> int:
    """Return how many workers are alive."""
    return session.scalars(select(func.count()).where(_is_alive())).one()


def last_seen(session: Session) -> float | None:
    """Return when a worker was alive last, in Unix seconds; None if none has ever been."""
    return session.scalar(select(func.max(Worker.seen_at)))


def _is_alive() -> ColumnElement[bool]:
    return within(Worker.seen_at, ALIVE_SECONDS, time.time()) & not_(Worker.stopped)
