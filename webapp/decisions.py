"""Decisions about corrections, taken and taken back: rows of what was before, in the transaction of the caller."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from webapp.database import Correction, Review


@dataclass(frozen=True)
class Wish:
    """What is asked for: the corrections `ids` to become `state`, with `label` where that changes.

    `shown` is the state in which they were shown; those that are no longer in it are left alone. None leaves out none.
    """

    ids: tuple[int, ...]
    state: str
    label: int | None
    reason: str | None
    shown: str | None


@dataclass(frozen=True)
class Decided:
    """What became of a wish: the batch that undo goes by, and the numbers of those decided, of those that somebody
    else has decided meanwhile, and of those that are no longer there."""

    batch: str | None
    decided: tuple[int, ...]
    elsewhere: tuple[int, ...]
    gone: tuple[int, ...]


def decide(session: Session, wish: Wish, by: str) -> Decided:
    """Decides about the corrections, each with its twins. One that is so already is not decided again."""
    # Locked, where the database locks rows, so that two decisions at once are taken one after the other.
    asked = session.scalars(select(Correction).where(Correction.id.in_(wish.ids)).with_for_update()).all()
    firsts = {row.id if row.twin_of is None else row.twin_of for row in asked}
    rows = session.scalars(
        select(Correction)
        .where(Correction.id.in_(firsts) | Correction.twin_of.in_(firsts))
        .order_by(Correction.id)
        .with_for_update()
    ).all()
    elsewhere = {row.id for row in rows if wish.shown not in (None, row.state)}
    batch, decided = secrets.token_hex(8), []
    for row in rows:
        if row.id not in elsewhere and _change(session, row, wish, by, batch) and row.twin_of is None:
            decided.append(row.id)
    there = {row.id for row in asked}
    return Decided(
        batch if decided else None,
        tuple(decided),
        tuple(sorted(elsewhere & there)),
        tuple(number for number in wish.ids if number not in there),
    )


def undo(session: Session, batch: str | None) -> tuple[list[int], str] | None:
    """Puts back what a batch of decisions replaced, and forgets it; the numbers, and the state that they are in now.

    A correction about which something else was decided since stays as it is. None where there is no such batch.
    """
    batch = batch or session.scalar(select(Review.batch).order_by(Review.id.desc()).limit(1))
    reviews = session.scalars(select(Review).where(Review.batch == batch).order_by(Review.id)).all()
    if not reviews:
        return None
    rows = {
        row.id: row
        for row in session.scalars(
            select(Correction).where(Correction.id.in_([review.correction_id for review in reviews])).with_for_update()
        )
    }
    undone = []
    for review in reviews:
        row = rows.get(review.correction_id)
        if row is not None and (row.state, row.label, row.reason) == (review.state, review.label, review.reason):
            row.state, row.label, row.reason = review.state_before, review.label_before, review.reason_before
            if row.twin_of is None:
                undone.append(row.id)
    _twins_follow(session, undone)
    session.execute(delete(Review).where(Review.batch == batch))
    return undone, reviews[0].state_before


def _change(session: Session, row: Correction, wish: Wish, by: str, batch: str) -> bool:
    """Decides about one correction and writes down what was before; False where it is so already."""
    before = row.state, row.label, row.reason
    after = wish.state, row.label if wish.label is None else wish.label, wish.reason
    if before == after:
        return False
    row.state, row.label, row.reason = after
    session.add(
        Review(
            batch=batch,
            by=by,
            correction_id=row.id,
            at=time.time(),
            state=after[0],
            label=after[1],
            reason=after[2],
            state_before=before[0],
            label_before=before[1],
            reason_before=before[2],
        )
    )
    return True


def _twins_follow(session: Session, numbers: Iterable[int]) -> None:
    """What came after the decision and was folded into one that is undone goes back with it."""
    twins = session.scalars(select(Correction).where(Correction.twin_of.in_(numbers))).all()
    for twin in twins:
        first = session.get(Correction, twin.twin_of)
        twin.state, twin.label, twin.reason = first.state, first.label, first.reason
