"""Artifacts: results computed about a version after its training, one row each (version, kind)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Version

if TYPE_CHECKING:
    pass


def look_up(database: Database, version_id: int, kind: str) -> Artifact:
    """The row of a version's computation; before a worker has begun it, one that waits since the version was made."""
    with database.reading() as session:
        row = session.get(Artifact, (version_id, kind))
        if row is None:
            made_at = session.get_one(Version, version_id).created_at
            row = Artifact(version_id=version_id, kind=kind, updated_at=made_at, fraction=0.0)
        return row


# A row that has not moved for so long has lost its worker.
STALE_SECONDS = 30.0
# Until one that failed is tried again: the data set may be there by then, or the memory.
AGAIN_SECONDS = 300.0
