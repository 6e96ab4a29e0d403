"""From what the network says to an honest answer: a digit, a set of digits, or no digit at all.

The set of digits is conformal (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005): among
pictures like those it was calibrated on, it holds the true digit in `coverage` of all cases. Calibrated over all
pictures alike, such a set is idle, since the likeliest digit alone is right more often than that. So it is calibrated
twice (a Mondrian predictor): for the readings whose first digit is at least as probable as the coverage, which need
no company, and for the hesitant rest, where the promise is worth something.

Numbers only, no tensors: the web page decides with it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from model.task import REASONS, Reason

Verdict = Literal["digit", "unsure", "not_a_digit", "blank"]
Figure = Annotated[int | float, Ge(0), Le(1)]  # a card's 0 stays a 0


@dataclass(frozen=True)
class Calibration:
    """Thresholds chosen on validation data; every figure is 0 to 1.

    A picture is refused when its probability of being no digit is above `refuse_above`. `hesitant_mass` and
    `confident_mass` bound the probability that may stand before a digit of the set (see `digit_set`).
    """

    coverage: Figure = 0.98
    refuse_above: Figure = 1.0
    hesitant_mass: Figure = 0.0
    confident_mass: Figure = 0.0


UNCALIBRATED = Calibration()
"""Neither refuses nor hesitates: for weights whose card says nothing."""


def ranked(probabilities: Sequence[float]) -> list[int]:
    """The digits, likeliest first; between equal ones the smaller first."""
    return sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)


def digit_set(probabilities: Sequence[float], calibration: Calibration) -> tuple[int, ...]:
    """The digits that the true one is among, likeliest first: each has at most the calibrated probability before it."""
    order = ranked(probabilities)
    confident = probabilities[order[0]] >= calibration.coverage
    most = calibration.confident_mass if confident else calibration.hesitant_mass
    found, before = [], 0.0
    for digit in order:
        if before > most:
            break
        found.append(digit)
        before += probabilities[digit]
    return tuple(found)


def not_a_digit(outliers: Sequence[float]) -> float:
    """The probability of no digit, 0 to 1: that of all reasons, which float32 lets add up to a little more than 1."""
    return min(1.0, sum(outliers))


def decide(
    probabilities: Sequence[float], outliers: Sequence[float], calibration: Calibration
) -> tuple[Verdict, tuple[int, ...], Reason | None]:
    """The verdict, the digits that it names and, where it is no digit, the reason.

    `probabilities` are the ten digits' and sum to 1; `outliers` are those of each of REASONS, their sum being the
    probability that the picture is no digit (empty for a network that refuses nothing).
    """
    if not_a_digit(outliers) > calibration.refuse_above:
        return "not_a_digit", (), REASONS[max(range(len(outliers)), key=outliers.__getitem__)]
    digits = digit_set(probabilities, calibration)
    return ("digit" if len(digits) == 1 else "unsure"), digits, None
