"""Requests for work in the background: a row in the database states the work, a message in the queue wakes a worker.

The row is the only state. A lost message costs the few seconds until a worker finds the row; a duplicate message finds
the row claimed. Computing artifacts and checking labels need no message: a worker polls for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from model.presets import Config
from webapp.corrections import import_queue
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.schema import Import, Run
from webapp.training import runs
from webapp.training.task_queue import open_queue

log = logging.getLogger(__name__)

# Huey names a message by the module of its task. These names are fixed: messages of other releases may be in the queue.
MESSAGES: dict[str, Any] = {"__module__": "webapp.jobs"}
# Tasks of earlier releases, messages of which may still be in the queue.
FORMER_TASKS = ("do_predictions", "do_strength", "do_suspicion")


def _nothing(*_: int) -> None:
    """Do nothing: the task's function in a process that only sends messages."""


class Jobs:
    """Starts, cancels and delivers work; a worker's executor passes the functions that do it."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        train: Callable[[int], None] = _nothing,
        import_digits: Callable[[], None] = _nothing,
    ):
        self._database = database
        self.huey = open_queue(settings, database)
        self._deliver_run = self.huey.task(name="do_run", **MESSAGES)(train)
        self._deliver_imports = self.huey.task(name="do_imports", **MESSAGES)(import_digits)
        for name in FORMER_TASKS:
            self.huey.task(name=name, **MESSAGES)(_nothing)

    def start(self, config: Config, by: str, corrections: bool = False) -> Run:
        """Queue a new run; raises RunActive if one is active."""
        self.expire_leases()
        run = runs.start(self._database, config, by, corrections)
        self.enqueue_run(run.id)
        log.info("run %s started by %s: %s", run.id, by, config)
        return run

    def cancel(self, run_id: int, by: str) -> None:
        """End a queued run at once, a running one when its trainer sees the request; an ended one does not change."""
        runs.cancel(self._database, run_id)
        log.info("run %s cancelled by %s", run_id, by)

    def import_file(self, name: str, data: bytes, digest: str, digits: int, by: str) -> Import:
        """Queue the import of a file with so many digits; return its row, or that of the same file's active import."""
        row = import_queue.enqueue(self._database, name, data, digest, digits, by)
        self._enqueue(self._deliver_imports)
        log.info("import %s queued by %s: %s digits", row.id, by, digits)
        return row

    def expire_leases(self) -> None:
        """Requeue runs whose lease has expired. Cheap, and safe from any process at any time."""
        for run_id in runs.expire_leases(self._database):
            self.enqueue_run(run_id)

    def enqueue_run(self, run_id: int) -> None:
        """Send the message of a queued run."""
        self._enqueue(self._deliver_run, run_id)

    def _enqueue(self, deliver: Callable[..., object], *numbers: int) -> None:
        """Send a message. A failure is only logged: a worker finds the row without the message."""
        try:
            deliver(*numbers)
        except Exception as error:  # SQLite, PostgreSQL and Redis raise different ones
            log.error("the queue does not take a message: %s", error)
