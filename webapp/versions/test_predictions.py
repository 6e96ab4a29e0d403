"""The test digits and the versions' predictions for them, decoded once per process, in numpy only."""

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
from webapp.versions.artifacts import get_artifact

KEPT_VERSIONS = 4

Outcome = Literal["right", "wrong"]
Order = Literal["unsure", "sure"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
ORDERS: tuple[str, ...] = get_args(Order)


class NotComputed(Exception):
    """A version's predictions are not stored yet: `fraction` of them (0 to 1) are computed.

    `error` is the reason why the worker could not compute them; it tries again after RETRY_SECONDS.
    """

    def __init__(self, fraction: float, error: str | None):
        super().__init__(error or f"The predictions are at {fraction:.0%}.")
        self.fraction, self.error = fraction, error


@dataclass(frozen=True, eq=False)
class VersionPredictions:
    """One version's predictions for the test digits.

    labels uint8 (10000,); probabilities float32 (10000, 10); `digest` identifies the probabilities in URLs that may be
    cached for ever.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    digest: str

    @classmethod
    def unpack(cls, labels: np.ndarray, pack: bytes) -> VersionPredictions:
        """Decode stored probabilities: float16, row by row."""
        probabilities = np.frombuffer(pack, np.float16).reshape(len(labels), DIGITS).astype(np.float32)
        return cls(labels, probabilities, hashlib.sha256(pack).hexdigest()[:12])

    @cached_property
    def report(self) -> Report:
        return report(self.probabilities, self.labels)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable digit of each picture, the smaller one of equals: int64 (10000,)."""
        return self.probabilities.argmax(1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of each predicted digit: float32 (10000,)."""
        return self.probabilities.max(1)

    @cached_property
    def _orders(self) -> dict[str | None, np.ndarray]:
        # Stable: equals, such as the many whose confidence rounds to 1, stay in the order of the test set.
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
        """Return the indexes of the pictures that meet all given conditions, int64 (n,), in the order of the test set
        or with the least ("unsure") or most ("sure") confident first."""
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
    """A cache of the test set and of the predictions of the versions used last."""

    def __init__(self, settings: Settings, database: Database):
        self._folder, self._database = settings.mnist_dir, database
        self.readings = lru_cache(KEPT_VERSIONS)(self._readings)

    @cached_property
    def _test_set(self) -> tuple[np.ndarray, np.ndarray]:
        return read_test(self._folder)

    def images(self) -> np.ndarray:
        """Return the pictures, uint8 (10000, 28, 28), ink 255 on 0; raises MnistMissing."""
        return self._test_set[0]

    def _readings(self, version_id: int) -> VersionPredictions:
        """Return a version's predictions; raises NotComputed or MnistMissing."""
        labels = self._test_set[1]
        row = get_artifact(self._database, version_id, "predictions")
        if row.result is None:
            raise NotComputed(row.fraction, row.error)
        return VersionPredictions.unpack(labels, row.result)


def pack(probabilities: np.ndarray) -> bytes:
    """Encode probabilities (N, 10) for the database: float16, row by row."""
    return probabilities.astype(np.float16).tobytes()
