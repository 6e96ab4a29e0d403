"""Disk space reserved for what must work when the disk is full: signing in and out, cancelling, deleting.

A file beside SQLite's only occupies space. A transaction that finds the disk full is retried without it: the journal
then has space, so the database stays consistent even if the process is killed meanwhile. PostgreSQL has no reserve.
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

RESERVE_BYTES = 1 << 20  # the journal of a correction, its reviews and the comparisons that show it takes a quarter
# Below this, corrections and runs may fail to be stored.
MIN_FREE_BYTES = 4 << 20
# The primary codes of a journal that cannot be written, created or shared.
DISK_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)

Result = TypeVar("Result")


def write_using_reserve(database: Database, work: Callable[[Session], Result]) -> Result:
    """Return the result of `work` in a writing transaction, which succeeds on a full disk too.

    `work` may be called twice: its first transaction is rolled back when the disk is full.
    """
    try:
        with database.writing() as session:
            return work(session)
    except OperationalError as error:
        # The lower byte of an extended code is the primary code; errors of other drivers have none.
        if (getattr(error.orig, "sqlite_errorcode", None) or 0) & 0xFF not in DISK_FULL_CODES:
            raise
        log.warning("the disk is full: the reserve is used")
    _reserve_file(database).unlink(missing_ok=True)
    try:
        with database.writing() as session:
            return work(session)
    finally:
        fill_reserve(database)


def fill_reserve(database: Database) -> None:
    """Write the reserve file, or as much of it as fits."""
    if database.is_postgresql:
        return
    path = _reserve_file(database)
    if not path.exists() or path.stat().st_size < RESERVE_BYTES:
        with contextlib.suppress(OSError):
            path.write_bytes(bytes(RESERVE_BYTES))


def free_bytes(database: Database) -> int | None:
    """Return the free bytes of the disk with SQLite's file, not counting the reserve; None on PostgreSQL."""
    return None if database.is_postgresql else shutil.disk_usage(_reserve_file(database).parent).free


def _reserve_file(database: Database) -> Path:
    return Path(f"{database.engine.url.database}-reserve")
