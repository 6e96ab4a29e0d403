"""Storage of corrections, drawings with the digit that their authors meant: limits, duplicates, receipts, deletion."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session, undefer

from model.evaluation.label_quality import blurred
from model.task import NO_DIGIT, SIDE
from webapp.corrections.deletion import delete_corrections
from webapp.exceptions import AppError
from webapp.settings import Settings
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import Correction
from webapp.storage.timestamps import seconds_until_below

NOT_A_DIGIT = "not_a_digit"

SUBMITTER_WINDOW_SECONDS = 3600
ALL_WINDOW_SECONDS = 24 * 3600
WAITING_RETRY_SECONDS = 3600

# The number of latest corrections that a new one is compared with to find duplicates.
CANDIDATES = 500
MAX_LISTED = 100
# The cosine of two slightly blurred digit images from which on they are duplicates. Four of five MNIST digits stay
# above it when saved as a JPEG, reduced or drawn with a slightly wider pen. At most one pair in 20,000 of different
# people's digits with the same label is above it, so at most one correction in 40 is taken for a duplicate of one of
# 500 others. Only plain strokes for a 1 mostly are, and many of those add nothing to a training anyway.
NEARLY_SAME = 0.98

# The cosine from which on a run leaves out a drawing as a copy of one held out. At NEARLY_SAME it would leave out two
# of five of the 1s of other people (docs/learning.md).
NEAR_COPY = 0.995
# Images compared at a time: 2,000 x 2,000 cosines are 16 MB.
IMAGES_AT_ONCE = 2_000

# One in this many hands is held out of training, with all its corrections.
HELD_OUT_EVERY = 5


class TooManyCorrections(AppError):
    """A limit is reached; `retry_after` is the number of seconds until another correction may be sent."""

    status, code = 429, "too_many_corrections"


class Limits(NamedTuple):
    """How many corrections a submitter may send in an hour, all may in a day, and how many may wait for review."""

    per_submitter: int
    in_all: int
    waiting: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        per_day = settings.corrections_per_day
        return cls(settings.corrections_per_hour, per_day, per_day * 5 // 2)


class StoredCorrection(NamedTuple):
    """The result of sending a correction: its row, the receipt's secret, and whether it adds to the earlier ones."""

    correction: Correction
    secret: str
    is_new: bool


class OwnCorrection(NamedTuple):
    """A correction with its picture, and its receipt's secret."""

    correction: Correction
    secret: str


class Corrections:
    """Adds, finds and deletes corrections. Limits and duplicates are checked in the transaction that writes."""

    def __init__(self, database: Database, settings: Settings):
        self._database = database
        self._key = settings.secret_key.encode()
        self.limits = Limits.of(settings)

    def add(
        self,
        picture: bytes,
        digit_image: np.ndarray,
        meant: int,
        answered: dict[str, Any],
        version_id: int | None,
        address: str | None,
        browser: str,
        known_browser: bool = True,
    ) -> StoredCorrection:
        """Store a correction, or return an earlier identical one; raises TooManyCorrections.

        `picture` is a PNG that `redraw` encoded, `digit_image` uint8 (28, 28), `meant` 0 to 9 or NO_DIGIT, `browser`
        the token of the sender's browser, `known_browser` whether the request brought it. Only then is it the hand,
        else the submitter is: a sender without cookies would be a new hand each time.

        A browser that sends an identical drawing again gets the earlier correction back. With another meaning, while
        the earlier one waits for review, the new one replaces it under the same receipt (the author corrects a
        misclick). It gets a new id, so that a reviewer who still sees the old meaning cannot decide about the new one.
        An identical drawing of another browser, or a nearly identical one, becomes a new row, a duplicate of the
        first: several people may share one address, and each gets a receipt.
        """
        submitter, pseudonym = self.submitter_of(address), self._browser_of(browser)
        hand = pseudonym if known_browser else submitter
        row = Correction(
            created_at=time.time(),
            submitter=submitter,
            browser=pseudonym,
            hand=hand,
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
            identical = Correction.browser == row.browser, Correction.digit_image == row.digit_image
            earlier = session.scalar(select(Correction).where(*identical).order_by(Correction.id.desc()).limit(1))
            if earlier is not None and earlier.meant == meant:
                return StoredCorrection(earlier, self._secret(earlier), False)
            replaced = earlier if earlier is not None and earlier.state == "received" else None
            if replaced is not None:
                row.created_at, row.hand, row.held_out = replaced.created_at, replaced.hand, replaced.held_out
                row.submitter = replaced.submitter  # the browser's address may have changed
                delete_corrections(session, [replaced.id])
            else:
                _check_limits(session, self.limits, submitter, row.created_at)
                assignment = HoldOutAssignment()
                assignment.read(session, {hand})
                row.held_out = assignment.is_held_out(hand)
            _join_duplicates(session, row)
            secret = self._secret(row)
            row.receipt_sha256 = _sha256(secret)
            session.add(row)
        return StoredCorrection(row, secret, replaced is None)

    def find_by_receipt(self, secret: str) -> Correction | None:
        """Return the correction whose receipt has this secret, with its picture; None if there is none."""
        found = select(Correction).where(Correction.receipt_sha256 == _sha256(secret))
        with self._database.reading() as session:
            return session.scalar(found.options(undefer(Correction.picture)))

    def find_by_browser(self, browser: str) -> list[OwnCorrection]:
        """Return the latest MAX_LISTED corrections that the browser with this token has sent, latest first."""
        found = select(Correction).where(Correction.browser == self._browser_of(browser))
        latest = found.order_by(Correction.created_at.desc(), Correction.id.desc()).limit(MAX_LISTED)
        with self._database.reading() as session:
            rows = session.scalars(latest.options(undefer(Correction.picture))).all()
        return [OwnCorrection(row, self._secret(row)) for row in rows]

    def delete(self, correction_id: int) -> None:
        """Delete a correction, its reviews, and its entries in runs and comparisons; an unknown id is no error."""
        write_using_reserve(self._database, lambda session: delete_corrections(session, [correction_id]))
        self._database.truncate_log()

    def submitter_of(self, address: str | None) -> str:
        """Return the pseudonym of a sender: a keyed digest of the address, for IPv6 of its first 64 bits."""
        return self._digest("source", _network(address or ""))[:32]

    def _browser_of(self, token: str) -> str:
        """Return the pseudonym of a browser: a keyed digest of its token."""
        return self._digest("browser", token)[:32]

    def _secret(self, row: Correction) -> str:
        """Return the secret in the receipt's URL, derived from the row and the secret key."""
        image = hashlib.sha256(row.digit_image).hexdigest()
        browser = () if row.browser is None else (row.browser,)  # of which earlier releases knew nothing
        return self._digest("receipt", row.submitter, repr(row.created_at), image, *browser)[:40]

    def _digest(self, *words: str) -> str:
        return hmac.new(self._key, "\0".join(words).encode(errors="replace"), hashlib.sha256).hexdigest()


class HoldOutAssignment:
    """The assignment of hands to training or hold-out. It never changes for a hand with corrections.

    A hand is told by its browser's pseudonym, or by its submitter's where the browser is not known: many people may
    share one address. Nor does its assignment change, within one instance, once it was returned.
    """

    def __init__(self):
        self._held_out: dict[str, bool] = {}
        self._hands = 0

    def read(self, session: Session, hands: set[str]) -> None:
        """Read the stored assignments; call this in each transaction with all hands that it asks for."""
        unknown = hands - self._held_out.keys()
        side = func.max(cast(Correction.held_out, Integer))
        found = select(Correction.hand, side).where(Correction.hand.in_(unknown)).group_by(Correction.hand)
        self._held_out |= {hand: bool(held_out) for hand, held_out in session.execute(found) if hand is not None}
        self._hands = count_hands(session)

    def is_held_out(self, hand: str) -> bool:
        """Return whether a hand's corrections are held out; a new hand is assigned and counted."""
        if hand not in self._held_out:
            self._hands += 1
            self._held_out[hand] = self._hands % HELD_OUT_EVERY == 0
        return self._held_out[hand]


def count_hands(session: Session) -> int:
    """Return how many hands the corrections come from."""
    return session.scalars(select(func.count(Correction.hand.distinct()))).one()


def hands_to_hold_out(session: Session) -> tuple[int, int] | None:
    """Return from how many hands corrections come, and how many it takes until one is held out.

    None without corrections, or if one is held out already.
    """
    if session.scalar(select(Correction.id).where(Correction.held_out).limit(1)) is not None:
        return None
    hands = count_hands(session)
    return (hands, hands // HELD_OUT_EVERY * HELD_OUT_EVERY + HELD_OUT_EVERY) if hands else None


def label_to_json(label: int) -> int | str:
    """Return a label as in JSON: 0 to 9, or NOT_A_DIGIT."""
    return NOT_A_DIGIT if label == NO_DIGIT else label


def label_from_json(meaning: int | str) -> int:
    """Return the label of a meaning as in JSON."""
    return NO_DIGIT if isinstance(meaning, str) else meaning


def images_of(rows: Sequence[Any]) -> np.ndarray:
    """Return the digit images of corrections, or of rows with that column: uint8 (N, 28, 28)."""
    return np.frombuffer(b"".join(row.digit_image for row in rows), np.uint8).reshape(-1, SIDE, SIDE).copy()


def image_of(row: Any) -> np.ndarray:
    """Return the digit image of a correction: uint8 (28, 28)."""
    return images_of([row])[0]


def near_copies(images: np.ndarray, others: np.ndarray, limit: float = NEAR_COPY) -> np.ndarray:
    """Return which digit images, uint8 (N, 28, 28), are near copies of some of (M, 28, 28): bool (N,)."""
    near = np.zeros(len(images), bool)
    for first in range(0, len(others), IMAGES_AT_ONCE):
        flat = _flattened(others[first : first + IMAGES_AT_ONCE])
        for start in range(0, len(images), IMAGES_AT_ONCE):
            part = slice(start, start + IMAGES_AT_ONCE)
            near[part] |= (_flattened(images[part]) @ flat.T).max(1) >= limit
    return near


def similarity(digit_image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosines of a blurred digit image, uint8 (28, 28), with each of (N, 28, 28): 0 to 1, (N,)."""
    return _flattened(others) @ _flattened(digit_image[None])[0]


def _flattened(images: np.ndarray) -> np.ndarray:
    """Return digit images, uint8 (N, 28, 28), blurred and as unit vectors: float32 (N, 784)."""
    # The blur makes a line's shift by half a pixel hardly count.
    flat = blurred(images.astype(np.float32)).reshape(len(images), -1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return flat


def _join_duplicates(session: Session, row: Correction) -> None:
    """Make a new row the duplicate of the latest nearly identical one, with that one's state, label and reason."""
    firsts = select(Correction.id, Correction.digit_image).where(
        Correction.meant == row.meant, Correction.duplicate_of.is_(None)
    )
    found = session.execute(firsts.order_by(Correction.id.desc()).limit(CANDIDATES)).all()
    if found and (alike := np.flatnonzero(similarity(image_of(row), images_of(found)) >= NEARLY_SAME)).size:
        first = session.get_one(Correction, found[alike[0]].id)
        row.duplicate_of, row.state, row.label, row.reason = first.id, first.state, first.label, first.reason


def _check_limits(session: Session, limits: Limits, submitter: str, now: float) -> None:
    """Raise TooManyCorrections over a limit. Imported corrections, which no version answered, do not count."""
    sent = Correction.version_id.is_not(None)
    windows = (
        (Correction.submitter == submitter, limits.per_submitter, SUBMITTER_WINDOW_SECONDS, "from here"),
        (sent, limits.in_all, ALL_WINDOW_SECONDS, "in all"),
    )
    for condition, limit, window, whose in windows:
        if wait := seconds_until_below(session, limit, Correction.created_at, window, now, sent, condition):
            raise TooManyCorrections(f"Too many corrections {whose}. Please try again {_in(wait)}.", wait)
    waiting = session.scalars(select(func.count()).where(sent, Correction.state == "received")).one()
    if waiting >= limits.waiting:
        message = "Enough corrections wait for review at the moment. Please try again later."
        raise TooManyCorrections(message, WAITING_RETRY_SECONDS)


def _in(seconds: int) -> str:
    if seconds < 120:
        return f"in {seconds} seconds"
    return f"in {-(-seconds // 60)} minutes" if seconds < 7200 else f"in {-(-seconds // 3600)} hours"


def _network(address: str) -> str:
    """Return the network of a sender: the IPv4 address itself, or the /64 of an IPv6 address, as one line usually has.

    An address that cannot be parsed is returned as it is.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False) if parsed.version == 6 else parsed)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
