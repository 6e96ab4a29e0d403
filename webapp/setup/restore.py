"""The restoration of a backup in place of an embedded installation, which is kept: all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from webapp import setting_values as values
from webapp.settings import Settings
from webapp.setup.backup_file import BackupError, BackupFile, Manifest, OnProgress, check_database
from webapp.storage.compatibility import known_revisions
from webapp.storage.installation_lock import database_file, exclusive
from webapp.storage.replacement import DATABASE, SECRET_KEY, Replacement


@dataclass(frozen=True)
class Restored:
    manifest: Manifest
    kept: Path | None
    """The folder with the files that were there before."""


def restore(
    settings: Settings,
    file: Path,
    on_progress: OnProgress = lambda done: None,
    environ: Mapping[str, str] = os.environ,
) -> Restored:
    """Verify a backup and put its database and secret key in place; `on_progress` gets fractions.

    Raises BackupError, InUse or OSError; the installation is then as it was, unless the message says otherwise.
    """
    database = database_file(settings)
    assert database, "PostgreSQL has programs for that"
    with BackupFile.open(file) as backup:
        _refuse_other_owner(settings.data_dir, database)
        _refuse_newer(backup.manifest)
        _refuse_key(backup.secret_key, environ.get("SECRET_KEY", ""))
        with exclusive(settings):
            new = Replacement(database, settings.data_dir)
            try:
                new.begin()
                _unpack(backup, new.folder, on_progress)
                kept = new.keep_old()
                new.commit()
            except OSError as error:
                raise BackupError(f"nothing was restored in {database.parent}: {error.strerror}") from error
            finally:
                new.discard()
            new.finish()
    return Restored(backup.manifest, kept)


def _unpack(backup: BackupFile, folder: Path, on_progress: OnProgress) -> None:
    for name in (SECRET_KEY, DATABASE):
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            backup.copy_to(name, target, on_progress if name == DATABASE else lambda done: None)
            target.flush()
            os.fsync(target.fileno())
    if check_database(folder / DATABASE) != backup.manifest.schema:
        raise BackupError("its database has another schema than its manifest says")


def _refuse_newer(manifest: Manifest) -> None:
    if manifest.schema not in known_revisions():
        raise BackupError(
            f"it was made by a newer release of Inkling (schema {manifest.schema}); restore it with that release"
        )


def _refuse_key(key: str, chosen: str) -> None:
    """Refuse a key with which nothing would start. SECRET_KEY, if chosen, replaces such a one and no other."""
    try:
        values.secret_key(key)
        if not key.isascii():  # its file is read as ASCII
            raise ValueError("has characters that are not ASCII")
    except ValueError as error:
        if not chosen:
            how = "set SECRET_KEY to another one, also for web and worker, to restore it"
            raise BackupError(f"its secret key {error}; {how}") from error
    else:
        if chosen not in ("", key):
            raise BackupError(
                "SECRET_KEY is set, and is another one than the key in it: unset it, also for web and worker"
            )


def _refuse_other_owner(*paths: Path) -> None:
    """Web and worker could not open files of another user."""
    for path in paths:
        if path.exists() and path.stat().st_uid != os.geteuid():
            raise BackupError(f"{path} belongs to another user; run this as that user")
