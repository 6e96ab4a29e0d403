"""Removal of versions and runs that are not in service, in one transaction each.

The row stays, emptied: promotions, runs and corrections refer to a version by its number, and no later one gets it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from webapp.exceptions import AppError
from webapp.removal.audit import AuditEntry
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import (
    ACTIVE,
    Artifact,
    Checkpoint,
    Comparison,
    Correction,
    Promotion,
    Run,
    RunCorrection,
    Version,
)
from webapp.versions.promotions import needed_versions

REASONS = {
    "champion": "It is in service.",
    "anchor": "It is the last version that a person or a release put in service: new ones are compared with it.",
    "roll_back": "It can be rolled back to. Once another version was put in service, it is needed no more.",
    "roll_back_anchor": "New versions are compared with it after a roll-back.",
    "shipped": "It comes with this release: the next start would bring it back.",
    "parent": "Training {run} goes on from it. Wait for its end, or cancel it.",
    "active": "It is still going. Wait for its end, or cancel it.",
    "version": "It made {version}, which is still there: remove that first.",
}


class StillNeeded(AppError):
    """A version or run cannot be removed; the message says why."""

    status, code = 409, "still_needed"

    def __init__(self, reason: str, **names: object):
        super().__init__(REASONS[reason].format(**names))


def check_version(session: Session, version_id: int) -> None:
    """Raise StillNeeded if a version cannot be removed."""
    if reason := needed_versions(session).get(version_id):
        raise StillNeeded(reason)
    goes_on = Run.parent_id == version_id, Run.state.in_(ACTIVE)
    if run_id := session.scalar(select(Run.id).where(*goes_on)):
        raise StillNeeded("parent", run=run_id)


def check_run(session: Session, run: Run) -> None:
    """Raise StillNeeded if a run cannot be removed."""
    if run.state in ACTIVE:
        raise StillNeeded("active")
    version = session.get(Version, run.version_id or 0)
    if version is not None and version.removed_at is None:  # replay and receipts look up what it has learnt
        raise StillNeeded("version", version=version.name)


def descendants(session: Session, version_id: int) -> Sequence[int]:
    """Return the versions that are still there whose training went on from this one."""
    found = select(Version.id).join(Run, Run.version_id == Version.id)
    mine = Run.parent_id == version_id, Version.removed_at.is_(None)
    return session.scalars(found.where(*mine).order_by(Version.id)).all()


def remove_version(database: Database, version_id: int, entry: AuditEntry) -> bool:
    """Remove a version's weights, card, comparison and artifacts; return False if they are removed already.

    Raises StillNeeded.
    """

    def remove(session: Session) -> bool:
        lock_table(session, Promotion)  # a promotion, or a run that would start from it, is before or after this
        version = session.get_one(Version, version_id)
        if version.removed_at is not None:
            return False
        check_version(session, version_id)
        lock_table(session, Correction)  # whose deletion writes to the comparison too
        session.execute(delete(Artifact).where(Artifact.version_id == version_id))
        session.execute(delete(Comparison).where(Comparison.version_id == version_id))
        version.weights, version.card, version.removed_at = b"", {}, time.time()
        entry.add(session, versions=1)
        return True

    removed = write_using_reserve(database, remove)
    database.truncate_log()
    return removed


def remove_run(database: Database, run_id: int, entry: AuditEntry) -> bool:
    """Remove a run's curves, and which corrections it used; return False if they are removed already.

    Raises StillNeeded.
    """

    def remove(session: Session) -> bool:
        run = session.get_one(Run, run_id, with_for_update=True)
        if run.removed_at is not None:
            return False
        check_run(session, run)
        lock_table(session, Correction)  # whose deletion takes the run's entries with it
        for table in (Checkpoint, RunCorrection):
            session.execute(delete(table).where(table.run_id == run_id))
        run.history, run.progress, run.error, run.removed_at = [], {}, None, time.time()
        entry.add(session, trainings=1)
        return True

    return write_using_reserve(database, remove)
