"""The commands by which PostgreSQL's own programs back up and restore an installation. No password is in them."""

from __future__ import annotations

import shlex
from pathlib import Path

from sqlalchemy import make_url

from webapp.settings import Settings

SECRETS = ("password", "sslpassword")
KEPT = "before_restore"


def backup_commands(settings: Settings, file: Path) -> list[str]:
    return [
        "# The password: asked for, or in PGPASSWORD or ~/.pgpass.",
        *_about_key(settings),
        f"pg_dump --format=custom --schema=public --file={_quoted(file)} {_address(settings)}",
        f"pg_restore --list {_quoted(file)} >/dev/null && echo complete",
    ]


def restore_commands(settings: Settings, file: Path) -> list[str]:
    """Return commands that put a backup in the place of what is in the database, which is kept in another schema."""
    address = _address(settings)
    return [
        "# End web and worker on every machine first. The password: asked for, or in PGPASSWORD or ~/.pgpass.",
        *_about_key(settings),
        f"psql --set=ON_ERROR_STOP=1 --single-transaction {address}"
        f" --command='ALTER SCHEMA public RENAME TO {KEPT}' --command='CREATE SCHEMA public'",
        "pg_restore --exit-on-error --single-transaction --no-owner --schema=public"
        f" --dbname={address} {_quoted(file)}",
        "# Once all is well:",
        f"psql {address} --command='DROP SCHEMA {KEPT} CASCADE'",
    ]


def _about_key(settings: Settings) -> list[str]:
    """With PostgreSQL the settings have a key only if it is set; else the database has it."""
    return ["# SECRET_KEY is a setting here, and not in the database: keep it too."] if settings.secret_key else []


def _address(settings: Settings) -> str:
    """Return the database's URL as libpq reads it, without a password."""
    url = make_url(settings.database_url).set(drivername="postgresql").difference_update_query(SECRETS)
    return _quoted(url._replace(password=None).render_as_string())


def _quoted(text: object) -> str:
    return shlex.quote(str(text))
