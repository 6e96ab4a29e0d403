"""Room on the disk for what must be possible when it is full: signing in and out, cancelling, deleting.

Beside SQLite's file lies another one that only takes up room. A transaction that finds the disk full is tried again
without it: the journal then has room, and even where the process is killed meanwhile the database stays whole.
PostgreSQL's disk is its own matter.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from webapp.storage.engine import Database

log = logging.getLogger(__name__)

RESERVE_BYTES = 1 << 20  # a journal with a drawing, its reviews and the evidence that names it takes a quarter
# With less than this nothing that is sent or trained is sure to be kept.
FULL_BYTES = 4 << 20
# A journal that cannot be written, made or shared.
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)

Result = TypeVar("Result")


def urgently(database: Database, work: Callable[[Session], Result]) -> Result:
    """What `work` returns in a writing transaction of its own, for which a full disk has room too.

    It may be called twice, the first time for nothing.
    """
    try:
        with database.writing() as session:
            return work(session)
    except OperationalError as error:
        # Extended codes have the kind in their lower byte; errors that are not of SQLite have none.
        if (getattr(error.orig, "sqlite_errorcode", None) or 0) & 0xFF not in NO_ROOM:
            raise
        log.warning("the disk is full: the reserve is used")
    _file(database).unlink(missing_ok=True)
    try:
        with database.writing() as session:
            return work(session)
    finally:
        hold(database)


def hold(database: Database) -> None:
    """Takes the reserve, or as much of it as there is."""
    if database.is_postgresql:
        return
    path = _file(database)
    if not path.exists() or path.stat().st_size < RESERVE_BYTES:
        with contextlib.suppress(OSError):
            path.write_bytes(bytes(RESERVE_BYTES))


def bytes_left(database: Database) -> int | None:
    """How many bytes the disk with SQLite's file has left, the reserve apart; None of PostgreSQL's."""
    return None if database.is_postgresql else shutil.disk_usage(_file(database).parent).free


def _file(database: Database) -> Path:
    return Path(f"{database.engine.url.database}-reserve")
