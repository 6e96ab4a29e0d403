"""Decisions about corrections, taken and taken back: rows of what was before, in the transaction of the caller."""

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
    """What is asked for: the corrections `ids` to become `state`, with `label` where that changes.

    `shown` is the state in which they were shown; those that are no longer in it are left alone. None leaves out none.
    """

    ids: tuple[int, ...]
    state: str
    label: int | None
    reason: str | None
    shown: str | None


@dataclass(frozen=True)
class DecisionResult:
    """What became of a wish: the batch that undo goes by, and the numbers of those decided, of those that somebody
    else has decided meanwhile, and of those that are no longer there."""

    batch: str | None
    decided: tuple[int, ...]
    elsewhere: tuple[int, ...]
    gone: tuple[int, ...]


def decide(session: Session, wish: DecisionRequest, by: str) -> DecisionResult:
    """Decides about the corrections; their duplicates follow. One that is so already is not decided again.

    Of duplicates the first alone is shown, and a Review says of it alone that somebody looked at it.
    """
    lock_table(session, Correction)
    asked = {row.id: row.duplicate_of or row.id for row in _rows(session, wish.ids)}
    rows = _rows(session, asked.values())
    elsewhere = {row.id for row in rows if wish.shown not in (None, row.state)}
    batch = secrets.token_hex(8)
    decided = tuple(row.id for row in rows if row.id not in elsewhere and _change(session, row, wish, by, batch))
    _duplicates_follow(session, decided)
    return DecisionResult(
        batch if decided else None,
        decided,
        tuple(sorted(number for number, first in asked.items() if first in elsewhere)),
        tuple(number for number in wish.ids if number not in asked),
    )


def undo(session: Session, batch: str | None) -> tuple[list[int], str] | None:
    """Puts back what a batch of decisions replaced, and forgets it; the numbers, and the state that they are in now.

    A correction about which something else was decided since stays as it is. None where there is no such batch.
    """
    lock_table(session, Correction)
    batch = batch or session.scalar(select(Review.batch).order_by(Review.id.desc()).limit(1))
    reviews = session.scalars(select(Review).where(Review.batch == batch).order_by(Review.id)).all()
    if not reviews:
        return None
    numbers = select(Review.correction_id).where(Review.batch == batch)
    rows = {row.id: row for row in session.scalars(select(Correction).where(Correction.id.in_(numbers)))}
    latest = select(func.max(Review.id)).where(Review.correction_id.in_(numbers)).group_by(Review.correction_id)
    last_words = set(session.scalars(latest))
    undone = []
    for review in reviews:
        row = rows[review.correction_id]
        decided = (row.state, row.label, row.reason) == (review.state, review.label, review.reason)
        if decided and review.id in last_words:
            row.state, row.label, row.reason = review.state_before, review.label_before, review.reason_before
            row.decided_at = time.time()
            if row.duplicate_of is None:
                undone.append(row.id)
    _duplicates_follow(session, undone)
    session.execute(delete(Review).where(Review.batch == batch))
    return undone, reviews[0].state_before


def _rows(session: Session, numbers: Iterable[int]) -> Sequence[Correction]:
    return session.scalars(select(Correction).where(Correction.id.in_(set(numbers))).order_by(Correction.id)).all()


def _change(session: Session, row: Correction, wish: DecisionRequest, by: str, batch: str) -> bool:
    """Decides about one correction and writes down what was before; False where it is so already."""
    label = row.label if wish.label is None else wish.label
    if (row.state, row.label, row.reason) == (wish.state, label, wish.reason):
        return False
    before = {"state_before": row.state, "label_before": row.label, "reason_before": row.reason}
    after = {"state": wish.state, "label": label, "reason": wish.reason}
    session.add(Review(batch=batch, by=by, correction_id=row.id, **before, **after))
    row.state, row.label, row.reason = wish.state, label, wish.reason
    row.decided_at = time.time()
    return True


def _duplicates_follow(session: Session, numbers: Iterable[int]) -> None:
    """Twins are what their first is now, also those that came after it was decided about."""
    for duplicate in session.scalars(select(Correction).where(Correction.duplicate_of.in_(numbers))):
        first = session.get_one(Correction, duplicate.duplicate_of)
        duplicate.state, duplicate.label, duplicate.reason = first.state, first.label, first.reason
