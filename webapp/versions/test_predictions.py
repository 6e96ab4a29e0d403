"""The test digits and what the versions read in them, decoded once per process. Numpy only: no tensor comes here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np

from model.data.mnist import read_test
from model.evaluation.metrics import Report, report
from model.task import DIGITS
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.versions.artifacts import look_up

KEPT_VERSIONS = 4

Outcome = Literal["right", "wrong"]
Order = Literal["unsure", "sure"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
ORDERS: tuple[str, ...] = get_args(Order)


class NotComputed(Exception):
    """A version's predictions are not there yet: the worker is at `fraction` (0 to 1).

    `error` says why the worker could not compute them; it tries again after a while.
    """

    def __init__(self, fraction: float, error: str | None):
        super().__init__(error or f"The predictions are at {fraction:.0%}.")
        self.fraction, self.error = fraction, error


@dataclass(frozen=True, eq=False)
class VersionPredictions:
    """What one version reads in the test digits.

    labels uint8 (10000,); probabilities float32 (10000, 10); `digest` names these probabilities, for addresses that may
    be kept for ever.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    digest: str

    @classmethod
    def unpack(cls, labels: np.ndarray, pack: bytes) -> VersionPredictions:
        """From probabilities as the database holds them: float16, row by row."""
        probabilities = np.frombuffer(pack, np.float16).reshape(len(labels), DIGITS).astype(np.float32)
        return cls(labels, probabilities, hashlib.sha256(pack).hexdigest()[:12])

    @cached_property
    def report(self) -> Report:
        return report(self.probabilities, self.labels)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest digit of each picture, the smaller one between equals: int64 (10000,)."""
        return self.probabilities.argmax(1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of each predicted digit: float32 (10000,)."""
        return self.probabilities.max(1)

    @cached_property
    def _orders(self) -> dict[str | None, np.ndarray]:
        # Stable: among equals, such as the many whose confidence rounds to 1, the order of the test set holds.
        return {
            None: np.arange(len(self.labels)),
            "unsure": np.argsort(self.confidence, kind="stable"),
            "sure": np.argsort(-self.confidence, kind="stable"),
        }

    def select(
        self,
        true: int | None = None,
        predicted: int | None = None,
        outcome: Outcome | None = None,
        order: Order | None = None,
    ) -> np.ndarray:
        """The indexes of the pictures that fit every condition given, int64 (n,), in the order of the test set or
        with the least ("unsure") or most ("sure") confident first."""
        fits = np.ones(len(self.labels), bool)
        if true is not None:
            fits &= self.labels == true
        if predicted is not None:
            fits &= self.predicted == predicted
        if outcome is not None:
            fits &= (self.predicted == self.labels) == (outcome == "right")
        ordered = self._orders[order]
        return ordered[fits[ordered]]


class PredictionStore:
    """The test set and the last few versions' readings, as this process has come to know them."""

    def __init__(self, settings: Settings, database: Database):
        self._folder, self._database = settings.mnist_dir, database
        self.readings = lru_cache(KEPT_VERSIONS)(self._readings)

    @cached_property
    def _test_set(self) -> tuple[np.ndarray, np.ndarray]:
        return read_test(self._folder)

    def images(self) -> np.ndarray:
        """The pictures, uint8 (10000, 28, 28), ink 255 on 0; raises MnistMissing."""
        return self._test_set[0]

    def _readings(self, version_id: int) -> VersionPredictions:
        """What a version reads; raises NotComputed or MnistMissing."""
        labels = self._test_set[1]
        row = look_up(self._database, version_id, "predictions")
        if row.result is None:
            raise NotComputed(row.fraction, row.error)
        return VersionPredictions.unpack(labels, row.result)


def pack(probabilities: np.ndarray) -> bytes:
    """Probabilities (N, 10) as they are stored: float16, row by row."""
    return probabilities.astype(np.float16).tobytes()
