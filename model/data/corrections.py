"""Corrections: digit images with the labels of their authors, approved by a reviewer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from model.task import DIGITS, REASONS


@dataclass(frozen=True, eq=False)
class Corrections:
    """Digit images uint8 (N, 28, 28), labels int64 (N,) of 0..9 or NO_DIGIT, and which are held out, bool (N,).

    Corrections held out are never trained on: versions are compared by them. `ids` (N,) are the caller's.
    """

    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: np.ndarray) -> Corrections:
        """Return the corrections at `chosen`, indices or bool (N,)."""
        return Corrections(self.images[chosen], self.labels[chosen], self.held_out[chosen], self.ids[chosen])

    @property
    def to_learn(self) -> Corrections:
        """Return those not held out, ordered by content: equal sets give equal trainings."""
        names = self._names()
        return self.part(np.array(sorted(np.flatnonzero(~self.held_out).tolist(), key=names.__getitem__), int))

    @property
    def to_compare(self) -> Corrections:
        return self.part(self.held_out)

    def digest(self) -> str:
        """Return the SHA-256, in hex, of images, labels and held_out, in any order: it names the set in model cards."""
        return hashlib.sha256(b"".join(sorted(self._names()))).hexdigest()

    def _names(self) -> list[bytes]:
        """Return a digest of each correction's image, label and held_out."""
        rows = zip(self.images, self.labels.tolist(), self.held_out.tolist(), strict=True)
        return [hashlib.sha256(image.tobytes() + bytes((label, held))).digest() for image, label, held in rows]


def class_index(label: int) -> int:
    """Return the network's class for a label; NO_DIGIT becomes "unlike_any_digit", since authors give no reason."""
    return label if label < DIGITS else DIGITS + REASONS.index("unlike_any_digit")
