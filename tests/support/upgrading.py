"""Two releases on one database: trial migrations of a later one, and the release before this one."""

from __future__ import annotations

from collections.abc import Callable

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from webapp.storage.engine import Database


def migrate_further(database: Database, change: Callable[[Operations], object], revision: str = "9999") -> None:
    """Carries out a trial migration, as a release does that this one knows nothing of."""
    with database.engine.begin() as connection:
        change(Operations(MigrationContext.configure(connection)))
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
