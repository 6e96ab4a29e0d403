"""The commands `backup` and `restore`: what they tell, and on which database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model.progress import progress_bar
from webapp.settings import Settings
from webapp.setup import postgresql_programs
from webapp.setup.backup import back_up
from webapp.setup.backup_file import BackupError
from webapp.setup.restore import restore
from webapp.storage.installation_lock import database_file


def back_up_to(settings: Settings, file: Path) -> None:
    """Back up an embedded installation; raises BackupError, with PostgreSQL after printing its commands."""
    _leave_to_postgresql(settings, postgresql_programs.backup_commands, file)
    with progress_bar() as move:
        made = back_up(settings, file.absolute(), move)
    print(f"{file}: {file.stat().st_size:,} bytes, schema {made.schema}, verified. It holds secrets: keep it private.")


def restore_from(settings: Settings, file: Path) -> None:
    """Restore an embedded installation; raises InUse, or BackupError, with PostgreSQL after printing its commands."""
    _leave_to_postgresql(settings, postgresql_programs.restore_commands, file)
    print(f"Restoring {file} in place of {database_file(settings)}", flush=True)
    with progress_bar() as move:
        restored = restore(settings, file.absolute(), move)
    print(f"Restored is the backup of {restored.manifest.made_at:%Y-%m-%d %H:%M} UTC; start Inkling as before.")
    if restored.kept:
        print(f"What was there is in {restored.kept}; remove it once all is well.")


def _leave_to_postgresql(settings: Settings, commands: Callable[[Settings, Path], list[str]], file: Path) -> None:
    """Print the commands of PostgreSQL's programs and raise BackupError if it is the database."""
    if database_file(settings) is None:
        print("\n".join(commands(settings, file.absolute())))
        raise BackupError("nothing was done, since the database is PostgreSQL; the commands above do it")
