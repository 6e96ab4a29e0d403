"""Runs, predictions and strength reports: rows in the database that say what is to be done, and a queue that tells a
worker.

The row is the truth. Huey only rings the bell: a message that is lost is delivered again, one that comes twice finds
the row already claimed. A worker's child process holds a run by its attempt number and a lease that it keeps renewing;
whoever lost either can write no more.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

from huey import SqliteHuey
from huey.serializer import SignedSerializer
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from model.presets import Config
from webapp.database import ACTIVE, Correction, Database, Predictions, Promotion, Run, Strength, Version, champion_id
from webapp.settings import ROOT, Settings

log = logging.getLogger(__name__)

LEASE_SECONDS = 20.0
RENEW_SECONDS = 1.0
# A computation tells its progress every second or so; a row that has not moved for longer has lost its worker.
STALE_SECONDS = 30.0
REDELIVER_SECONDS = 5.0
STOP_SECONDS = 10.0
# Training threads that wait for each other must sleep, not spin: while the web workers want the cores too, spinning
# made a training up to seven times slower.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}

LOST = "The worker stopped during the run."

Computed = TypeVar("Computed", Predictions, Strength)
"""What is computed about a version: a row with the fraction done, and the result where that is 1."""


class RunActive(Exception):
    """A run is queued or running already, and there is one at a time."""

    def __init__(self, run_id: int):
        super().__init__(f"Run {run_id} is under way; there is one at a time.")
        self.run_id = run_id
        self.details = {"run": run_id}


class LeaseLost(Exception):
    """This process no longer holds the run: it was given up for lost or ended by somebody else."""


class Jobs:
    """What the web asks for, and what a worker does about it."""

    def __init__(self, database: Database, settings: Settings):
        self._database = database
        self._children: set[subprocess.Popen] = set()
        self._computing: set[tuple[str, int]] = set()
        self._choosing = threading.Lock()
        self.stopping = threading.Event()
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.huey = SqliteHuey(
            "inkling",
            filename=str(settings.data_dir / "queue.db"),
            journal_mode="delete",
            fsync=True,
            results=False,
            serializer=SignedSerializer(secret=settings.secret_key),
        )
        self._deliver_run = self.huey.task()(self.do_run)
        self._deliver_predictions = self.huey.task()(self.do_predictions)
        self._deliver_strength = self.huey.task()(self.do_strength)
        self._deliver_suspicion = self.huey.task()(self.do_suspicion)

    # What the web asks for

    def start(self, config: Config, by: str) -> Run:
        """A new run, queued; raises RunActive where there is an active one."""
        self.reap()
        run = Run(state="queued", requested_by=by, **asdict(config))
        try:
            with self._database.writing() as session:
                session.add(run)
        except IntegrityError:
            with self._database.reading() as session:
                active = session.scalar(select(Run.id).where(Run.state.in_(ACTIVE)))
            if active is None:  # it ended in between
                return self.start(config, by)
            raise RunActive(active) from None
        self._ring(self._deliver_run, run.id)
        log.info("run %s started by %s: %s", run.id, by, config)
        return run

    def cancel(self, run_id: int, by: str) -> None:
        """Ends a queued run at once, a running one as soon as its trainer sees the wish; an ended one stays."""
        with self._database.writing() as session:
            session.execute(
                update(Run).where(Run.id == run_id, Run.state == "running").values(cancel_requested=True)
            )
            session.execute(
                update(Run)
                .where(Run.id == run_id, Run.state == "queued")
                .values(state="cancelled", ended_at=time.time(), cancel_requested=True)
            )
        log.info("run %s cancelled by %s", run_id, by)

    def predict_test_set(self, version_id: int) -> Predictions:
        """The row of a version's predictions; where they are missing, or stuck, a worker is asked to compute them."""
        return self._asked(Predictions, version_id, self._deliver_predictions)

    def measure_strength(self, version_id: int) -> Strength:
        """The row of a version's strength report, asked for likewise."""
        return self._asked(Strength, version_id, self._deliver_strength)

    def score_corrections(self) -> None:
        """Has a worker judge how suspicious the corrections are that wait for review and were not judged yet."""
        self._ring(self._deliver_suspicion)

    def _asked(self, table: type[Computed], version_id: int, deliver: Callable[[int], object]) -> Computed:
        with self._database.reading() as session:
            row = session.get(table, version_id)
            if row is not None and row.fraction == 1:
                return row
        now = time.time()
        with self._database.writing() as session:
            row = session.get(table, version_id)
            asked = row is not None and (row.fraction == 1 or now - row.updated_at < STALE_SECONDS)
            if row is None:
                row = table(version_id=version_id)
                session.add(row)
            if not asked:
                row.updated_at, row.error = now, None
        if not asked:
            self._ring(deliver, version_id)
        return row

    def reap(self) -> None:
        """Marks runs whose lease has run out as failed. Cheap, and safe from any process at any time."""
        now = time.time()
        lost = Run.state == "running", Run.lease_until < now
        with self._database.reading() as session:
            if session.scalar(select(Run.id).where(*lost)) is None:
                return
        with self._database.writing() as session:
            session.execute(update(Run).where(*lost).values(state="failed", error=LOST, ended_at=now))
        log.warning("a run was given up: its lease ran out")

    def _ring(self, deliver: Callable[..., object], *numbers: int) -> None:
        """Sends a message. One that cannot be sent is as good as lost, and delivered again later like any other."""
        try:
            deliver(*numbers)
        except sqlite3.Error as error:
            log.error("the queue does not take a message: %s", error)

    # What a worker does

    def redeliver(self) -> None:
        """Sends the message of a waiting run, or of a version not measured yet, again: it may be lost with a worker."""
        now = time.time()
        unmeasured = Strength.fraction < 1, Strength.error.is_(None), Strength.updated_at < now - STALE_SECONDS
        with self._database.reading() as session:
            waiting = session.scalar(
                select(Run.id).where(Run.state == "queued", Run.created_at < now - REDELIVER_SECONDS)
            )
            version = session.scalar(select(Strength.version_id).where(*unmeasured))
        if self.huey.pending_count() == 0:
            if waiting is not None:
                self._ring(self._deliver_run, waiting)
            elif version is not None:
                self._ring(self._deliver_strength, version)

    def do_run(self, run_id: int) -> None:
        """Claims the run and trains it in a child process, which stays the only one to write to it."""
        attempt = self._claim(run_id)
        if attempt is None:
            log.info("run %s is not waiting any more", run_id)
            return
        code = self._child("run", str(run_id), str(attempt))
        if code and not self.stopping.is_set():
            reason = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            try:
                Hold(self._database, run_id, attempt).end("failed", error=f"The training process {reason}.")
            except LeaseLost:
                log.info("run %s had ended before its process %s", run_id, reason)

    def do_predictions(self, version_id: int) -> None:
        """Computes a version's predictions in a child process, unless an earlier message has had that done or does."""
        self._compute(Predictions, version_id)

    def do_strength(self, version_id: int) -> None:
        """Measures a version's strength likewise."""
        self._compute(Strength, version_id)

    def do_suspicion(self) -> None:
        """Judges the corrections that were not judged yet, likewise."""
        unjudged = select(Correction.id).where(Correction.state == "received", Correction.suspicion.is_(None))
        with self._once("suspicion") as mine:
            if not mine:
                return
            with self._database.reading() as session:
                waiting = session.scalar(unjudged.limit(1))
            if waiting is not None and self._child("suspicion", "0"):
                log.error("could not judge the corrections")

    def _compute(self, table: type[Computed], version_id: int) -> None:
        with self._once(table.__tablename__, version_id) as mine:
            if not mine:
                return
            with self._database.reading() as session:
                row = session.get(table, version_id)
            if row is not None and row.fraction < 1 and self._child(table.__tablename__, str(version_id)):
                log.error("could not compute the %s of v%s", table.__tablename__, version_id)

    @contextmanager
    def _once(self, *what) -> Iterator[bool]:
        """Whether this is the only one at it: a page that waits while no worker runs leaves one message after another."""
        with self._choosing:
            mine = what not in self._computing
            self._computing.add(what)
        try:
            yield mine
        finally:
            if mine:
                self._computing.discard(what)

    def stop_children(self) -> None:
        """Ends the child processes: closing a child's input is the sign for it to put its run in order and go."""
        self.stopping.set()
        for child in list(self._children):
            child.stdin.close()
        for child in list(self._children):
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _claim(self, run_id: int) -> int | None:
        now = time.time()
        with self._database.writing() as session:
            return session.scalar(
                update(Run)
                .where(Run.id == run_id, Run.state == "queued")
                .values(state="running", attempt=Run.attempt + 1, started_at=now, lease_until=now + LEASE_SECONDS)
                .returning(Run.attempt)
            )

    def _child(self, *arguments: str) -> int:
        # Its own session: a Ctrl-C in the terminal reaches the worker, which then ends the child in order. And the
        # pipe closes when the worker dies, however it dies.
        child = subprocess.Popen(
            [sys.executable, "-m", "webapp.trainer", *arguments],
            cwd=ROOT,
            env=os.environ | CHILD_ENVIRONMENT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.add(child)
        try:
            return child.wait()
        finally:
            self._children.discard(child)
            child.stdin.close()


@dataclass(frozen=True)
class Hold:
    """A trainer's hold on its run. Every write is refused with LeaseLost once the attempt is not the running one."""

    database: Database
    run_id: int
    attempt: int

    def renew(self, **values) -> bool:
        """Writes `values`, extends the lease, and returns whether somebody wishes the run cancelled."""
        with self.database.writing() as session:
            return self._write(session, lease_until=time.time() + LEASE_SECONDS, **values)

    def end(self, state: str, **values) -> None:
        """Ends the run as "failed" or "cancelled"."""
        with self.database.writing() as session:
            self._write(session, state=state, ended_at=time.time(), **values)

    def finish(self, version: Version, probabilities: bytes, **values) -> bool:
        """Ends the run with a version, promotes it where it is at least as good, and returns whether it did.

        The holder goes on to measure the version's strength. All in one transaction: there is never a finished run
        without its version.
        """
        with self.database.writing() as session:
            session.add(version)
            session.flush()
            self._write(session, state="finished", ended_at=time.time(), version_id=version.id, **values)
            session.add(Predictions(version_id=version.id, fraction=1.0, probabilities=probabilities))
            session.add(Strength(version_id=version.id))
            return promote_if_better(session, version, by=f"run {self.run_id}")

    def _write(self, session: Session, **values) -> bool:
        cancel_requested = session.scalar(
            update(Run)
            .where(Run.id == self.run_id, Run.attempt == self.attempt, Run.state == "running")
            .values(**values)
            .returning(Run.cancel_requested)
        )
        if cancel_requested is None:
            raise LeaseLost(f"run {self.run_id} is no longer held by attempt {self.attempt}")
        return cancel_requested


def promote_if_better(session: Session, version: Version, by: str) -> bool:
    """Puts a version into service if it reads the validation digits at least as well as the champion."""
    champion = session.get(Version, champion_id(session) or 0)
    if champion is not None and version.validation_accuracy < champion.validation_accuracy:
        return False
    why = f"validation accuracy {version.validation_accuracy:.2%}"
    why += f", {champion.name} has {champion.validation_accuracy:.2%}" if champion else ", the first version"
    session.add(Promotion(version_id=version.id, by=by, why=why))
    return True
