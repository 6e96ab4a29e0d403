"""MNIST as tensors: the parts to learn from, to choose by, to judge versions by, and the test set.

The parts are runs of the file's order, so that a writer's digits stay on one side as far as that can be known. In the
file, every other digit (odd positions) comes from pages of one writer after another: for a digit and the next of the
same half, the correlation of the slant is 0.74, and falls to that of strangers (0.2) within about 120 digits. The
other half was shuffled before it was published, and its writers are not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.data.mnist import read_test, read_training
from model.task import GATE_DIGITS, TRAINING_DIGITS, VALIDATION_DIGITS

LEARNT, CHOSEN_BY = TRAINING_DIGITS - VALIDATION_DIGITS - GATE_DIGITS, VALIDATION_DIGITS


@dataclass(frozen=True, eq=False)
class Split:
    """Digits with their labels: images uint8 (N, 28, 28), ink 255 on black 0; labels int64 (N,), 0..9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class Mnist:
    """MNIST's 60,000 training digits in three parts, and its 10,000 test digits.

    50,000 to train on; 5,000 to choose the epoch and to calibrate by (validation); 5,000 that judge a finished version
    and serve nothing else (gate); and the test set, for the final accuracy.
    """

    train: Split
    validation: Split
    gate: Split
    test: Split

    @property
    def all_training(self) -> Split:
        """Return all training digits, those of the validation and the gate too, in the file's order."""
        parts = self.train, self.validation, self.gate
        return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))

    def subset(self, count: int) -> Mnist:
        """Return the first `count` training digits and a fifth as many (at least 100) of each other part."""
        if count < 1:
            raise ValueError(f"a subset needs at least one training digit, not {count}")
        others = max(100, count // 5)
        return Mnist(
            train=self.train.first(count),
            validation=self.validation.first(others),
            gate=self.gate.first(others),
            test=self.test.first(others),
        )


def load(folder: Path | str | None = None) -> Mnist:
    """Read and verify all of MNIST and split it; raises MnistMissing or MnistDamaged."""
    images, labels = read_training(folder)

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))

    chosen, gate = LEARNT, LEARNT + CHOSEN_BY
    return Mnist(
        train=split(images[:chosen], labels[:chosen]),
        validation=split(images[chosen:gate], labels[chosen:gate]),
        gate=split(images[gate:], labels[gate:]),
        test=split(*read_test(folder)),
    )
