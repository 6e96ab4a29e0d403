"""The replacement of an embedded installation's files: all of them or none, at whatever moment the process is killed.

The new files, and links to the old ones, are collected in a folder beside the database. Renaming that folder is the
moment from which the new ones count (`commit`); then they take the places of the old ones (`finish`). If the process is
killed in between, the next one that uses the installation does that (`webapp.storage.installation_lock`).
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from webapp import private_files

DATABASE, SECRET_KEY = "inkling.db", "secret_key"  # their names in the folder
KEPT = "inkling-before-restore-"
JOURNALS = "-wal", "-shm", "-journal"


class Replacement:
    """New files for the database and the secret key. To be used under the exclusive lock."""

    def __init__(self, database: Path, data_dir: Path):
        self._database, self._data_dir = database, data_dir
        self.folder = database.with_name(f"{database.name}-restore")
        """The folder to write DATABASE and SECRET_KEY to, before `commit`."""
        self._committed = database.with_name(f"{database.name}-restored")

    @property
    def is_committed(self) -> bool:
        return self._committed.is_dir()

    def begin(self) -> None:
        """Make the folder, empty; raises OSError."""
        self.discard()
        self.folder.mkdir(0o700)

    def discard(self) -> None:
        """Remove the folder with all that was not committed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep_old(self) -> Path | None:
        """Link the present files into a folder, which `finish` leaves beside the database; return its path then.

        Return None if there is no database: a key alone is no installation.
        """
        if not self._database.exists():
            return None
        kept = self._database.with_name(f"{KEPT}{time.strftime('%Y%m%d-%H%M%SZ', time.gmtime())}")
        while kept.exists():
            kept = kept.with_name(f"{kept.name}-again")
        folder = self.folder / kept.name
        folder.mkdir(0o700)
        for old in (self._database, *self._journals()):
            if old.exists():
                os.link(old, folder / old.name)
        if (key := self._data_dir / SECRET_KEY).exists():
            shutil.copy2(key, folder)  # perhaps from another file system
        return kept

    def commit(self) -> None:
        """Make the new files count: from here on they are the installation, and `finish` may be done by anybody."""
        for folder in (*self.folder.glob(f"{KEPT}*"), self.folder):
            sync(folder)
        self.folder.rename(self._committed)
        sync(self._database.parent)

    def finish(self) -> None:
        """Put committed files into their places. May be repeated after it was interrupted.

        Raises OSError, which says that the new files count all the same.
        """
        try:
            self._move_into_place()
        except OSError as error:
            raise OSError(
                f"{self._database} is restored, but not put into its place yet: {error.strerror}; the next start of "
                "Inkling, or command, does it"
            ) from error

    def _move_into_place(self) -> None:
        new = self._committed / DATABASE
        if new.exists():
            private_files.write(self._data_dir / SECRET_KEY, (self._committed / SECRET_KEY).read_bytes())
            # SQLite would apply them to the new database; the old one has its links to them.
            for journal in self._journals():
                journal.unlink(missing_ok=True)
            # Its messages tell of the old rows. The rows are the truth, and set-up makes the file anew.
            for message_file in ("queue.db", "queue.db-journal"):
                (self._data_dir / message_file).unlink(missing_ok=True)
            new.replace(self._database)
        for kept in self._committed.glob(f"{KEPT}*"):
            kept.rename(self._database.with_name(kept.name))
        sync(self._database.parent)
        shutil.rmtree(self._committed)

    def _journals(self) -> list[Path]:
        return [self._database.with_name(self._database.name + suffix) for suffix in JOURNALS]


def sync(folder: Path) -> None:
    """Wait until the entries of a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
