"""Imports as rows: the queue of files of digits that a worker imports one after the other.

The row is the only state. A worker owns an import by the number of its attempt, and writes its progress about once a
second. An import whose row has not changed for STALE_SECONDS, or that was released, is claimed by the next attempt,
which resumes after the digits that are stored already.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypeGuard

from sqlalchemy import insert, or_, select, update
from sqlalchemy.orm import Session

from webapp.corrections.digit_files import printable_name
from webapp.logs import request_id
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import ACTIVE, Import, ImportFile, coded
from webapp.storage.timestamps import within

STALE_SECONDS = 30.0
MAX_ATTEMPTS = 3
# The page of corrections lists an import for so long after its end.
RECENT_SECONDS = 3600.0


class ImportLeaseLost(Exception):
    """The lease is no longer valid: another attempt has begun, or the import has ended."""


def enqueue(database: Database, name: str, data: bytes, digest: str, digits: int, by: str) -> Import:
    """Queue the import of a file with so many digits and return its row, or that of the same file's active import."""
    about = {"name": printable_name(name), "sha256": digest, "digits": digits}
    row = Import(state="queued", requested_by=by, request_id=request_id.get(), **about)
    with database.writing() as session:
        lock_table(session, Import)
        active = session.scalar(select(Import).where(Import.state.in_(ACTIVE), Import.sha256 == digest).limit(1))
        if active is not None:
            return active
        session.add(row)
        session.flush()
        session.execute(insert(ImportFile).values(import_id=row.id, data=data))
    return row


def request_of(database: Database, import_id: int) -> str | None:
    """Return the id of the request that started an import; None for one of an earlier release."""
    with database.reading() as session:
        return session.scalar(select(Import.request_id).where(Import.id == import_id))


def claim(database: Database) -> tuple[int, int] | None:
    """Begin an attempt at the oldest active import; return its id and the number of the attempt.

    Return None if no import waits or a worker is at work on one: imports run one at a time.
    """
    oldest = select(Import).where(Import.state.in_(ACTIVE)).order_by(Import.id).limit(1)
    with database.reading() as session:
        if not _is_claimable(session.scalar(oldest)):
            return None
    with database.writing() as session:
        lock_table(session, Import)
        while _is_claimable(row := session.scalar(oldest)):
            if row.state == "running":
                _fail_attempt(row, {"code": "silent"})
            if row.state == "queued":
                row.state, row.attempt, row.updated_at = "running", row.attempt + 1, time.time()
                return row.id, row.attempt
    return None


def fail_attempt(database: Database, import_id: int, attempt: int, reason: dict[str, Any]) -> None:
    """Requeue an import whose process has died, or end it as failed after MAX_ATTEMPTS failed attempts."""
    with database.writing() as session:
        lock_table(session, Import)
        row = session.get(Import, import_id)
        if row is not None and (row.state, row.attempt) == ("running", attempt):
            _fail_attempt(row, reason)


def recent(session: Session) -> list[Import]:
    """Return the imports that are active or ended within RECENT_SECONDS, the oldest first."""
    is_recent = within(Import.updated_at, RECENT_SECONDS, time.time())
    return list(session.scalars(select(Import).where(or_(Import.state.in_(ACTIVE), is_recent)).order_by(Import.id)))


def next_id(session: Session) -> int | None:
    """Return the id of the oldest active import, the next one to run; None without any."""
    return session.scalar(select(Import.id).where(Import.state.in_(ACTIVE)).order_by(Import.id).limit(1))


def sweep(database: Database) -> None:
    """Delete the files of imports that have ended."""
    ended = select(Import.id).where(Import.state.not_in(ACTIVE))
    database.delete_where(ImportFile, ImportFile.import_id.in_(ended))


@dataclass(frozen=True)
class ImportLease:
    """A worker's lease of an import. Every write raises ImportLeaseLost once the attempt is not the running one."""

    database: Database
    import_id: int
    attempt: int

    def read(self) -> tuple[Import, bytes]:
        """Return the row and the bytes of the file; raises ImportLeaseLost after the import's end."""
        with self.database.reading() as session:
            row = session.get(Import, self.import_id)
            data = session.scalar(select(ImportFile.data).where(ImportFile.import_id == self.import_id))
        if row is None or data is None:
            raise ImportLeaseLost(f"import {self.import_id} has ended")
        return row, data

    def write(self, **values) -> None:
        """Write columns of the row, and thereby renew the lease; raises ImportLeaseLost."""
        with self.database.writing() as session:
            self.write_in(session, **values)

    def write_in(self, session: Session, **values) -> None:
        """Write columns of the row in the caller's transaction; raises ImportLeaseLost."""
        held = Import.id == self.import_id, Import.attempt == self.attempt, Import.state == "running"
        written = update(Import).where(*held).values(updated_at=time.time(), **values).returning(Import.id)
        if session.scalar(written) is None:
            raise ImportLeaseLost(f"import {self.import_id} is no longer held by attempt {self.attempt}")


def _is_claimable(row: Import | None) -> TypeGuard[Import]:
    """Return whether an attempt at the import may begin."""
    return row is not None and (row.state == "queued" or not within(row.updated_at, STALE_SECONDS, time.time()))


def _fail_attempt(row: Import, reason: dict[str, Any]) -> None:
    row.failed_attempts, row.state = row.failed_attempts + 1, "queued"
    if row.failed_attempts >= MAX_ATTEMPTS:
        row.state, row.updated_at = "failed", time.time()
        row.error = coded("interrupted", times=row.failed_attempts, last=reason, added=row.added)
