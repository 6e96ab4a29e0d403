"""Runs as rows: who holds one, what becomes of it when its holder is lost, and what it leaves behind.

The row is the truth. A trainer holds a run by its attempt number, which fences off all earlier ones, and by a lease
that it keeps renewing. Whoever lost either can write no more. A run whose holder is gone waits for the next one, which
goes on from the last checkpoint; one that is lost too often is given up.
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
from webapp.corrections.store import showing
from webapp.exceptions import AppError
from webapp.storage.disk_reserve import urgently
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
from webapp.versions.promotions import record_promotion

log = logging.getLogger(__name__)

LEASE_SECONDS = 20.0
MOST_ATTEMPTS = 3
MOST_PROCESSES = 8  # that a run may be asked to have


class RunActive(AppError):
    """A run is queued or running already, and there is one at a time."""

    status, code = 409, "run_active"


class LeaseLost(Exception):
    """This process no longer holds the run: it was given up for lost or ended by somebody else."""


class ChampionChanged(Exception):
    """Another version answers by now than the one that this version was compared with."""


def start(database: Database, config: Config, by: str, corrections: bool) -> Run:
    """A new run, queued; raises RunActive where there is an active one."""
    run = Run(state="queued", requested_by=by, corrections=corrections, **asdict(config))
    try:
        with database.writing() as session:
            active = session.scalar(select(Run.id).where(Run.state.in_(ACTIVE)))
            if active is not None:
                raise RunActive(f"Run {active} is under way; there is one at a time.", run=active)
            session.add(run)
    except IntegrityError:  # somebody else was first at the same moment
        return start(database, config, by, corrections)
    return run


def cancel(database: Database, run_id: int) -> None:
    """Ends a queued run at once, a running one as soon as its trainer sees the wish; an ended one stays."""

    def do(session: Session) -> None:
        session.execute(select(Run.id).where(Run.id == run_id).with_for_update())  # or it begins in between
        running = Run.id == run_id, Run.state == "running"
        session.execute(update(Run).where(*running).values(cancel_requested=True))
        _end(session, (Run.id == run_id, Run.state == "queued"), "cancelled", cancel_requested=True)

    urgently(database, do)


def claim(database: Database, run_id: int) -> int | None:
    """The number of the attempt that begins with this; None where the run does not wait.

    What the run goes on from and which corrections it uses is chosen by its first attempt, and stays.
    """
    now = time.time()
    with database.writing() as session:
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
            _choose(session, run)
        return run.attempt


def is_held() -> ColumnElement[bool]:
    """Whether the lease of a running run lasts: it was renewed within the time that it is given for."""
    return within(Run.lease_until - LEASE_SECONDS, LEASE_SECONDS, time.time())


def expire_leases(database: Database) -> list[int]:
    """Takes runs whose lease has run out from their lost holders; returns those that wait again.

    Cheap, and safe from any process at any time.
    """
    expired = Run.state == "running", ~is_held()
    with database.reading() as session:
        if session.scalar(select(Run.id).where(*expired)) is None:
            return []
    waiting = urgently(database, lambda session: _lose(session, expired, {"code": "silent"}))
    log.warning("a run was taken from its trainer: the lease ran out")
    return waiting


def lose(database: Database, run_id: int, attempt: int, reason: dict[str, Any]) -> list[int]:
    """The same for one run whose trainer is known to be gone; `reason` is how it ended, a code with its numbers."""
    held = Run.id == run_id, Run.attempt == attempt, Run.state == "running"
    return urgently(database, lambda session: _lose(session, held, reason))


def sweep(database: Database) -> None:
    """Removes the checkpoints of ended runs. Apart from their ends, which are so small that a full disk takes them."""
    ended = select(Run.id).where(Run.state.in_(ENDED))
    database.remove(Checkpoint, Checkpoint.run_id.in_(ended))


def approved(session: Session) -> tuple[int, int]:
    """How many corrections the next run can learn from, and by how many it will be compared."""
    return _counted(session, select(Correction.held_out, func.count()).where(*Correction.firsts("approved")))


def used(session: Session, run_id: int) -> tuple[int, int]:
    """How many of the corrections that a run learns from, and is compared by, are still there."""
    mine = RunCorrection.run_id == run_id
    return _counted(session, select(Correction.held_out, func.count()).join(RunCorrection).where(mine))


def _counted(session: Session, found: Select) -> tuple[int, int]:
    counts = dict(session.execute(found.group_by(Correction.held_out)).all())
    return counts.get(False, 0), counts.get(True, 0)


def _choose(session: Session, run: Run) -> None:
    lock_table(session, Correction)  # or one is deleted in between
    preset = PRESETS.get(run.preset)  # none where a release has it no more: the trainer says so
    if preset and preset.fine_tunes:
        run.parent_id = champion_id(session)
    approved = select(literal(run.id), Correction.id).where(*Correction.firsts("approved"))
    if not run.corrections:  # it is compared by those that are held out, all the same
        approved = approved.where(Correction.held_out)
    session.execute(insert(RunCorrection).from_select(["run_id", "correction_id"], approved))


def _lose(session: Session, held: tuple[Any, ...], reason: dict[str, Any]) -> list[int]:
    error = coded("lost", times=MOST_ATTEMPTS, last=reason)
    _end(session, (*held, Run.cancel_requested), "cancelled")
    was_last = (*held, Run.failed_attempts >= MOST_ATTEMPTS - 1)
    _end(session, was_last, "lost", failed_attempts=Run.failed_attempts + 1, error=error)
    again = update(Run).where(*held).values(state="queued", failed_attempts=Run.failed_attempts + 1, lease_until=None)
    return list(session.scalars(again.returning(Run.id)))


def _end(session: Session, which: tuple[Any, ...], state: str, **values) -> None:
    session.execute(update(Run).where(*which).values(state=state, ended_at=time.time(), **values))


@dataclass(frozen=True)
class Lease:
    """A trainer's hold on its run. Every write is refused with LeaseLost once the attempt is not the running one."""

    database: Database
    run_id: int
    attempt: int

    def renew(self, **values) -> bool:
        """Writes `values`, extends the lease, and returns whether somebody wishes the run cancelled."""
        with self.database.writing() as session:
            return self._write(session, lease_until=time.time() + LEASE_SECONDS, **values)

    def keep(self, checkpoint: bytes) -> None:
        """Stores where the training stands, in place of the checkpoint before."""
        with self.database.writing() as session:
            self._write(session, lease_until=time.time() + LEASE_SECONDS)
            session.merge(Checkpoint(run_id=self.run_id, at=time.time(), data=checkpoint))

    def checkpoint(self) -> bytes | None:
        """What an earlier attempt has left to go on from."""
        with self.database.reading() as session:
            return session.scalar(select(Checkpoint.data).where(Checkpoint.run_id == self.run_id))

    def drop_refused(self) -> None:
        """Takes those corrections from the run that were refused since it chose them: it does not use them."""
        approved = select(Correction.id).where(Correction.state == "approved")
        mine = RunCorrection.run_id == self.run_id
        with self.database.writing() as session:
            self._write(session, lease_until=time.time() + LEASE_SECONDS)
            session.execute(delete(RunCorrection).where(mine, RunCorrection.correction_id.not_in(approved)))

    def release(self, **values) -> None:
        """Lets the run wait for another trainer: this one has to go, in order."""
        with self.database.writing() as session:
            self._write(session, state="queued", lease_until=None, **values)

    def end(self, state: str, **values) -> None:
        """Ends the run as "failed" or "cancelled"."""
        values |= {"state": state, "ended_at": time.time()}
        urgently(self.database, lambda session: self._write(session, **values))

    def finish(self, version: Version, predictions: bytes, comparison: Comparison | None, **values) -> bool:
        """Ends the run with a version and promotes it where the comparison has passed; returns whether it did.

        `comparison` is None where no version answers yet. Raises ChampionChanged, having written nothing, where it is
        with another version than the one that answers now. All in one transaction: there is never a finished run
        without its version, nor a promotion without its evidence.
        """
        with self.database.writing() as session:
            lock_table(session, Promotion)
            champion = champion_id(session)
            if champion != (comparison.champion_id if comparison else None):
                raise ChampionChanged
            session.add(version)
            session.flush()
            self._write(session, state="finished", ended_at=time.time(), version_id=version.id, **values)
            read = Artifact(version_id=version.id, kind="predictions", fraction=1.0, result=predictions)
            session.add(read)
            if comparison is not None:
                comparison.version_id = version.id
                lock_table(session, Correction)
                mine = select(RunCorrection.correction_id).where(RunCorrection.run_id == self.run_id)
                # without those that were deleted while it was measured
                comparison.evidence = showing(comparison.evidence, set(session.scalars(mine)).__contains__)
                session.add(comparison)
                if not comparison.passed:
                    return False
            why = coded(**comparison.evidence["summary"]) if comparison else coded("first")
            return record_promotion(session, version.id, by=f"run {self.run_id}", why=why)

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
