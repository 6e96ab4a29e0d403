"""Answers of versions to the pictures that judge them, each computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.data.corrections import Corrections
from model.data.splits import Split
from model.evaluation import metrics
from model.evaluation.suite import Group
from model.inference import weights
from model.inference.classifier import check_weights
from model.inference.decision import Calibration
from model.network.mlp import MLP
from model.network.predict import predict
from model.network.weights import deserialize
from model.task import DIGITS, NO_DIGIT


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions for N pictures with labels (N,), 0..9 or NO_DIGIT: probabilities (N, 10), that of no digit (N,), and
    which pictures are refused, bool (N,)."""

    probabilities: np.ndarray
    not_a_digit: np.ndarray
    refused: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def read(self) -> np.ndarray:
        """The likeliest digit, or NO_DIGIT where the picture is refused: (N,)."""
        return np.where(self.refused, NO_DIGIT, self.probabilities.argmax(1))

    @property
    def recognised(self) -> np.ndarray:
        """Which pictures are predicted right, whether or not they are refused: bool (N,)."""
        return self.probabilities.argmax(1) == self.labels

    @property
    def right(self) -> np.ndarray:
        """Which pictures are read right, non-digits by refusing them: bool (N,)."""
        return self.read == self.labels


@dataclass(frozen=True, eq=False)
class Pictures:
    """What versions are compared by: gate digits, the suite made from them, and corrections held out or None."""

    digits: Split
    suite: list[Group]
    drawings: Corrections | None


@dataclass(frozen=True, eq=False)
class VersionAnswers:
    """A version's answers to all pictures: those to the suite in the order of its groups.

    `refuses` tells whether the network can refuse, `multiplications` how many a prediction takes, zero inputs included,
    `gate_unseen` whether neither it nor the weights it goes back to have learnt from the gate digits.
    """

    digits: Answers
    suite: list[Answers]
    drawings: Answers | None
    refuses: bool
    multiplications: int
    gate_unseen: bool


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version ready to answer; `multiplications` and `gate_unseen` as in VersionAnswers."""

    network: MLP
    calibration: Calibration
    multiplications: int
    gate_unseen: bool

    @classmethod
    def load(cls, data: bytes) -> LoadedVersion:
        """Load a version; raises WeightsError."""
        check_weights(data)
        network, card = deserialize(data)
        multiplications = sum(weight.size for weight, _ in weights.layers(data)[0])
        return cls(network, card.calibration, multiplications, card.gate_unseen)

    def answer(self, pictures: Pictures) -> VersionAnswers:
        """Predict all pictures; corrections without any drawing have no answers."""
        drawings = pictures.drawings
        return VersionAnswers(
            digits=self._answer(pictures.digits.images.numpy(), pictures.digits.labels.numpy()),
            suite=[self._answer(group.images, group.labels) for group in pictures.suite],
            drawings=self._answer(drawings.images, drawings.labels) if drawings is not None and len(drawings) else None,
            refuses=self.network.outputs > DIGITS,
            multiplications=self.multiplications,
            gate_unseen=self.gate_unseen,
        )

    def _answer(self, images: np.ndarray, labels: np.ndarray) -> Answers:
        probabilities, outliers = predict(self.network, images)
        scores = metrics.not_a_digit(outliers)
        return Answers(probabilities, scores, scores > self.calibration.refuse_above, labels)
