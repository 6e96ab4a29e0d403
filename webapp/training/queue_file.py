"""The queue in a file: Huey's SQLite storage, which makes the file anew where it is damaged or gone.

Nothing is lost with it: messages only announce what rows of the database say, and a worker takes up the rows whose
message is missing. So neither the web nor a worker ends, or needs help, when this file does.
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

# What SQLite says of a file that is not there, not ours to use or not what we left: ERROR is a table that is missing.
DAMAGED = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
)


def _repairing(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Does the operation once more, on a new file, where it failed because of the file."""

    @functools.wraps(operation)
    def repaired(self: Storage, *arguments, **options) -> Any:
        try:
            return operation(self, *arguments, **options)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            self.make_anew(error)
        return operation(self, *arguments, **options)

    return repaired


class Storage(SqliteStorage):
    """Connects for each operation: a connection that is kept goes on with a file that was replaced."""

    def __init__(self, name: str, path: Path, **options):
        self.path = path
        # Not to be created by SQLite, which would let other users read it.
        super().__init__(name, f"{path.as_uri()}?mode=rw", create_tables=False, uri=True, **options)

    @contextmanager
    def db(self, commit: bool = False, close: bool = True) -> Iterator[sqlite3.Cursor]:
        with super().db(commit, close=True) as cursor:
            yield cursor

    sql = _repairing(SqliteStorage.sql)
    dequeue = _repairing(SqliteStorage.dequeue)
    read_schedule = _repairing(SqliteStorage.read_schedule)
    initialize_schema = _repairing(SqliteStorage.initialize_schema)

    def make_anew(self, error: sqlite3.Error) -> None:
        """Puts a new file in the place of one that is damaged or gone, unless another process has done so already.

        Raises sqlite3.Error where that cannot be.
        """
        try:
            with self._alone():
                if not self._is_sound():
                    self._replace()
                    log.warning("the queue was damaged or gone (%s) and is made anew; no job is lost", error)
        except OSError as reason:
            raise sqlite3.OperationalError(f"{self.path} cannot be made anew: {reason.strerror}") from error

    def _replace(self) -> None:
        new = self._beside(".new")
        new.unlink(missing_ok=True)
        create(new)
        with closing(sqlite3.connect(new)) as connection:
            self._define(connection)
        self._beside("-journal").unlink(missing_ok=True)  # it would be taken for the new file's
        new.replace(self.path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes and threads from doing the same at the same time."""
        lock = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _is_sound(self) -> bool:
        """Whether the file is as a new one would be, but for the messages; raises sqlite3.Error while it is in use."""
        try:
            with closing(self._create_connection()) as connection, closing(sqlite3.connect(":memory:")) as new:
                self._define(new)
                connection.execute("BEGIN EXCLUSIVE")
                whole = connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
                return whole and _schema(connection) == _schema(new)
        except sqlite3.Error as error:
            if _is_damage(error):
                return False
            raise

    def _define(self, connection: sqlite3.Connection) -> None:
        with connection:
            for statement in self.ddl:
                connection.execute(statement)

    def _beside(self, end: str) -> Path:
        return self.path.with_name(self.path.name + end)


class FileHuey(Huey):
    storage_class = Storage


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED  # the upper bits hold details


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
