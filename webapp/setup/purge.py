"""The command `python -m webapp purge`: the retention by hand, or a look at what it would remove."""

from __future__ import annotations

from webapp.presentation.wording import removed_rows
from webapp.removal.retention import BY_COMMAND, find_old, remove_old
from webapp.settings import Settings
from webapp.storage.engine import Database


class PurgeRefused(ValueError):
    """Nothing was removed; the message says why."""


def purge(settings: Settings, database: Database, before: int | None, dry_run: bool, say=print) -> None:
    """Remove what is older than `before` days (default: RETENTION_DAYS), or only say how much it is.

    Raises PurgeRefused if neither names any days.
    """
    days = before or settings.retention_days
    if not days:
        raise PurgeRefused("RETENTION_DAYS is 0, which keeps everything: name the days, such as --before 365")
    if dry_run:
        say(f"Older than {days} days: {removed_rows(find_old(database, days).counts)}. Nothing was removed.")
    else:
        say(f"Removed, since older than {days} days: {removed_rows(remove_old(database, days, BY_COMMAND))}.")
