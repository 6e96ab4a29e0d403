"""The copy of an embedded installation, in SQLite, into PostgreSQL: all of it, compared row by row, or nothing."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable

from sqlalchemy import Result, Table, delete, exists, func, insert, not_, select, text, true
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from webapp.corrections.import_queue import STALE_SECONDS
from webapp.storage.engine import Database, nonfinite_to_none
from webapp.storage.schema import (
    Administrator,
    Artifact,
    Base,
    Checkpoint,
    Import,
    ImportFile,
    Installation,
    Promotion,
    Run,
    SignInAttempt,
    Version,
    Worker,
)
from webapp.storage.timestamps import within
from webapp.training.runs import has_valid_lease
from webapp.training.task_queue import make_tables

# Sorted by foreign keys. Without Installation, since an embedded installation has its secret key in a file, and Worker,
# whose rows are about processes.
APART = Installation.__table__, Worker.__table__
TABLES = [table for table in Base.metadata.sorted_tables if table not in APART]
# Rows that set-up adds, or that can be computed again. Any other row means that the target is in use.
REPLACEABLE = {
    Version.__table__: Version.source == "shipped",
    Promotion.__table__: Promotion.by == "set-up",
    Administrator.__table__: true(),
    SignInAttempt.__table__: true(),
    Artifact.__table__: true(),
}
MANY_ROWS = 1_000
FEW_ROWS = 4  # of several megabytes each
LARGE = (Version.__table__, Checkpoint.__table__, ImportFile.__table__)
PROGRESS_SECONDS = 2.0


class CopyRefused(ValueError):
    """Nothing was copied; the message says why."""


def copy(source: Database, target: Database, secret_key: str, say: Callable[[str], object] = print) -> None:
    """Replace the rows that set-up has added to `target` by all rows of `source` and its secret key.

    One transaction on each side, which excludes other writers. `say` gets a line for each table, with the digest that
    both sides have. Raises CopyRefused, with the target unchanged, if the target is in use or anything fails.
    """
    if not (source.upgrade() and target.upgrade()):  # what this release does not know would not be copied
        raise CopyRefused("nothing was copied: the database is of a newer release; copy it with that release")
    try:
        with source.writing() as old, target.writing() as new:
            _clear(new)
            _refuse_if_active(old)
            for table in TABLES:
                _copy_rows(old, new, table, say)
            for table in TABLES:
                _compare(old, new, table, say)
            _set_sequences(old, new)
            new.add(Installation(id=1, secret_key=secret_key))
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        raise CopyRefused(f"nothing was copied: {reason}") from error


def _clear(new: Session) -> None:
    """Lock all tables of the target and empty them; raises CopyRefused if the target is in use."""
    new.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"))
    names = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
    new.execute(text(f"LOCK TABLE {names}"))
    make_tables(new)
    for table in TABLES:
        if new.scalar(select(exists(select(table).where(not_(REPLACEABLE.get(table, ~true())))))):
            raise CopyRefused(f"nothing was copied: the database in DATABASE_URL is in use ({table.name} is not empty)")
    for table in reversed(Base.metadata.sorted_tables):
        new.execute(delete(table))


def _refuse_if_active(old: Session) -> None:
    """Raise CopyRefused if a worker is at work on a run or an import of the source."""
    running = Run.state == "running", has_valid_lease()
    if run_id := old.scalar(select(Run.id).where(*running)):
        raise CopyRefused(f"nothing was copied: run {run_id} is under way; end Inkling first")
    importing = Import.state == "running", within(Import.updated_at, STALE_SECONDS, time.time())
    if import_id := old.scalar(select(Import.id).where(*importing)):
        raise CopyRefused(f"nothing was copied: import {import_id} is under way; end Inkling first")


def _rows(session: Session, table: Table) -> Result:
    at_once = FEW_ROWS if table in LARGE else MANY_ROWS
    return session.execute(select(table).order_by(*table.primary_key).execution_options(yield_per=at_once))


def _copy_rows(old: Session, new: Session, table: Table, say: Callable[[str], object]) -> None:
    total = old.scalar(select(func.count()).select_from(table))
    count, said_at = 0, time.monotonic()
    for rows in _rows(old, table).partitions():
        new.execute(insert(table), [dict(row._mapping) for row in rows])
        count += len(rows)
        if time.monotonic() - said_at > PROGRESS_SECONDS:
            said_at = time.monotonic()
            say(f"{table.name}: {count:,} of {total:,} rows")


def _compare(old: Session, new: Session, table: Table, say: Callable[[str], object]) -> None:
    (count, before), (_, after) = digest(old, table), digest(new, table)
    if before != after:
        raise CopyRefused(f"nothing was copied: {table.name} would be another: SHA-256 {after}, and not {before}")
    say(f"{table.name:<16} {count:>9,} rows   SHA-256 {after}")


def digest(session: Session, table: Table) -> tuple[int, str]:
    """Return the number of rows of a table and the SHA-256 of their values, which does not depend on the database."""
    sha256, count = hashlib.sha256(), 0
    for row in _rows(session, table):
        count += 1
        for value in row:
            data = value if isinstance(value, bytes) else json.dumps(nonfinite_to_none(value), sort_keys=True).encode()
            sha256.update(b"%s %d " % (type(value).__name__.encode(), len(data)) + data)
    return count, sha256.hexdigest()


def _set_sequences(old: Session, new: Session) -> None:
    """Set the sequences of the target behind the ids of the source; ids of deleted corrections are not reused."""
    used: dict[str, int] = dict(map(tuple, old.execute(text("SELECT name, seq FROM sqlite_sequence"))))
    for table in TABLES:
        sequence = new.scalar(select(func.pg_get_serial_sequence(table.name, "id"))) if "id" in table.c else None
        last = new.scalar(select(func.max(table.c.id))) if sequence else None
        if last := max(last or 0, used.get(table.name, 0)):
            new.execute(select(func.setval(sequence, last)))
