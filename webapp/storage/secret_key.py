"""The secret key, which all processes of an installation share.

With SQLite they share a disk, and the key is a file there (`webapp.settings`). With PostgreSQL they share only the
database, and the key is a row, which set-up inserts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from sqlalchemy import inspect, select
from sqlalchemy.exc import OperationalError

from webapp import setting_values as values
from webapp.settings import Settings, SettingsError
from webapp.storage.engine import Database
from webapp.storage.schema import Installation

WAIT_SECONDS = 2.0


class NotSetUp(Exception):
    """Set-up has not run on this database yet."""

    def __init__(self):
        super().__init__("the database is not set up yet; `python -m webapp setup` does it")


def with_secret_key(settings: Settings) -> Settings:
    """Return the settings with the secret key, read from the database if unset.

    Raises NotSetUp, SettingsError if it is too short, or a database error.
    """
    if settings.secret_key:
        return settings
    with closing(Database(settings.database_url)) as database, database.reading() as session:
        if not inspect(session.connection()).has_table(Installation.__tablename__):
            raise NotSetUp
        key = session.scalar(select(Installation.secret_key))
    if key is None:
        raise NotSetUp
    try:
        return replace(settings, secret_key=values.secret_key(key))
    except ValueError as error:
        raise SettingsError(f"SECRET_KEY is not set, and that in the database {error}") from error


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
