"""Imports as rows: files of digits that a worker takes in, one after the other.

The row is the truth. A worker holds an import by the number of its attempt, and tells its progress every second or so;
one that has not moved for STALE_SECONDS, or was let go, is taken up by the next attempt, which goes on after the digits
that are stored already.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypeGuard

from sqlalchemy import insert, or_, select, update
from sqlalchemy.orm import Session

from webapp.corrections.digit_files import shown_name
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import ACTIVE, Import, ImportFile, coded
from webapp.storage.timestamps import within

STALE_SECONDS = 30.0
MOST_ATTEMPTS = 3
# How long the page of corrections shows an import that has ended.
SHOWN_SECONDS = 3600.0


class ImportLeaseLost(Exception):
    """This process no longer holds the import: another attempt has begun, or it was ended."""


def queue(database: Database, name: str, data: bytes, digest: str, digits: int, by: str) -> Import:
    """A new import of a file of so many digits, or the one under way where it is of the same file."""
    row = Import(state="queued", name=shown_name(name), sha256=digest, digits=digits, requested_by=by)
    with database.writing() as session:
        lock_table(session, Import)
        same = session.scalar(select(Import).where(Import.state.in_(ACTIVE), Import.sha256 == digest).limit(1))
        if same is not None:
            return same
        session.add(row)
        session.flush()
        session.execute(insert(ImportFile).values(import_id=row.id, data=data))
    return row


def claim(database: Database) -> tuple[int, int] | None:
    """The import whose turn it is, the oldest, and the number of the attempt that begins with this.

    None where none waits or another worker is at it: there is one at a time.
    """
    oldest = select(Import).where(Import.state.in_(ACTIVE)).order_by(Import.id).limit(1)
    with database.reading() as session:
        if not _waits(session.scalar(oldest)):
            return None
    with database.writing() as session:
        lock_table(session, Import)
        while _waits(row := session.scalar(oldest)):
            if row.state == "running":
                _lose(row, {"code": "silent"})
            if row.state == "queued":
                row.state, row.attempt, row.updated_at = "running", row.attempt + 1, time.time()
                return row.id, row.attempt
    return None


def lose(database: Database, import_id: int, attempt: int, reason: dict[str, Any]) -> None:
    """Lets an import whose process is known to be gone wait for the next attempt, or fail after MOST_ATTEMPTS."""
    with database.writing() as session:
        lock_table(session, Import)
        row = session.get(Import, import_id)
        if row is not None and (row.state, row.attempt) == ("running", attempt):
            _lose(row, reason)


def shown(session: Session) -> list[Import]:
    """Those under way, and those that have ended lately: the oldest first."""
    lately = within(Import.updated_at, SHOWN_SECONDS, time.time())
    return list(session.scalars(select(Import).where(or_(Import.state.in_(ACTIVE), lately)).order_by(Import.id)))


def next_id(session: Session) -> int | None:
    """The import under way whose turn it is: the oldest."""
    return session.scalar(select(Import.id).where(Import.state.in_(ACTIVE)).order_by(Import.id).limit(1))


def sweep(database: Database) -> None:
    """Removes the files of imports that have ended."""
    ended = select(Import.id).where(Import.state.not_in(ACTIVE))
    database.remove(ImportFile, ImportFile.import_id.in_(ended))


@dataclass(frozen=True)
class ImportLease:
    """A worker's hold on an import. Every write raises HoldLost once the attempt is not the running one."""

    database: Database
    import_id: int
    attempt: int

    def read(self) -> tuple[Import, bytes]:
        """The row, and the file."""
        with self.database.reading() as session:
            row = session.get(Import, self.import_id)
            data = session.scalar(select(ImportFile.data).where(ImportFile.import_id == self.import_id))
        if row is None or data is None:
            raise ImportLeaseLost(f"import {self.import_id} has ended")
        return row, data

    def write(self, **values) -> None:
        with self.database.writing() as session:
            self.write_in(session, **values)

    def write_in(self, session: Session, **values) -> None:
        """The same as a part of a transaction."""
        held = Import.id == self.import_id, Import.attempt == self.attempt, Import.state == "running"
        written = update(Import).where(*held).values(updated_at=time.time(), **values).returning(Import.id)
        if session.scalar(written) is None:
            raise ImportLeaseLost(f"import {self.import_id} is no longer held by attempt {self.attempt}")


def _waits(row: Import | None) -> TypeGuard[Import]:
    """Whether the next attempt may begin."""
    return row is not None and (row.state == "queued" or not within(row.updated_at, STALE_SECONDS, time.time()))


def _lose(row: Import, reason: dict[str, Any]) -> None:
    row.failed_attempts, row.state = row.failed_attempts + 1, "queued"
    if row.failed_attempts >= MOST_ATTEMPTS:
        row.state, row.updated_at = "failed", time.time()
        row.error = coded("interrupted", times=row.failed_attempts, last=reason, added=row.added)
