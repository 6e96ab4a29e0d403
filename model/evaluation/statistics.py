"""Statistics of paired comparisons: two versions on equal pictures, each right or wrong.

A picture is *lost* if only the champion is right, *gained* if only the challenger is. The loss is the share of pictures
lost minus that gained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
"""Of one-sided limits: a limit is exceeded by the true value in at most one of twenty cases."""
_NORMAL = NormalDist()
_HALVINGS = 50  # of the interval that holds a limit: as precise as a float


def binomial_p(count: int, total: int, share: float) -> float:
    """Return the probability, 0 to 1, that of `total` at least `count` succeed, each with probability `share`, above 0
    and below 1."""

    def log_p(k: int) -> float:  # in logarithms: the number of ways among a thousand is no float any more
        ways = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        return ways + k * math.log(share) + (total - k) * math.log1p(-share)

    return min(1.0, math.fsum(math.exp(log_p(k)) for k in range(count, total + 1)))


def loss_limit(lost: int, gained: int, count: int) -> float:
    """Return the upper limit of the loss, -1 to 1, with CONFIDENCE, for independent pictures (`count`, at least 1).

    By the score test of Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design" (1998). It holds for few pictures too: of 30, none of them lost or gained, 8 % may be lost.
    """
    z = _NORMAL.inv_cdf(CONFIDENCE)
    low, high = (lost - gained) / count, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(lost, gained, count, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def _score(lost: int, gained: int, count: int, loss: float) -> float:
    """Return Tango's statistic: the distance of the observed loss from a supposed one, in standard errors under it."""
    linear = -lost - gained + (2 * count - lost + gained) * loss
    constant = -gained * loss * (1 - loss)
    share_gained = (math.sqrt(max(linear**2 - 8 * count * constant, 0)) - linear) / (4 * count)
    variance = count * (2 * share_gained + loss * (1 - loss))
    distance = lost - gained - count * loss
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


@dataclass(frozen=True)
class Loss:
    """A mean loss and its standard error; the upper limit and p-value treat it as normally distributed."""

    mean: float
    error: float

    @property
    def limit(self) -> float:
        """The upper limit of the loss with CONFIDENCE."""
        return self.mean + _NORMAL.inv_cdf(CONFIDENCE) * self.error

    @property
    def p(self) -> float:
        """The p-value, 0 to 1, of the one-sided test that nothing is lost."""
        return _NORMAL.cdf(-self.mean / self.error) if self.error else 1.0

    @property
    def gain_p(self) -> float:
        """The p-value, 0 to 1, of the one-sided test that nothing is gained."""
        return Loss(-self.mean, self.error).p


def clustered_loss(losses: np.ndarray, origins: np.ndarray) -> Loss:
    """Return the mean of losses (N,), each -1, 0 or 1, of pictures of which those of one origin (N,) are alike.

    Only origins are independent, so the error is that of sums over them ("cluster-robust"; Liang and Zeger,
    "Longitudinal data analysis using generalized linear models", 1986).
    """
    sums = np.bincount(np.unique(origins, return_inverse=True)[1], losses / len(losses))
    count = len(sums)
    return Loss(float(sums.sum()), float(sums.std() * count / math.sqrt(max(count - 1, 1))))


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which of several tests fail, so that with probability `level` at most any fails where none should.

    Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    failed = [False] * len(p_values)
    for left, place in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
        if p_values[place] > level / left:
            break
        failed[place] = True
    return failed
