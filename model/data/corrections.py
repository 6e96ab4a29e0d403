"""Corrections to learn from: digit images with what their authors meant, approved by a reviewer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from model.task import DIGITS, REASONS


@dataclass(frozen=True, eq=False)
class Corrections:
    """Digit images uint8 (N, 28, 28), labels int64 (N,) of 0..9 or NO_DIGIT, and which are held out, bool (N,).

    Those held out are never learnt from: versions are compared by them. `ids` (N,) name them to whoever keeps them.
    """

    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: np.ndarray) -> Corrections:
        """Those at `chosen`, indices or bool (N,)."""
        return Corrections(self.images[chosen], self.labels[chosen], self.held_out[chosen], self.ids[chosen])

    @property
    def to_learn(self) -> Corrections:
        """Those not held out, in an order that does not depend on theirs: the same set gives the same training."""
        names = self._names()
        return self.part(np.array(sorted(np.flatnonzero(~self.held_out).tolist(), key=names.__getitem__), int))

    @property
    def to_compare(self) -> Corrections:
        return self.part(self.held_out)

    def digest(self) -> str:
        """SHA-256, in hex, of images, labels and division, whatever their order: model cards name the set by it."""
        return hashlib.sha256(b"".join(sorted(self._names()))).hexdigest()

    def _names(self) -> list[bytes]:
        """For each a digest of all that counts."""
        rows = zip(self.images, self.labels.tolist(), self.held_out.tolist(), strict=True)
        return [hashlib.sha256(image.tobytes() + bytes((label, held))).digest() for image, label, held in rows]


def class_index(label: int) -> int:
    """The network's output for a label: what a correction calls no digit is unlike any digit, whatever else it is."""
    return label if label < DIGITS else DIGITS + REASONS.index("unlike_any_digit")
