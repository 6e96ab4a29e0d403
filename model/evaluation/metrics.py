"""How well a network reads, from its probabilities: accuracy, confused digits, calibration, refusals (numpy alone)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.task import DIGITS, TOP

BINS = 15
BESIDE = 0.02
"""The share of digits refused at which networks are compared, each having a threshold of its own (calibrate's)."""


def not_a_digit(outliers: np.ndarray) -> np.ndarray:
    """Return float64 (N,), 0 to 1: the probability of no digit, of all reasons (N, 4) or (N, 0) together.

    As `decision.not_a_digit`, of many at once. Refused is what lies above a calibration's `refuse_above`.
    """
    return np.minimum(1, outliers.sum(1, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Report:
    """What a network made of digits whose truth is known; accuracies are 0 to 1.

    `per_digit` holds ten accuracies, None where a digit does not occur; `confusion` is int64 (10, 10),
    its row the true digit, its column the one read.
    """

    count: int
    accuracy: float
    top3_accuracy: float
    per_digit: list[float | None]
    confusion: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return vars(self) | {"confusion": self.confusion.tolist()}


def report(probabilities: np.ndarray, labels: np.ndarray) -> Report:
    """Compare probabilities (N, 10) with labels (N,) of 0..9.

    Between equal probabilities the smaller digit is the one read. Where all ten are 0, as for a blank picture, none is
    read: that is wrong, and in no column of the confusion.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    read = np.asarray(probabilities.any(1))
    right = (ranked == labels[:, None]) & read[:, None]
    confusion = np.zeros((DIGITS, DIGITS), np.int64)
    np.add.at(confusion, (labels[read], ranked[read, 0]), 1)
    occurring = np.bincount(labels, minlength=DIGITS)
    return Report(
        count=len(labels),
        accuracy=float(right[:, 0].mean()),
        top3_accuracy=float(right[:, :TOP].any(1).mean()),
        per_digit=[float(confusion[d, d] / n) if n else None for d, n in enumerate(occurring)],
        confusion=confusion,
    )


@dataclass(frozen=True)
class Bin:
    """Readings of about the same confidence: how many, their mean confidence, and how many are right, 0 to 1."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Whether confidence can be believed: `error` is the expected calibration error, 0 to 1; no bin is empty."""

    error: float
    bins: list[Bin]


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Compare how sure the likeliest digit is with how often it is right: probabilities (N, 10), labels (N,) of 0..9.

    The bins divide 0 to 1 evenly; the error is their gap between confidence and accuracy, weighted by their count
    (Guo et al., "On Calibration of Modern Neural Networks", 2017). Where all ten are 0, nothing is read, which is wrong
    with confidence 0. N is at least 1.
    """
    confidence = probabilities.max(1).astype(float)
    right = (probabilities.argmax(1) == labels) & (confidence > 0)
    # a bin has its upper edge, so that 1 belongs to the last
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]
    gaps = sum(one.count * abs(one.confidence - one.accuracy) for one in found)
    return Reliability(gaps / len(labels), found)


def roc_area(inside: np.ndarray, outside: np.ndarray) -> float | None:
    """Return the probability that one of `outside` has a higher score than one of `inside`, equal ones counting half.

    That is the area under the ROC curve of the scores (N,) and (M,); None where either is empty.
    """
    if not (len(inside) and len(outside)):
        return None
    ordered = np.sort(inside)
    below, upto = (np.searchsorted(ordered, outside, side) for side in ("left", "right"))
    return float((below + upto).sum() / (2 * len(inside) * len(outside)))


def refused_beside(inside: np.ndarray, outside: np.ndarray, share: float = BESIDE) -> float | None:
    """Return how much of `outside`, 0 to 1, the lowest threshold refuses that refuses at most `share` of `inside`.

    Refused is a score above the threshold; scores (N,) and (M,). None where either is empty.
    """
    if len(inside) == 0 or len(outside) == 0:
        return None
    threshold = np.sort(inside)[len(inside) - 1 - int(share * len(inside))]
    return float((outside > threshold).mean())
