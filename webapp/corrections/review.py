"""Decisions about corrections and their undo, in the caller's transaction; a Review row keeps the values before."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from webapp.storage.engine import lock_table
from webapp.storage.schema import Correction, Review


@dataclass(frozen=True)
class DecisionRequest:
    """A request to set the corrections `ids` to `state`, with `label` unless None.

    `shown` is the state in which the reviewer saw them; those in another state now are not changed. None skips the
    check.
    """

    ids: tuple[int, ...]
    state: str
    label: int | None
    reason: str | None
    shown: str | None


@dataclass(frozen=True)
class DecisionResult:
    """The result of a request: the batch for `undo`, None if nothing was decided, and the ids of the corrections that
    were decided, that somebody else has decided meanwhile, and that do not exist."""

    batch: str | None
    decided: tuple[int, ...]
    elsewhere: tuple[int, ...]
    gone: tuple[int, ...]


def decide(session: Session, asked: DecisionRequest, by: str) -> DecisionResult:
    """Decide about corrections and update their duplicates. One with the same values already is not decided again.

    Of duplicates only the first is shown to the reviewer, so only the first gets a Review.
    """
    lock_table(session, Correction)
    first_of = {row.id: row.duplicate_of or row.id for row in _rows(session, asked.ids)}
    rows = _rows(session, first_of.values())
    elsewhere = {row.id for row in rows if asked.shown not in (None, row.state)}
    batch = secrets.token_hex(8)
    decided = tuple(row.id for row in rows if row.id not in elsewhere and _change(session, row, asked, by, batch))
    _update_duplicates(session, decided)
    return DecisionResult(
        batch if decided else None,
        decided,
        tuple(sorted(each for each, first in first_of.items() if first in elsewhere)),
        tuple(each for each in asked.ids if each not in first_of),
    )


def undo(session: Session, batch: str | None) -> tuple[list[int], str] | None:
    """Undo a batch of decisions and delete its reviews; return the ids that changed and their state now.

    Without `batch`, undo the latest. A correction that was decided again since stays as it is. Return None if there is
    no such batch.
    """
    lock_table(session, Correction)
    batch = batch or session.scalar(select(Review.batch).order_by(Review.id.desc()).limit(1))
    reviews = session.scalars(select(Review).where(Review.batch == batch).order_by(Review.id)).all()
    if not reviews:
        return None
    ids = select(Review.correction_id).where(Review.batch == batch)
    rows = {row.id: row for row in session.scalars(select(Correction).where(Correction.id.in_(ids)))}
    latest = select(func.max(Review.id)).where(Review.correction_id.in_(ids)).group_by(Review.correction_id)
    latest_reviews = set(session.scalars(latest))
    undone = []
    for review in reviews:
        row = rows[review.correction_id]
        unchanged = (row.state, row.label, row.reason) == (review.state, review.label, review.reason)
        if unchanged and review.id in latest_reviews:
            row.state, row.label, row.reason = review.state_before, review.label_before, review.reason_before
            row.decided_at = time.time()
            if row.duplicate_of is None:
                undone.append(row.id)
    _update_duplicates(session, undone)
    session.execute(delete(Review).where(Review.batch == batch))
    return undone, reviews[0].state_before


def _rows(session: Session, ids: Iterable[int]) -> Sequence[Correction]:
    return session.scalars(select(Correction).where(Correction.id.in_(set(ids))).order_by(Correction.id)).all()


def _change(session: Session, row: Correction, asked: DecisionRequest, by: str, batch: str) -> bool:
    """Decide about one correction and add its Review; return False if nothing changes."""
    label = row.label if asked.label is None else asked.label
    if (row.state, row.label, row.reason) == (asked.state, label, asked.reason):
        return False
    before = {"state_before": row.state, "label_before": row.label, "reason_before": row.reason}
    after = {"state": asked.state, "label": label, "reason": asked.reason}
    session.add(Review(batch=batch, by=by, correction_id=row.id, **before, **after))
    row.state, row.label, row.reason = asked.state, label, asked.reason
    row.decided_at = time.time()
    return True


def _update_duplicates(session: Session, ids: Iterable[int]) -> None:
    """Copy state, label and reason of these corrections to their duplicates."""
    for duplicate in session.scalars(select(Correction).where(Correction.duplicate_of.in_(ids))):
        first = session.get_one(Correction, duplicate.duplicate_of)
        duplicate.state, duplicate.label, duplicate.reason = first.state, first.label, first.reason
