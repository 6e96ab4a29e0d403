"""How well a network reads, from its probabilities: accuracy, confused digits, calibration, refusals (numpy alone)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.task import DIGITS, TOP

BINS = 15
NORMAL_QUANTILE = 1.96  # of a 95 % interval
BESIDE = 0.02
"""Share of digits refused at which networks with different thresholds are compared."""


def not_a_digit(outliers: np.ndarray) -> np.ndarray:
    """Return the probability of no digit, float64 (N,), 0 to 1: the sum over the reasons, (N, 4) or (N, 0).

    As `decision.not_a_digit` for many pictures; above a calibration's `refuse_above` they are refused.
    """
    return np.minimum(1, outliers.sum(1, dtype=np.float64))


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share of `count` trials, at least 1 (Wilson, "Probable inference, the law of
    succession, and statistical inference", 1927)."""
    z = NORMAL_QUANTILE**2 / count
    centre = (share + z / 2) / (1 + z)
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / count + z / (4 * count)) / (1 + z)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval_words(low: float, high: float) -> str:
    """Return an interval of shares in per cent, "99.38 to 99.65"."""
    return f"{100 * low:.2f} to {100 * high:.2f}"


@dataclass(frozen=True, eq=False)
class Report:
    """Accuracies, 0 to 1, with their 95 % intervals, and confusion matrix of predictions.

    `per_digit` holds ten accuracies, None where a digit does not occur; `confusion` is int64 (10, 10), rows by true
    digit, columns by predicted digit.
    """

    count: int
    accuracy: float
    top3_accuracy: float
    per_digit: list[float | None]
    confusion: np.ndarray
    interval: tuple[float, float]
    top3_interval: tuple[float, float]
    per_digit_intervals: list[tuple[float, float] | None]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return vars(self) | {
            "confusion": self.confusion.tolist(),
            "interval": list(self.interval),
            "top3_interval": list(self.top3_interval),
            "per_digit_intervals": [found and list(found) for found in self.per_digit_intervals],
        }


def report(probabilities: np.ndarray, labels: np.ndarray) -> Report:
    """Compare probabilities (N, 10) with labels (N,) of 0..9.

    Of equal probabilities the smaller digit is predicted. Where all ten are 0, as for a blank picture, nothing is
    predicted: that is wrong, and in no column of the confusion matrix.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    read = np.asarray(probabilities.any(1))
    right = (ranked == labels[:, None]) & read[:, None]
    confusion = np.zeros((DIGITS, DIGITS), np.int64)
    np.add.at(confusion, (labels[read], ranked[read, 0]), 1)
    occurring = np.bincount(labels, minlength=DIGITS).tolist()
    accuracy, top3 = float(right[:, 0].mean()), float(right[:, :TOP].any(1).mean())
    per_digit = [float(confusion[d, d] / n) if n else None for d, n in enumerate(occurring)]
    return Report(
        count=len(labels),
        accuracy=accuracy,
        top3_accuracy=top3,
        per_digit=per_digit,
        confusion=confusion,
        interval=wilson_interval(accuracy, len(labels)),
        top3_interval=wilson_interval(top3, len(labels)),
        per_digit_intervals=[
            None if share is None else wilson_interval(share, n) for share, n in zip(per_digit, occurring, strict=True)
        ],
    )


@dataclass(frozen=True)
class Bin:
    """Predictions of similar confidence: their number, mean confidence and accuracy, 0 to 1."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram: the bins that are not empty, and the expected calibration error, 0 to 1."""

    error: float
    bins: list[Bin]


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Compare confidence with accuracy: probabilities (N, 10), N at least 1, and labels (N,) of 0..9.

    The bins divide 0 to 1 evenly; the error is the mean gap between their confidence and accuracy, weighted by count
    (Guo et al., "On Calibration of Modern Neural Networks", 2017). Ten zeros are a wrong prediction of confidence 0.
    """
    confidence = probabilities.max(1).astype(float)
    right = (probabilities.argmax(1) == labels) & (confidence > 0)
    # a bin includes its upper edge, so that 1 belongs to the last one
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]
    gaps = sum(one.count * abs(one.confidence - one.accuracy) for one in found)
    return Reliability(gaps / len(labels), found)


def roc_area(inside: np.ndarray, outside: np.ndarray) -> float | None:
    """Return the area under the ROC curve of scores `inside` (N,) and `outside` (M,); None where either is empty.

    That is the probability that one of `outside` is higher than one of `inside`, ties counting half.
    """
    if not (len(inside) and len(outside)):
        return None
    ordered = np.sort(inside)
    below, upto = (np.searchsorted(ordered, outside, side) for side in ("left", "right"))
    return float((below + upto).sum() / (2 * len(inside) * len(outside)))


def refused_beside(inside: np.ndarray, outside: np.ndarray, share: float = BESIDE) -> float | None:
    """Return the share of `outside` (M,) above the lowest threshold that at most `share` of `inside` (N,) exceed.

    None where either is empty.
    """
    if len(inside) == 0 or len(outside) == 0:
        return None
    threshold = np.sort(inside)[len(inside) - 1 - int(share * len(inside))]
    return float((outside > threshold).mean())
