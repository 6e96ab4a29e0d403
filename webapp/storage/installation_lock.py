"""The lock that tells whether an embedded installation is in use.

Every process that uses the database shares it until the process ends, in whatever way; what replaces the database, or
takes it elsewhere, holds it alone. Its file is empty, lies beside the database and stays there. There is no such lock
with PostgreSQL, whose users may be on other machines.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from webapp.private_files import give_to_owner
from webapp.settings import Settings
from webapp.storage.replacement import Replacement


class InUse(Exception):
    """Another process uses the installation; the message says what to do."""


def database_file(settings: Settings) -> Path | None:
    """Return the file of the SQLite database; None with PostgreSQL."""
    url = make_url(settings.database_url)
    return Path(url.database or "").resolve() if url.drivername == "sqlite" else None


def share(settings: Settings, say: Callable[[str], object]) -> Settings:
    """Share the lock until this process ends, after waiting for whoever holds it alone.

    `settings` are the environment's. Return them, read again, since a restore may have replaced the secret key before.
    `say` gets a line if there is something to wait for, or if the file cannot be locked: Inkling then runs without.
    """
    database = database_file(settings)
    if database is None:
        return settings
    path = _path(database)
    try:
        lock = _open(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: {database} is being restored or copied")
            fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        say(f"Warning: {path} cannot be locked, and no restore would be refused: {error.strerror}")
        return settings
    os.set_inheritable(lock, True)  # `python -m webapp run` goes on as the supervisor, by exec
    replacement = Replacement(database, settings.data_dir)
    while replacement.is_committed:  # of a restore that was killed
        fcntl.flock(lock, fcntl.LOCK_EX)  # which gives up the shared lock first: of several, one after the other
        if replacement.is_committed:
            replacement.finish()
        fcntl.flock(lock, fcntl.LOCK_SH)
    return Settings.read()


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Hold the lock alone; raises InUse, or OSError if the file cannot be locked. Not for PostgreSQL."""
    database = database_file(settings)
    assert database, "PostgreSQL has no such lock"
    lock = _open(_path(database))
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{database} is in use: end web and worker first") from None
        replacement = Replacement(database, settings.data_dir)
        if replacement.is_committed:
            replacement.finish()
        yield
    finally:
        os.close(lock)


def _path(database: Path) -> Path:
    return database.with_name(f"{database.name}-lock")


def _open(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
    give_to_owner(lock, path.parent)
    return lock
