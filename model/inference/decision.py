"""Decide, from the network's probabilities, on a digit, a set of digits, or no digit.

The set is conformal (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005): among pictures like
those of the calibration it holds the true digit in `coverage` of all cases. Calibrated over all pictures, it would
always be the likeliest digit alone, which is right more often than that. So it is calibrated separately (a Mondrian
predictor) for confident predictions, whose likeliest digit is at least as probable as the coverage, and for hesitant
ones, the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from model.task import REASONS, Reason

Verdict = Literal["digit", "unsure", "not_a_digit", "blank"]
Figure = Annotated[int | float, Ge(0), Le(1)]  # int too, so that a card's 0 is written as 0 again


@dataclass(frozen=True)
class Calibration:
    """Thresholds chosen on validation data, 0 to 1.

    A picture is refused when its probability of no digit is above `refuse_above`. `hesitant_mass` and `confident_mass`
    are the most that the probabilities of likelier digits may sum to before a digit of the set (see `digit_set`).
    """

    coverage: Figure = 0.98
    refuse_above: Figure = 1.0
    hesitant_mass: Figure = 0.0
    confident_mass: Figure = 0.0


UNCALIBRATED = Calibration()
"""Refuses nothing and names one digit: for weights whose card has no calibration."""


def ranked(probabilities: Sequence[float]) -> list[int]:
    """Return the digits, likeliest first; of equally likely ones the smaller first."""
    return sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)


def digit_set(probabilities: Sequence[float], calibration: Calibration) -> tuple[int, ...]:
    """Return the conformal set, likeliest first: digits whose likelier ones sum to at most the calibrated mass."""
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
    """Return the probability of no digit, 0 to 1: the sum over the reasons, which rounding may lift above 1."""
    return min(1.0, sum(outliers))


def decide(
    probabilities: Sequence[float], outliers: Sequence[float], calibration: Calibration
) -> tuple[Verdict, tuple[int, ...], Reason | None]:
    """Return the verdict, the digits that it names and, where it is no digit, the reason.

    `probabilities` of the ten digits sum to 1; `outliers` are the probabilities of REASONS, which sum to that of no
    digit (empty for a network that refuses nothing).
    """
    if not_a_digit(outliers) > calibration.refuse_above:
        return "not_a_digit", (), REASONS[max(range(len(outliers)), key=outliers.__getitem__)]
    digits = digit_set(probabilities, calibration)
    return ("digit" if len(digits) == 1 else "unsure"), digits, None
