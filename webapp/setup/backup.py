"""The backup of an embedded installation, while it serves: database and secret key in one file, verified."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from webapp import private_files
from webapp.settings import Settings
from webapp.setup import backup_file
from webapp.setup.backup_file import BackupError, BackupFile, Manifest, OnProgress, check_database
from webapp.storage.installation_lock import database_file
from webapp.storage.replacement import DATABASE, sync

PAGES = 2_000  # copied at a time; others may write between two times, after which SQLite begins anew
MAX_RESTARTS = 3
BUSY_SECONDS = 60.0
TEMPORARY = ".inkling-backup-"
LAST = "inkling-last-backup"


def back_up(settings: Settings, file: Path, on_progress: OnProgress = lambda done: None) -> Manifest:
    """Write a backup to a new file, read it again and return its manifest; `on_progress` gets fractions.

    The file appears when it is complete. Raises BackupError.
    """
    database = database_file(settings)
    assert database, "PostgreSQL has programs for that"
    try:
        if not database.is_file():
            raise BackupError(f"there is no installation in {database}")
        if not settings.secret_key:
            raise BackupError(f"{settings.data_dir / 'secret_key'} is missing; set-up makes another one")
        _refuse_existing(file)
        with _folder_beside(file) as folder:
            manifest = _make(database, settings.secret_key, folder, on_progress)
            _refuse_existing(file)
            (folder / "backup").rename(file)
            sync(file.parent)
    except BackupError as error:
        raise BackupError(f"no backup was made: {error}") from error
    except OSError as error:
        raise BackupError(f"no backup was made in {file.parent}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise BackupError(f"no backup was made: {error}") from error
    line = f"{manifest.made_at.isoformat(timespec='seconds')} {file}\n"
    with suppress(OSError):  # a full disk here is no reason to call the backup elsewhere a failure
        private_files.write(settings.data_dir / LAST, line.encode(errors="surrogateescape"))
    return manifest


def last_backup(settings: Settings) -> str:
    """Return a line that tells when the last backup was made here."""
    try:
        made_at, file = (settings.data_dir / LAST).read_text(errors="replace").rstrip("\n").split(" ", 1)
        at = datetime.fromisoformat(made_at).astimezone(UTC)
    except (OSError, ValueError, OverflowError):
        return "Last backup: none yet (docs/backup.md tells how)"
    days = (datetime.now(UTC) - at).days
    ago = "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
    return f"Last backup: {ago}, {at:%Y-%m-%d %H:%M} UTC, in {file}"


def _make(database: Path, secret_key: str, folder: Path, on_progress: OnProgress) -> Manifest:
    copy, file = folder / DATABASE, folder / "backup"
    private_files.create(copy)
    copy_database(database, copy, lambda done: on_progress(0.4 * done))
    backup_file.write(file, copy, check_database(copy), secret_key, lambda done: on_progress(0.4 + 0.3 * done))
    with BackupFile.open(file) as backup:
        backup.verify(lambda done: on_progress(0.7 + 0.3 * done))
        return backup.manifest


def copy_database(source: Path, target: Path, on_progress: OnProgress) -> None:
    """Copy a database that others write to, as it is at one moment; raises sqlite3.Error."""
    with closing(sqlite3.connect(source, BUSY_SECONDS)) as old, closing(sqlite3.connect(target)) as new:
        new.execute("PRAGMA synchronous = OFF")  # its bytes are verified, and those of the backup are synced
        if old.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            # One snapshot for all steps, since in this mode readers delay nobody.
            old.execute("BEGIN")
            old.execute("SELECT 1 FROM sqlite_master").fetchone()
        try:
            old.backup(new, pages=PAGES, progress=_Steps(on_progress))
        except _RestartedTooOften:
            old.backup(new)  # in one step, for which writers wait: about a second for each gigabyte
        new.execute("PRAGMA journal_mode = DELETE")  # all of it is in one file


class _RestartedTooOften(Exception):
    """Others write more often than a copy in steps takes."""


class _Steps:
    """Tells the progress after each step, and counts how often SQLite has begun anew."""

    def __init__(self, on_progress: OnProgress):
        self._on_progress = on_progress
        self._remaining, self._restarts = 0, -1

    def __call__(self, status: int, remaining: int, total: int) -> None:
        self._restarts += remaining > self._remaining
        if self._restarts > MAX_RESTARTS:
            raise _RestartedTooOften
        self._remaining = remaining
        self._on_progress(1 - remaining / max(1, total))


def _refuse_existing(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise BackupError(f"{file} exists already")


@contextmanager
def _folder_beside(file: Path) -> Iterator[Path]:
    """Make a folder for unfinished files, on the same file system; remove those of backups that were killed."""
    for leftover in file.parent.glob(f"{TEMPORARY}*"):
        with suppress(OSError), _locked(leftover) as is_left:  # it may be a file, or another user's
            if is_left:
                shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=file.parent) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder; yield whether no other process has locked it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
