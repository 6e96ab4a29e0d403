"""The secret key, which all processes of an installation share.

Set-up creates it: nothing else does, since a command that is run as another user, or in the wrong folder, would leave
one that the servers cannot read. With SQLite they share a disk, and the key is a file there. With PostgreSQL they share
only the database, and the key is a row.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from sqlalchemy import inspect, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from webapp import private_files
from webapp import setting_values as values
from webapp.settings import Settings, SettingsError
from webapp.storage.engine import Database, insert_if_absent
from webapp.storage.schema import Installation

WAIT_SECONDS = 2.0


class NotSetUp(Exception):
    """Set-up has not run on this database yet."""

    def __init__(self):
        super().__init__("the database is not set up yet; `python -m webapp setup` does it")


def create_secret_key(settings: Settings, session: Session) -> None:
    """Create the key unless there is one; `session` excludes other set-ups. Raises OSError or SettingsError."""
    key = secrets.token_hex(32)
    if not _is_embedded(settings):
        insert_if_absent(session, Installation, id=1, secret_key=key)
    elif not settings.secret_key and not _in_file(settings):
        private_files.write(settings.data_dir / "secret_key", key.encode())


def with_secret_key(settings: Settings) -> Settings:
    """Return the settings with the secret key, read from where it is kept if unset.

    Raises NotSetUp, SettingsError if it is damaged or too short, or a database error.
    """
    if settings.secret_key:
        return settings
    key = _in_file(settings) if _is_embedded(settings) else _in_database(settings)
    if not key:
        raise NotSetUp
    return replace(settings, secret_key=key)


def wait_for_secret_key(settings: Settings, say: Callable[[str], object]) -> Settings:
    """Wait until the database is set up and return the settings with the secret key; tell `say` each new reason."""
    said = None
    while True:
        try:
            return with_secret_key(settings)
        except (NotSetUp, OperationalError) as error:
            reason = str(getattr(error, "orig", error)).partition("\n")[0]
        if reason != said:
            say(f"waiting for the database: {reason}")
            said = reason
        time.sleep(WAIT_SECONDS)


def _is_embedded(settings: Settings) -> bool:
    return settings.database_url.startswith("sqlite")


def _in_file(settings: Settings) -> str:
    try:
        return values.secret_key_in(settings.data_dir)
    except ValueError as error:
        raise SettingsError(f"SECRET_KEY {error}") from error


def _in_database(settings: Settings) -> str | None:
    with closing(Database(settings.database_url)) as database, database.reading() as session:
        is_there = inspect(session.connection()).has_table(Installation.__tablename__)
        key = session.scalar(select(Installation.secret_key)) if is_there else None
    try:
        return None if key is None else values.secret_key(key)
    except ValueError as error:
        raise SettingsError(f"SECRET_KEY is not set, and that in the database {error}") from error
