"""Corrections: drawings that their authors sent with what they meant. Kept, folded, followed by a receipt, deleted."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Integer, cast, delete, func, select
from sqlalchemy.orm import Session, undefer

from model.evaluation.label_quality import blurred
from model.task import NO_DIGIT, SIDE
from webapp.exceptions import AppError
from webapp.settings import Settings
from webapp.storage.disk_reserve import urgently
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import Comparison, Correction, Review, Run, RunCorrection
from webapp.storage.timestamps import seconds_above

NOT_A_DIGIT = "not_a_digit"

PER_SUBMITTER, SUBMITTER_WINDOW_SECONDS = 60, 3600
IN_ALL, ALL_WINDOW_SECONDS = 2_000, 24 * 3600
MOST_WAITING = 5_000
WAITING_RETRY_SECONDS = 3600

# So many of the latest corrections are looked through for one that is nearly the same.
CANDIDATES = 500
# Cosine of two slightly blurred digit images from which on they count as the same drawing. Saved as a JPEG, reduced
# or drawn with a slightly wider pen, four of five MNIST digits stay above it. Of two different people's digits with the
# same label one pair in 20,000 or fewer is, which makes at most one in 40 look like one of 500 others; only plain
# strokes for a 1 mostly do, and of those the tenth teaches nothing either.
NEARLY_SAME = 0.98

# Every so many submitters one is held out of training, with all that it sends.
HELD_OUT_EVERY = 5


class TooManyCorrections(AppError):
    """A limit is reached; `retry_after` says in how many seconds another correction may be sent."""

    status, code = 429, "too_many_corrections"


class StoredCorrection(NamedTuple):
    """What became of a correction that was sent: its row, the receipt's secret, and whether the row is new."""

    correction: Correction
    secret: str
    is_new: bool


class Corrections:
    """Everything about them is rows in the database, and every decision is taken in the transaction that writes."""

    def __init__(self, database: Database, settings: Settings):
        self._database = database
        self._key = settings.secret_key.encode()

    def add(
        self,
        picture: bytes,
        digit_image: np.ndarray,
        meant: int,
        answered: dict[str, Any],
        version_id: int | None,
        address: str | None,
    ) -> StoredCorrection:
        """Store a correction, or join it to an earlier one.

        `picture` is a PNG of our own making, `digit_image` uint8 (28, 28), `meant` 0 to 9 or NO_DIGIT. A submitter that
        sends an identical drawing again gets the earlier correction back. With another meaning, while that one waits
        for review, the new one replaces it under the same receipt: a misclick put right. It has a number of its own, so
        that a reviewer who still sees the old meaning decides nothing about the new one. A nearly identical drawing, of
        any submitter, becomes a new row, the duplicate of the first: those behind one address need not be one person,
        and each has a receipt of their own. Raises TooManyCorrections.
        """
        submitter = self.submitter_of(address)
        row = Correction(
            created_at=time.time(),
            submitter=submitter,
            meant=meant,
            label=meant,
            digit_image=digit_image.tobytes(),
            picture=picture,
            answered=answered,
            version_id=version_id,
            state="received",
        )
        with self._database.writing() as session:
            lock_table(session, Correction)
            same = Correction.submitter == submitter, Correction.digit_image == row.digit_image
            earlier = session.scalar(select(Correction).where(*same).order_by(Correction.id.desc()).limit(1))
            if earlier is not None and earlier.meant == meant:
                return StoredCorrection(earlier, self._secret(earlier), False)
            put_right = earlier if earlier is not None and earlier.state == "received" else None
            if put_right is not None:
                row.created_at, row.held_out = put_right.created_at, put_right.held_out
                _remove(session, put_right)
            else:
                _check_limits(session, submitter, row.created_at)
                parts = Parts()
                parts.look(session, {submitter})
                row.held_out = parts.of(submitter)
            _join_duplicates(session, row)
            secret = self._secret(row)
            row.receipt_sha256 = _sha256(secret)
            session.add(row)
        return StoredCorrection(row, secret, put_right is None)

    def by_receipt(self, secret: str) -> Correction | None:
        """The correction whose receipt has this secret, with its picture; None where there is none, or no longer."""
        whose = Correction.receipt_sha256 == _sha256(secret)
        with self._database.reading() as session:
            return session.scalar(select(Correction).where(whose).options(undefer(Correction.picture)))

    def delete(self, correction_id: int) -> None:
        """Deletes a correction for good, with its reviews and its places in runs and comparisons; none of that number
        is no error."""

        def do(session: Session) -> None:
            lock_table(session, Correction)
            row = session.get(Correction, correction_id)
            if row is not None:
                _leave_comparisons(session, row)
                _remove(session, row)

        urgently(self._database, do)
        self._empty_log()

    def submitter_of(self, address: str | None) -> str:
        """Who sends, without saying who: a keyed digest of the address, of an IPv6 one's first 64 bits."""
        return self._digest("source", _network(address or ""))[:32]

    def _secret(self, row: Correction) -> str:
        """The secret in the receipt's address: the same for the same row, and not to be found from the row alone."""
        image = hashlib.sha256(row.digit_image).hexdigest()
        return self._digest("receipt", row.submitter, repr(row.created_at), image)[:40]

    def _digest(self, *words: str) -> str:
        return hmac.new(self._key, "\0".join(words).encode(errors="replace"), hashlib.sha256).hexdigest()

    def _empty_log(self) -> None:
        """What was deleted leaves SQLite's write-ahead log too, where there is one and nobody is reading from it."""
        if not self._database.is_postgresql:
            with closing(self._database.engine.raw_connection()) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Parts:
    """Which submitters' corrections are kept out of training: a part stays what it was for the first one.

    It also stays what it was when it was first asked for here.
    """

    def __init__(self):
        self._held_out: dict[str, bool] = {}
        self._submitters = 0

    def look(self, session: Session, submitters: set[str]) -> None:
        """Begins a transaction in which `of` is asked for no others than these."""
        unknown = submitters - self._held_out.keys()
        found = select(Correction.submitter, func.max(cast(Correction.held_out, Integer)))
        held_out = session.execute(found.where(Correction.submitter.in_(unknown)).group_by(Correction.submitter))
        self._held_out |= {submitter: bool(one) for submitter, one in held_out}
        self._submitters = session.scalars(select(func.count(Correction.submitter.distinct()))).one()

    def of(self, submitter: str) -> bool:
        """Whether a submitter's corrections are held out; it counts as there from now on."""
        if submitter not in self._held_out:
            self._submitters += 1
            self._held_out[submitter] = self._submitters % HELD_OUT_EVERY == 0
        return self._held_out[submitter]


def named(label: int) -> int | str:
    """A label as JSON says it."""
    return NOT_A_DIGIT if label == NO_DIGIT else label


def numbered(meaning: int | str) -> int:
    """The label that JSON says so."""
    return NO_DIGIT if isinstance(meaning, str) else meaning


def showing(evidence: dict[str, Any], is_there: Callable[[int], bool]) -> dict[str, Any]:
    """A comparison's evidence with the pictures of those corrections alone that are there, by their numbers."""
    drawings = evidence.get("drawings")
    if drawings is None:
        return evidence
    lists = "gained_pictures", "lost_pictures"
    return evidence | {
        "drawings": drawings | {name: [one for one in drawings[name] if is_there(one["number"])] for name in lists}
    }


def images_of(rows: Sequence[Any]) -> np.ndarray:
    """The digit images of corrections, or of rows that have them: uint8 (N, 28, 28)."""
    return np.frombuffer(b"".join(row.digit_image for row in rows), np.uint8).reshape(-1, SIDE, SIDE).copy()


def image_of(row: Any) -> np.ndarray:
    """The digit image of one: uint8 (28, 28)."""
    return images_of([row])[0]


def similarity(digit_image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How alike a digit image, uint8 (28, 28), is to each of (N, 28, 28): cosines of the blurred ones, 0 to 1, (N,)."""
    images = np.concatenate((digit_image[None], others)).astype(np.float32)
    # Blurred, half a pixel's difference in where a line runs hardly counts.
    flat = blurred(images).reshape(len(images), -1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return flat[1:] @ flat[0]


def _join_duplicates(session: Session, row: Correction) -> None:
    """Makes a new row the duplicate of the latest that is nearly the same, with what was decided on that."""
    firsts = select(Correction.id, Correction.digit_image).where(
        Correction.meant == row.meant, Correction.duplicate_of.is_(None)
    )
    found = session.execute(firsts.order_by(Correction.id.desc()).limit(CANDIDATES)).all()
    if found and (alike := np.flatnonzero(similarity(image_of(row), images_of(found)) >= NEARLY_SAME)).size:
        first = session.get_one(Correction, found[alike[0]].id)
        row.duplicate_of, row.state, row.label, row.reason = first.id, first.state, first.label, first.reason


def _remove(session: Session, row: Correction) -> None:
    """Delete a row; where it was the first of its duplicates, make the oldest of them the first.

    They wait for a review again: of duplicates only the first is shown, so nobody has looked at them. The new first is
    not held out where the row was not: a version has perhaps learnt from that one, and is not to be measured by nearly
    the same drawing.
    """
    joined = Correction.duplicate_of == row.id
    duplicates = session.scalars(select(Correction).where(joined).order_by(Correction.id)).all()
    if duplicates:
        first = duplicates[0]
        first.held_out = first.held_out and row.held_out
        for duplicate in duplicates:
            duplicate.duplicate_of = None if duplicate is first else first.id
            duplicate.state, duplicate.label, duplicate.reason = "received", duplicate.meant, None
        session.flush()  # nothing points to it any more
        # Earlier releases wrote down what was decided about the first as if it had been about each duplicate.
        session.execute(delete(Review).where(Review.correction_id.in_([duplicate.id for duplicate in duplicates])))
    session.delete(row)
    session.flush()


def _leave_comparisons(session: Session, row: Correction) -> None:
    """Takes a row out of the pictures that versions gained or lost; how many there were stays."""
    compared = select(Comparison).join(Run, Run.version_id == Comparison.version_id)
    by_this = compared.join(RunCorrection, RunCorrection.run_id == Run.id).where(RunCorrection.correction_id == row.id)
    for comparison in session.scalars(by_this):
        comparison.evidence = showing(comparison.evidence, lambda number: number != row.id)


def _check_limits(session: Session, submitter: str, now: float) -> None:
    """Raises TooManyCorrections. Imported ones, which no version answered, do not count."""
    sent = Correction.version_id.is_not(None)
    windows = (
        (Correction.submitter == submitter, PER_SUBMITTER, SUBMITTER_WINDOW_SECONDS, "from here"),
        (sent, IN_ALL, ALL_WINDOW_SECONDS, "in all"),
    )
    for condition, limit, window, whose in windows:
        if wait := seconds_above(session, limit, Correction.created_at, window, now, sent, condition):
            raise TooManyCorrections(f"Too many corrections {whose}. Please try again {_in(wait)}.", wait)
    waiting = session.scalars(select(func.count()).where(sent, Correction.state == "received")).one()
    if waiting >= MOST_WAITING:
        message = "Enough corrections wait for review at the moment. Please try again later."
        raise TooManyCorrections(message, WAITING_RETRY_SECONDS)


def _in(seconds: int) -> str:
    if seconds < 120:
        return f"in {seconds} seconds"
    return f"in {-(-seconds // 60)} minutes" if seconds < 7200 else f"in {-(-seconds // 3600)} hours"


def _network(address: str) -> str:
    """The network that an address speaks for: an IPv4 address itself, and of IPv6 the 64 bits that one line has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False) if parsed.version == 6 else parsed)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
