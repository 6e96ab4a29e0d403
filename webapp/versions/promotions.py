"""Changes of the version that answers, each one a row: when, by whom or what, from, to and why."""

from __future__ import annotations

from sqlalchemy.orm import Session

from webapp.storage.engine import lock_table
from webapp.storage.schema import Promotion, champion_id


def record_promotion(session: Session, version_id: int, by: str, why: str) -> bool:
    """Puts a version into service within the session's transaction; False, and nothing written, where it is already.

    Until that ends nobody else can, so that each promotion follows upon the one before it.
    """
    lock_table(session, Promotion)
    champion = champion_id(session)
    if champion == version_id:
        return False
    session.add(Promotion(version_id=version_id, from_id=champion, by=by, why=why))
    return True
