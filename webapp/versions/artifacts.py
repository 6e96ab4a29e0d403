"""Artifacts: results computed about a version after its training, one row each (version, kind)."""

from __future__ import annotations

from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Version

# The worker of an unfinished row that has not changed for so long is considered dead.
STALE_SECONDS = 30.0
# The time until a failed artifact is tried again: the data set may be there by then, or enough memory.
RETRY_SECONDS = 300.0


def get_artifact(database: Database, version_id: int, kind: str) -> Artifact:
    """Return the row of a version's artifact; before the first attempt, an unsaved row that waits since the version
    was made."""
    with database.reading() as session:
        row = session.get(Artifact, (version_id, kind))
        if row is None:
            made_at = session.get_one(Version, version_id).created_at
            row = Artifact(version_id=version_id, kind=kind, updated_at=made_at, fraction=0.0)
        return row
