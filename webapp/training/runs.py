"""Runs as rows: their states, leases, attempts, checkpoints and results.

The row is the only state. A trainer owns a run by its attempt number, which fences off earlier attempts, and by a lease
that it renews; without either it cannot write. A run whose lease has expired is queued for the next attempt, which
resumes from the last checkpoint; after MAX_ATTEMPTS failed attempts the run ends as lost.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from model.presets import PRESETS, Config
from webapp.corrections.deletion import keep_pictures
from webapp.exceptions import AppError
from webapp.logs import request_id
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import (
    ACTIVE,
    ENDED,
    Artifact,
    Checkpoint,
    Comparison,
    Correction,
    Promotion,
    Run,
    RunCorrection,
    Version,
    champion_id,
    coded,
)
from webapp.storage.timestamps import within
from webapp.versions.promotions import BY_RUN, record_promotion

log = logging.getLogger(__name__)

LEASE_SECONDS = 20.0
MAX_ATTEMPTS = 3
MAX_PROCESSES = 8  # of one run
IDS_AT_ONCE = 500  # of one deletion


class RunActive(AppError):
    """A run is queued or running already; runs go one at a time."""

    status, code = 409, "run_active"


class LeaseLost(Exception):
    """The lease is no longer valid: it has expired, or the run was ended by another process."""


class ChampionChanged(Exception):
    """The champion is no longer the version that this one was compared with."""


def start(database: Database, config: Config, by: str, corrections: bool) -> Run:
    """Queue a new run; raises RunActive if there is an active one."""
    try:
        return _add_run(database, config, by, corrections)
    except IntegrityError:  # a concurrent start was first
        return _add_run(database, config, by, corrections)


def _add_run(database: Database, config: Config, by: str, corrections: bool) -> Run:
    run = Run(state="queued", requested_by=by, request_id=request_id.get(), corrections=corrections, **asdict(config))
    with database.writing() as session:
        active = session.scalar(select(Run.id).where(Run.state.in_(ACTIVE)))
        if active is not None:
            raise RunActive(f"Training {active} is still going; there is one at a time.", run=active)
        session.add(run)
    return run


def request_of(database: Database, run_id: int) -> str | None:
    """Return the id of the request that started a run; None if no request has, or one of an earlier release."""
    with database.reading() as session:
        return session.scalar(select(Run.request_id).where(Run.id == run_id))


def config_of(run: Run) -> Config:
    """Return the configuration of a run; raises ConfigError for one of another release."""
    own = run.batch_size, run.learning_rate, run.schedule
    return Config(run.preset, run.epochs, run.seed, run.processes, *own)


def cancel(database: Database, run_id: int) -> None:
    """End a queued run at once, a running one when its trainer sees the request; an ended one does not change."""

    def do(session: Session) -> None:
        session.execute(select(Run.id).where(Run.id == run_id).with_for_update())  # or it may begin in between
        running = Run.id == run_id, Run.state == "running"
        session.execute(update(Run).where(*running).values(cancel_requested=True))
        _end(session, (Run.id == run_id, Run.state == "queued"), "cancelled", cancel_requested=True)

    write_using_reserve(database, do)


def claim(database: Database, run_id: int) -> int | None:
    """Begin an attempt at a queued run; return the number of the attempt, None if the run is not queued.

    The first attempt chooses the run's parent and its corrections.
    """
    now = time.time()
    with database.writing() as session:
        lock_table(session, Promotion)  # or the champion, its parent, may be replaced and removed in between
        run = session.scalar(
            update(Run)
            .where(Run.id == run_id, Run.state == "queued")
            .values(
                state="running",
                attempt=Run.attempt + 1,
                started_at=func.coalesce(Run.started_at, now),
                lease_until=now + LEASE_SECONDS,
            )
            .returning(Run)
        )
        if run is None:
            return None
        if run.attempt == 1:
            _choose_inputs(session, run)
        return run.attempt


def has_valid_lease() -> ColumnElement[bool]:
    """Return the condition of running runs whose lease has not expired."""
    return within(Run.lease_until - LEASE_SECONDS, LEASE_SECONDS, time.time())


def expire_leases(database: Database) -> list[int]:
    """Fail the attempts whose lease has expired; return the ids of the runs that are queued again.

    Cheap, and safe from any process at any time.
    """
    expired = Run.state == "running", ~has_valid_lease()
    with database.reading() as session:
        if session.scalar(select(Run.id).where(*expired)) is None:
            return []
    queued = write_using_reserve(database, lambda session: _fail_attempts(session, expired, {"code": "silent"}))
    log.warning("a run was taken from its trainer: the lease ran out")
    return queued


def fail_attempt(database: Database, run_id: int, attempt: int, reason: dict[str, Any]) -> list[int]:
    """Fail one attempt whose process has died; return the run's id if it is queued again.

    `reason` is a code with its numbers.
    """
    this_attempt = Run.id == run_id, Run.attempt == attempt, Run.state == "running"
    return write_using_reserve(database, lambda session: _fail_attempts(session, this_attempt, reason))


def sweep(database: Database) -> None:
    """Delete the checkpoints of ended runs. Apart from ending a run, which must be small enough for a full disk."""
    ended = select(Run.id).where(Run.state.in_(ENDED))
    database.delete_where(Checkpoint, Checkpoint.run_id.in_(ended))


def count_approved(session: Session) -> tuple[int, int]:
    """Return how many corrections the next run can learn from, and by how many it will be compared."""
    return _counted(session, select(Correction.held_out, func.count()).where(*Correction.firsts("approved")))


def count_used(session: Session, run_id: int) -> tuple[int, int]:
    """Return how many existing corrections a run learns from, and by how many it is compared."""
    mine = RunCorrection.run_id == run_id
    return _counted(session, select(Correction.held_out, func.count()).join(RunCorrection).where(mine))


def _counted(session: Session, found: Select) -> tuple[int, int]:
    counts = dict(session.execute(found.group_by(Correction.held_out)).all())
    return counts.get(False, 0), counts.get(True, 0)


def _choose_inputs(session: Session, run: Run) -> None:
    lock_table(session, Correction)  # or one may be deleted in between
    preset = PRESETS.get(run.preset)  # None for a preset of another release, which the trainer reports
    if preset and preset.fine_tunes:
        run.parent_id = champion_id(session)
    approved = select(literal(run.id), Correction.id).where(*Correction.firsts("approved"))
    if not run.corrections:  # it is still compared by those that are held out
        approved = approved.where(Correction.held_out)
    session.execute(insert(RunCorrection).from_select(["run_id", "correction_id"], approved))


def _fail_attempts(session: Session, which: tuple[Any, ...], reason: dict[str, Any]) -> list[int]:
    error = coded("lost", times=MAX_ATTEMPTS, last=reason)
    _end(session, (*which, Run.cancel_requested), "cancelled")
    was_last = (*which, Run.failed_attempts >= MAX_ATTEMPTS - 1)
    _end(session, was_last, "lost", failed_attempts=Run.failed_attempts + 1, error=error)
    again = update(Run).where(*which).values(state="queued", failed_attempts=Run.failed_attempts + 1, lease_until=None)
    return list(session.scalars(again.returning(Run.id)))


def _end(session: Session, which: tuple[Any, ...], state: str, **values) -> None:
    session.execute(update(Run).where(*which).values(state=state, ended_at=time.time(), **values))


@dataclass(frozen=True)
class Lease:
    """A trainer's lease of its run. Every write raises LeaseLost once the attempt is not the running one."""

    database: Database
    run_id: int
    attempt: int

    def renew(self, **values) -> bool:
        """Write `values` and extend the lease; return whether cancellation was requested."""
        with self.database.writing() as session:
            return self._write(session, lease_until=time.time() + LEASE_SECONDS, **values)

    def save_checkpoint(self, checkpoint: bytes) -> None:
        """Store a checkpoint of the training in place of the one before, and extend the lease."""
        with self.database.writing() as session:
            self._write(session, lease_until=time.time() + LEASE_SECONDS)
            # Not by merge(), which would read the one before.
            session.execute(delete(Checkpoint).where(Checkpoint.run_id == self.run_id))
            session.execute(insert(Checkpoint).values(run_id=self.run_id, at=time.time(), data=checkpoint))

    def load_checkpoint(self) -> bytes | None:
        """Return the last checkpoint of earlier attempts; None without any."""
        with self.database.reading() as session:
            return session.scalar(select(Checkpoint.data).where(Checkpoint.run_id == self.run_id))

    def drop_refused(self) -> None:
        """Remove the corrections from the run that were refused since it chose them."""
        approved = select(Correction.id).where(Correction.state == "approved")
        mine = RunCorrection.run_id == self.run_id
        with self.database.writing() as session:
            self._write(session, lease_until=time.time() + LEASE_SECONDS)
            lock_table(session, Correction)  # their deletion takes the same rows, in another order
            session.execute(delete(RunCorrection).where(mine, RunCorrection.correction_id.not_in(approved)))

    def drop(self, correction_ids: list[int]) -> None:
        """Remove these corrections from the run."""
        mine = RunCorrection.run_id == self.run_id
        for start in range(0, len(correction_ids), IDS_AT_ONCE):
            these = RunCorrection.correction_id.in_(correction_ids[start : start + IDS_AT_ONCE])
            with self.database.writing() as session:
                self._write(session, lease_until=time.time() + LEASE_SECONDS)
                lock_table(session, Correction)  # as above
                session.execute(delete(RunCorrection).where(mine, these))

    def release(self, **values) -> None:
        """Return the run to the queue for another trainer, without counting a failed attempt."""
        with self.database.writing() as session:
            self._write(session, state="queued", lease_until=None, **values)

    def end(self, state: str, **values) -> None:
        """End the run as "failed" or "cancelled"."""
        values |= {"state": state, "ended_at": time.time()}
        write_using_reserve(self.database, lambda session: self._write(session, **values))

    def finish(self, version: Version, predictions: bytes, comparison: Comparison | None, **values) -> bool:
        """End the run with a version and promote it if it is no worse and has gained; return whether it was promoted.

        `comparison` is None if no version is in service yet. Raises ChampionChanged, with nothing written, if it is
        with another version than the present champion. All in one transaction: there is never a finished run without
        its version, nor a promotion without its evidence.
        """
        with self.database.writing() as session:
            lock_table(session, Promotion)
            champion = champion_id(session)
            if champion != (comparison.champion_id if comparison else None):
                raise ChampionChanged
            session.add(version)
            session.flush()
            self._write(session, state="finished", ended_at=time.time(), version_id=version.id, **values)
            session.add(Artifact(version_id=version.id, kind="predictions", fraction=1.0, result=predictions))
            if comparison is not None:
                comparison.version_id = version.id
                lock_table(session, Correction)
                mine = select(RunCorrection.correction_id).where(RunCorrection.run_id == self.run_id)
                # Corrections may have been deleted during the comparison.
                comparison.evidence = keep_pictures(comparison.evidence, set(session.scalars(mine)).__contains__)
                session.add(comparison)
                if not (comparison.passed and comparison.evidence["gained"]):
                    return False
            why = coded(**comparison.evidence["summary"]) if comparison else coded("first")
            return record_promotion(session, version.id, by=f"{BY_RUN}{self.run_id}", why=why)

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
