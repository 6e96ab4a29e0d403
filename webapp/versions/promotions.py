"""Promotions: the changes of the version in service, one row each."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.exceptions import AppError
from webapp.storage.engine import lock_table
from webapp.storage.schema import Comparison, Promotion, Version, champion_id

BY_RUN, SET_UP = "run ", "set-up"
"""How `Promotion.by` begins where a run promoted its own version; and what it is where the set-up did."""


class VersionRemoved(AppError):
    """A version that is to be put into service was removed."""

    status, code = 404, "not_found"


def record_promotion(session: Session, version_id: int, by: str, why: str) -> bool:
    """Put a version into service in the caller's transaction; return False if it is in service already.

    The table stays locked until the transaction ends, so that `from_id` is the promotion before. Raises VersionRemoved.
    """
    lock_table(session, Promotion)
    if session.scalar(select(Version.removed_at).where(Version.id == version_id)) is not None:
        raise VersionRemoved(f"Version v{version_id} was removed meanwhile.")
    champion = champion_id(session)
    if champion == version_id:
        return False
    session.add(Promotion(version_id=version_id, from_id=champion, by=by, why=why))
    return True


def anchor_of(session: Session) -> Version | None:
    """Return the version that bounds what challengers may lose in a row; None without any promotion.

    It is the one that a person or the release put into service last. A run puts its version into service beside it; who
    rolls back, or recovers, to a version goes back to the anchor that this one had, unless that was
    removed. Before a person has decided anything, it is the first version.
    """
    return session.get(Version, _anchors(session)[0] or 0)


def needed_versions(session: Session) -> dict[int, str]:
    """Return the versions that cannot be removed, each with the code of the reason.

    They are the champion, its anchor, the one that can be rolled back to with the anchor that it then has, and the one
    shipped last, which set-up falls back to. The answer holds as long as the caller's lock of the promotions.
    """
    anchor, anchors = _anchors(session)
    target = roll_back_target(session)
    shipped = session.scalar(select(func.max(Version.id)).where(Version.source == "shipped"))
    reasons = (
        ("shipped", shipped),
        ("roll_back_anchor", anchors.get(target)),
        ("roll_back", target),
        ("anchor", anchor),
        ("champion", champion_id(session)),
    )
    return {version: reason for reason, version in reasons if version is not None}


def _anchors(session: Session) -> tuple[int | None, dict[int | None, int]]:
    """Return the champion's anchor, and that of each version when it went into service last, by their ids."""
    removed = session.scalars(select(Version.id).where(Version.removed_at.is_not(None))).all()
    anchors: dict[int | None, int] = {}
    anchor = None
    for promotion in session.scalars(select(Promotion).order_by(Promotion.id)):
        version = promotion.version_id
        goes_back = promotion.is_roll_back or promotion.by == SET_UP
        if goes_back and version in anchors and anchors[version] not in removed:
            anchor = anchors[version]
        elif anchor is None or not promotion.by.startswith(BY_RUN):
            anchor = version
        anchors[version] = anchor
    return anchor, anchors


def roll_back_target(session: Session) -> int | None:
    """Return the id of the only version that may be rolled back to: the one in service before the latest promotion.

    None if the latest promotion was itself a roll-back, since the next one would go forward again, or if that version
    had failed its comparison: to put such a version into service takes a promotion with a reason.
    """
    latest = session.scalar(select(Promotion).order_by(Promotion.id.desc()).limit(1))
    if latest is None or latest.from_id is None or latest.is_roll_back:
        return None
    passed = session.scalar(select(Comparison.passed).where(Comparison.version_id == latest.from_id))
    return None if passed is False else latest.from_id
