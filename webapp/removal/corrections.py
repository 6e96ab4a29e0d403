"""Removal of corrections: which are meant, what learnt from them, and how they go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from webapp.corrections.deletion import delete_corrections
from webapp.removal.audit import AuditEntry
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database
from webapp.storage.schema import BIGGEST_ROW_ID, Correction, Run, RunCorrection, Version

ROWS_AT_ONCE = 100  # of one transaction: others write in between

NUMBER = re.compile(r"#?([0-9]{1,10})", re.ASCII)
SECRET = re.compile(r"(?:.*/receipts/)?([0-9a-f]{40})(?:[/?#].*)?", re.ASCII)


class Consequences(NamedTuple):
    """What goes with corrections and what stays: their ids, how many their senders have sent in all, how many nearly
    identical ones of others wait for review again, and the versions that learnt from them or were compared by them."""

    ids: Sequence[int]
    of_senders: int
    duplicates: int
    learnt: Sequence[int]
    compared: Sequence[int]


def find_by_words(session: Session, words: str) -> int | None:
    """Return the id of the correction with this receipt's address, secret or number; None if there is none."""
    words = words.strip()
    if (number := NUMBER.fullmatch(words)) and int(number[1]) <= BIGGEST_ROW_ID:
        return session.scalar(select(Correction.id).where(Correction.id == int(number[1])))
    if secret := SECRET.fullmatch(words):
        digest = hashlib.sha256(secret[1].encode()).hexdigest()
        return session.scalar(select(Correction.id).where(Correction.receipt_sha256 == digest))
    return None


def sent_with(session: Session, ids: Collection[int]) -> Sequence[int]:
    """Return the ids of all corrections that came from the senders of these, the oldest first."""
    return session.scalars(select(Correction.id).where(_of_senders(session, ids)).order_by(Correction.id)).all()


def consequences(session: Session, ids: Collection[int]) -> Consequences:
    """Return what the removal of corrections leads to; ids of none are left out."""
    found = session.scalars(select(Correction.id).where(Correction.id.in_(ids)).order_by(Correction.id)).all()
    left = Correction.duplicate_of.in_(found), Correction.id.not_in(found)
    return Consequences(
        found,
        session.scalars(select(func.count()).where(_of_senders(session, found))).one(),
        session.scalars(select(func.count()).where(*left)).one(),
        _used_by(session, found, held_out=False),
        _used_by(session, found, held_out=True),
    )


def remove_corrections(database: Database, ids: Sequence[int], entry: AuditEntry, *which: ColumnElement[bool]) -> int:
    """Remove the corrections that still exist and meet the conditions when their turn comes; return their number.

    Versions that learnt from them stay.
    """
    removed = 0
    for start in range(0, len(ids), ROWS_AT_ONCE):
        removed += write_using_reserve(database, _removal(ids[start : start + ROWS_AT_ONCE], entry, which))
    database.truncate_log()
    return removed


def _removal(ids: Sequence[int], entry: AuditEntry, which: tuple[ColumnElement[bool], ...]) -> Callable[[Session], int]:
    def remove(session: Session) -> int:
        count = delete_corrections(session, ids, *which)
        if count:
            entry.add(session, corrections=count)
        return count

    return remove


def _of_senders(session: Session, ids: Collection[int]) -> ColumnElement[bool]:
    """Return the condition of corrections from the senders of these: their browsers, or their sources in an import.

    Without either, as sent to a release that knew no browsers, a correction stands alone: the digest of its address is
    that of all behind the same router.
    """
    columns = Correction.browser, Correction.submitter, Correction.version_id
    found = session.execute(select(*columns).where(Correction.id.in_(ids)).distinct()).all()
    browsers = {row.browser for row in found if row.browser is not None}
    sources = {row.submitter for row in found if row.version_id is None}
    imported = and_(Correction.version_id.is_(None), Correction.submitter.in_(sources))
    return or_(Correction.browser.in_(browsers), imported, Correction.id.in_(ids))


def _used_by(session: Session, ids: Collection[int], held_out: bool) -> Sequence[int]:
    """Return the versions that are still there whose runs used corrections, or the first of their duplicates."""
    firsts = select(func.coalesce(Correction.duplicate_of, Correction.id)).where(Correction.id.in_(ids))
    return session.scalars(
        select(Version.id)
        .join(Run, Run.version_id == Version.id)
        .join(RunCorrection, RunCorrection.run_id == Run.id)
        .join(Correction, Correction.id == RunCorrection.correction_id)
        .where(Correction.id.in_(firsts), Version.removed_at.is_(None), Correction.held_out == held_out)
        .distinct()
        .order_by(Version.id)
    ).all()
