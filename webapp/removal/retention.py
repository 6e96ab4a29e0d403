"""The retention: removal of all that is older than so many days and not in service, nor needed by what is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from webapp.removal.audit import AuditEntry
from webapp.removal.corrections import remove_corrections
from webapp.removal.versions import StillNeeded, remove_run, remove_version
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database
from webapp.storage.schema import (
    ACTIVE,
    AdminSession,
    Correction,
    Import,
    ImportFile,
    Promotion,
    Run,
    RunCorrection,
    Version,
)
from webapp.versions.promotions import needed_versions

DAY_SECONDS = 24 * 3600
# Who removed it, in the audit: no administrator's name has capital letters or spaces.
BY_SETTING, BY_COMMAND = "RETENTION_DAYS", "python -m webapp purge"


# When people and trainings last wrote something. The worker's own row is newer, by whatever clock.
ACTIVITY = Correction.created_at, Version.created_at, Promotion.at, Run.created_at, Run.ended_at, AdminSession.seen_at


class Old(NamedTuple):
    """The ids of what is older than the retention, in the order in which it is removed."""

    corrections: Sequence[int]
    versions: Sequence[int]
    trainings: Sequence[int]
    imports: Sequence[int]

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(ids) for kind, ids in self._asdict().items() if ids}


def find_old(database: Database, days: int) -> Old:
    """Return what is older than so many days and can be removed.

    A version counts from when it was made or last went out of service, a training or an import from its end. What a
    training under way uses waits for its end.
    """
    before = _moment_before(days)
    with database.reading() as session:
        versions = _old_versions(session, before)
        return Old(
            session.scalars(select(Correction.id).where(*_old_corrections(before)).order_by(Correction.id)).all(),
            versions,
            session.scalars(select(Run.id).where(*_old_runs(before, versions)).order_by(Run.id)).all(),
            session.scalars(select(Import.id).where(*_old_imports(before)).order_by(Import.id)).all(),
        )


def all_is_old(database: Database, days: int) -> bool:
    """Return whether nothing has happened here for so many days, which a clock that is ahead looks like too."""
    before = _moment_before(days)
    with database.reading() as session:
        newest = [session.scalar(select(func.max(column))) for column in ACTIVITY]
    return max((moment for moment in newest if moment is not None), default=before) < before


def remove_old(database: Database, days: int, by: str) -> dict[str, int]:
    """Remove what is older than so many days; return how much that was, as the audit has it.

    May run several times at once, and go on where one was killed: each transaction is noted with what it removes.
    """
    old, entry = find_old(database, days), AuditEntry(by, "old", days)
    # Judged again by each transaction: a training may have begun meanwhile.
    remove_corrections(database, old.corrections, entry, *_old_corrections(_moment_before(days)))
    for version_id in old.versions:
        with suppress(StillNeeded):  # it was put in service meanwhile
            remove_version(database, version_id, entry)
    for run_id in old.trainings:
        with suppress(StillNeeded):  # its version was
            remove_run(database, run_id, entry)
    if old.imports:
        write_using_reserve(database, lambda session: _remove_imports(session, old.imports, entry))
    return entry.counts


def _moment_before(days: int) -> float:
    return time.time() - days * DAY_SECONDS


def _old_corrections(before: float) -> tuple[ColumnElement[bool], ...]:
    used = select(RunCorrection.correction_id).join(Run, Run.id == RunCorrection.run_id).where(Run.state.in_(ACTIVE))
    return Correction.created_at < before, Correction.id.not_in(used)


def _old_versions(session: Session, before: float) -> Sequence[int]:
    changes = or_(Promotion.version_id == Version.id, Promotion.from_id == Version.id)
    last_change = select(func.max(Promotion.at)).where(changes).scalar_subquery()
    parents = select(Run.parent_id).where(Run.state.in_(ACTIVE), Run.parent_id.is_not(None))
    old = Version.removed_at.is_(None), Version.created_at < before, func.coalesce(last_change, 0.0) < before
    free = Version.id.not_in(needed_versions(session)), Version.id.not_in(parents)
    return session.scalars(select(Version.id).where(*old, *free).order_by(Version.id)).all()


def _old_runs(before: float, versions: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    gone = select(Version.id).where(or_(Version.removed_at.is_not(None), Version.id.in_(versions)))
    ended = Run.removed_at.is_(None), Run.state.not_in(ACTIVE), Run.ended_at < before
    return *ended, or_(Run.version_id.is_(None), Run.version_id.in_(gone))


def _old_imports(before: float) -> tuple[ColumnElement[bool], ...]:
    return Import.state.not_in(ACTIVE), Import.updated_at < before


def _remove_imports(session: Session, ids: Sequence[int], entry: AuditEntry) -> None:
    # Their files are gone since they ended, but for the seconds until the worker's next sweep.
    session.execute(delete(ImportFile).where(ImportFile.import_id.in_(ids)))
    removed = session.scalars(delete(Import).where(Import.id.in_(ids)).returning(Import.id)).all()
    if removed:
        entry.add(session, imports=len(removed))
