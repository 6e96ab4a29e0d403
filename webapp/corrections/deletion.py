"""Deletion of corrections with all that belongs to them, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from webapp.storage.engine import lock_table
from webapp.storage.schema import Comparison, Correction, Review, Run, RunCorrection


def delete_corrections(session: Session, ids: Collection[int], *which: ColumnElement[bool]) -> int:
    """Delete the corrections that still exist and meet the conditions, their reviews, and their entries in runs and
    comparisons.

    Return their number. If one was the first of its duplicates, the oldest of those that stay becomes the first. They
    wait for review again: reviewers see only the first of duplicates, so nobody has looked at them.
    """
    lock_table(session, Correction)
    found = set(session.scalars(select(Correction.id).where(Correction.id.in_(ids), *which)))
    _remove_from_comparisons(session, found)
    _free_duplicates(session, found)
    session.execute(delete(Correction).where(Correction.id.in_(found)))  # reviews and entries in runs go with them
    return len(found)


def keep_pictures(evidence: dict[str, Any], exists: Callable[[int], bool]) -> dict[str, Any]:
    """Return a comparison's evidence without the pictures of corrections whose id no longer exists."""
    drawings = evidence.get("drawings")
    if drawings is None:
        return evidence
    lists = "gained_pictures", "lost_pictures"
    return evidence | {
        "drawings": drawings | {name: [each for each in drawings[name] if exists(each["number"])] for name in lists}
    }


def _remove_from_comparisons(session: Session, ids: Collection[int]) -> None:
    """Remove corrections from the pictures that versions gained or lost; the counts stay."""
    versions = (
        select(Run.version_id)
        .join(RunCorrection, RunCorrection.run_id == Run.id)
        .where(RunCorrection.correction_id.in_(ids))
    )
    for comparison in session.scalars(select(Comparison).where(Comparison.version_id.in_(versions))):
        comparison.evidence = keep_pictures(comparison.evidence, lambda each: each not in ids)


def _free_duplicates(session: Session, ids: Collection[int]) -> None:
    left = Correction.duplicate_of.in_(ids), Correction.id.not_in(ids)
    duplicates = session.scalars(select(Correction).where(*left).order_by(Correction.id)).all()
    firsts: dict[int | None, Correction] = {}
    for duplicate in duplicates:
        first = firsts.setdefault(duplicate.duplicate_of, duplicate)
        duplicate.duplicate_of = None if duplicate is first else first.id
        duplicate.state, duplicate.label, duplicate.reason = "received", duplicate.meant, None
    session.flush()  # before the deletion, which the foreign key would refuse
    # Earlier releases stored a Review of each duplicate too.
    session.execute(delete(Review).where(Review.correction_id.in_([duplicate.id for duplicate in duplicates])))
