"""The queue in a file: Huey's SQLite storage, which recreates the file if it is damaged or missing.

No work is lost with the file: messages only announce rows of the database, and a worker also finds the rows whose
message is missing.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from huey import Huey
from huey.storage import SqliteStorage

from webapp.private_files import create

log = logging.getLogger(__name__)

# The primary codes of a file that is missing, not accessible or damaged; SQLITE_ERROR stands for a missing table.
DAMAGED = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
)


def _repairing(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an operation to recreate a damaged file and try once more."""

    @functools.wraps(operation)
    def repaired(self: FileStorage, *arguments, **options) -> Any:
        try:
            return operation(self, *arguments, **options)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            self.recreate(error)
        return operation(self, *arguments, **options)

    return repaired


class FileStorage(SqliteStorage):
    """Connects for each operation: an open connection would keep using a file that was replaced."""

    def __init__(self, name: str, path: Path, **options):
        self.path = path
        # mode=rw: SQLite must not create the file, since other users could read it then.
        super().__init__(name, f"{path.as_uri()}?mode=rw", create_tables=False, uri=True, **options)

    @contextmanager
    def db(self, commit: bool = False, close: bool = True) -> Iterator[sqlite3.Cursor]:
        with super().db(commit, close=True) as cursor:
            yield cursor

    sql = _repairing(SqliteStorage.sql)
    dequeue = _repairing(SqliteStorage.dequeue)
    read_schedule = _repairing(SqliteStorage.read_schedule)
    initialize_schema = _repairing(SqliteStorage.initialize_schema)

    def recreate(self, error: sqlite3.Error) -> None:
        """Replace a damaged or missing file by a new one, unless another process has done so; raises sqlite3.Error."""
        try:
            with self._locked():
                if not self._is_sound():
                    self._replace()
                    log.warning("the queue was damaged or gone (%s) and is made anew; no job is lost", error)
        except OSError as reason:
            raise sqlite3.OperationalError(f"{self.path} cannot be made anew: {reason.strerror}") from error

    def _replace(self) -> None:
        new = self._sibling(".new")
        new.unlink(missing_ok=True)
        create(new)
        with closing(sqlite3.connect(new)) as connection:
            self._create_schema(connection)
        self._sibling("-journal").unlink(missing_ok=True)  # SQLite would apply it to the new file
        new.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other processes and threads from recreating the file."""
        lock = os.open(self._sibling(".lock"), os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _is_sound(self) -> bool:
        """Return whether the file is intact and has a new one's schema; raises sqlite3.Error while it is in use."""
        try:
            with closing(self._create_connection()) as connection, closing(sqlite3.connect(":memory:")) as new:
                self._create_schema(new)
                connection.execute("BEGIN EXCLUSIVE")
                intact = connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
                return intact and _schema(connection) == _schema(new)
        except sqlite3.Error as error:
            if _is_damage(error):
                return False
            raise

    def _create_schema(self, connection: sqlite3.Connection) -> None:
        with connection:
            for statement in self.ddl:
                connection.execute(statement)

    def _sibling(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


class FileHuey(Huey):
    storage_class = FileStorage


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED  # the lower byte is the primary code


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
