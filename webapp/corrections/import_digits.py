"""Digits of a file become corrections that wait for review.

Everything is decoded and checked before anything is written. Then the digits are stored in short transactions, so that
others can write in between. A process that dies in between leaves some of them; the next attempt adds the rest, since
how many are done is written in the same transactions.
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
from webapp.corrections.store import Corrections, Parts
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import Correction

# Looked through at once for digits that are there already.
LOOKED_AT_ONCE = 2_000


def store(
    database: Database,
    corrections: Corrections,
    bundle: Bundle,
    digest: str,
    at_once: int,
    first: int = 0,
    tell: Callable[[Session, int, int], object] = lambda session, done, added: None,
) -> int:
    """Stores a bundle, group by group, as corrections that wait for review; returns how many are new.

    Those that are there already, with the same label, are left out. A transaction has `at_once` digits: a bundle of no
    more is stored whole or not at all.

    `digest` stands for the file, whose digits are of one source, or of one for each of its groups. An image that is
    there with another label stays in the part, learnt from or held out, that it is in. The `first` digits in this order
    are passed over. `tell` is called in each transaction with how many are done and how many the transaction has added.
    """
    order = np.argsort(bundle.groups, kind="stable")
    there, parts = _There(bundle), Parts()
    there.look_through(database)
    added = 0
    for start in range(first, len(order), at_once):
        began = time.monotonic()
        places = order[start : start + at_once]
        with database.writing() as session:
            lock_table(session, Correction)
            there.look_on(session)
            rows = list(_new_rows(session, corrections, bundle, places.tolist(), digest, there, parts))
            if rows:
                session.execute(insert(Correction), rows)
            tell(session, start + len(places), len(rows))
        added += len(rows)
        if start + len(places) < len(order):
            time.sleep(time.monotonic() - began)  # the others' turn: on SQLite who waits looks only now and then
    return added


class _There:
    """Which corrections there are with the images of a bundle.

    Most are looked through before anything is written, without a lock; within a transaction only those that came since.
    """

    def __init__(self, bundle: Bundle):
        self._numbers: dict[bytes, list[int]] = {image.tobytes(): [] for image in bundle.images}
        self._last = 0

    def look_through(self, database: Database) -> None:
        more = True
        while more:
            with database.reading() as session:
                more = self._look(session)

    def look_on(self, session: Session) -> None:
        while self._look(session):
            pass

    def now(self, session: Session, images: Iterable[bytes]) -> Iterator[Any]:
        """Image, label and part of those with these images, as they are in this transaction; the oldest first."""
        numbers = sorted({number for image in images for number in self._numbers[image]})
        columns = Correction.digit_image, Correction.label, Correction.held_out
        for start in range(0, len(numbers), LOOKED_AT_ONCE):
            these = Correction.id.in_(numbers[start : start + LOOKED_AT_ONCE])
            yield from session.execute(select(*columns).where(these).order_by(Correction.id))

    def _look(self, session: Session) -> bool:
        """Looks at the next ones; returns whether there may be more."""
        newer = select(Correction.id, Correction.digit_image).where(Correction.id > self._last)
        rows = session.execute(newer.order_by(Correction.id).limit(LOOKED_AT_ONCE)).all()
        for number, image in rows:
            if image in self._numbers:
                self._numbers[image].append(number)
            self._last = number
        return len(rows) == LOOKED_AT_ONCE


def _new_rows(
    session: Session,
    corrections: Corrections,
    bundle: Bundle,
    places: list[int],
    digest: str,
    there: _There,
    parts: Parts,
) -> Iterator[dict[str, Any]]:
    images = [bundle.images[place].tobytes() for place in places]
    known, part_of = set(), {}
    for image, label, held_out in there.now(session, images):
        known.add((image, label))
        part_of[image] = held_out
    groups = bundle.groups[places].tolist()
    submitters = {group: corrections.submitter_of(f"import {digest} {group}") for group in set(groups)}
    parts.look(session, set(submitters.values()))
    for place, image, group in zip(places, images, groups, strict=True):
        label = int(bundle.labels[place])
        if (image, label) in known:
            continue
        known.add((image, label))
        held_out = parts.of(submitters[group])  # asked for in any case: the source counts as there from now on
        yield {
            "created_at": time.time(),
            "submitter": submitters[group],
            "receipt_sha256": secrets.token_hex(32),  # of no secret: nobody waits for news of it
            "meant": label,
            "label": label,
            "digit_image": image,
            "picture": bundle.pictures[place],
            "answered": {},
            "held_out": part_of.setdefault(image, held_out),
            "state": "received",
        }
