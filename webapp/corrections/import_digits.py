"""Storage of a file's digits as corrections that wait for review.

Everything is decoded and checked before anything is written. The digits are stored in short transactions, so that
others can write in between. If the process dies, the next attempt adds the rest: the number of digits done is written
in the same transactions.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from webapp.corrections.digit_files import Bundle
from webapp.corrections.store import Corrections, HoldOutAssignment
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import Correction

# The rows read by one query.
ROWS_AT_ONCE = 2_000


def store(
    database: Database,
    corrections: Corrections,
    bundle: Bundle,
    digest: str,
    at_once: int,
    first: int = 0,
    on_progress: Callable[[Session, int, int], object] = lambda session, done, added: None,
) -> int:
    """Store a bundle, group by group, as corrections that wait for review; return how many were added.

    Digits that exist with the same label are left out. One transaction stores `at_once` digits: a bundle of no more is
    stored completely or not at all.

    `digest` identifies the file; each group of its digits is one submitter, and one hand. The `first` digits in this
    order are skipped. `on_progress` is called in each transaction with how many digits are done and how many the
    transaction has added.
    """
    order = np.argsort(bundle.groups, kind="stable")
    existing, assignment = ExistingCorrections(bundle), HoldOutAssignment()
    existing.read_all(database)
    added = 0
    for start in range(first, len(order), at_once):
        began = time.monotonic()
        places = order[start : start + at_once]
        with database.writing() as session:
            lock_table(session, Correction)
            existing.read_new(session)
            rows = list(_new_rows(session, corrections, bundle, places.tolist(), digest, existing, assignment))
            if rows:
                session.execute(insert(Correction), rows)
            on_progress(session, start + len(places), len(rows))
        added += len(rows)
        if start + len(places) < len(order):
            time.sleep(time.monotonic() - began)  # let others write: on SQLite a waiting writer retries only at times
    return added


class ExistingCorrections:
    """The ids of the stored corrections with the images of a bundle.

    Most rows are read before anything is written, without a lock; a transaction reads only those added since.
    """

    def __init__(self, bundle: Bundle):
        self._ids: dict[bytes, list[int]] = {image.tobytes(): [] for image in bundle.images}
        self._last_id = 0

    def read_all(self, database: Database) -> None:
        """Read the stored corrections in short transactions."""
        more = True
        while more:
            with database.reading() as session:
                more = self._read_next(session)

    def read_new(self, session: Session) -> None:
        """Read the corrections added since the last call."""
        while self._read_next(session):
            pass

    def find(self, session: Session, images: Iterable[bytes]) -> Iterator[Any]:
        """Yield digit image and label of the corrections with these images."""
        ids = sorted({each for image in images for each in self._ids[image]})
        for start in range(0, len(ids), ROWS_AT_ONCE):
            these = Correction.id.in_(ids[start : start + ROWS_AT_ONCE])
            yield from session.execute(select(Correction.digit_image, Correction.label).where(these))

    def _read_next(self, session: Session) -> bool:
        """Read one batch of rows; return whether there may be more."""
        newer = select(Correction.id, Correction.digit_image).where(Correction.id > self._last_id)
        rows = session.execute(newer.order_by(Correction.id).limit(ROWS_AT_ONCE)).all()
        for correction_id, image in rows:
            if image in self._ids:
                self._ids[image].append(correction_id)
            self._last_id = correction_id
        return len(rows) == ROWS_AT_ONCE


def _new_rows(
    session: Session,
    corrections: Corrections,
    bundle: Bundle,
    places: list[int],
    digest: str,
    existing: ExistingCorrections,
    assignment: HoldOutAssignment,
) -> Iterator[dict[str, Any]]:
    images = [bundle.images[place].tobytes() for place in places]
    known = {(image, label) for image, label in existing.find(session, images)}
    groups = bundle.groups[places].tolist()
    submitters = {group: corrections.submitter_of(f"import {digest} {group}") for group in set(groups)}
    assignment.read(session, set(submitters.values()))
    for place, image, group in zip(places, images, groups, strict=True):
        label = int(bundle.labels[place])
        if (image, label) in known:
            continue
        known.add((image, label))
        yield {
            "created_at": time.time(),
            "submitter": submitters[group],
            "hand": submitters[group],
            "receipt_sha256": secrets.token_hex(32),  # random: an imported digit has no receipt
            "meant": label,
            "label": label,
            "digit_image": image,
            "picture": bundle.pictures[place],
            "answered": {},
            "held_out": assignment.is_held_out(submitters[group]),
            "state": "received",
        }
