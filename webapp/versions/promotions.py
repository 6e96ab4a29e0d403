"""Promotions: the changes of the version in service, one row each."""

from __future__ import annotations

from sqlalchemy.orm import Session

from webapp.storage.engine import lock_table
from webapp.storage.schema import Promotion, champion_id


def record_promotion(session: Session, version_id: int, by: str, why: str) -> bool:
    """Put a version into service in the caller's transaction; return False if it is in service already.

    The table stays locked until the transaction ends, so that `from_id` is the promotion before.
    """
    lock_table(session, Promotion)
    champion = champion_id(session)
    if champion == version_id:
        return False
    session.add(Promotion(version_id=version_id, from_id=champion, by=by, why=why))
    return True
