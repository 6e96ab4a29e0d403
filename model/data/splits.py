"""MNIST as tensors: the training, validation and test parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.data.mnist import read_test, read_training

VALIDATION_DIGITS = 5_000
VALIDATION_SEED = 1998
"""Seed of the permutation that splits the 60,000 into training and validation digits: fixed, so that the accuracies
of versions compare. (The year of the data set's paper.)"""


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
    """55,000 digits to train on, 5,000 for choices (validation), 10,000 for the final accuracy (test)."""

    train: Split
    validation: Split
    test: Split

    def subset(self, count: int) -> Mnist:
        """Return the first `count` training digits and a fifth as many (at least 100) of each other part."""
        if count < 1:
            raise ValueError(f"a subset needs at least one training digit, not {count}")
        others = max(100, count // 5)
        return Mnist(self.train.first(count), self.validation.first(others), self.test.first(others))


def load(folder: Path | str | None = None) -> Mnist:
    """Read and verify all of MNIST and split it; raises MnistMissing or MnistDamaged."""
    images, labels = read_training(folder)
    order = np.random.default_rng(VALIDATION_SEED).permutation(len(labels))

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))

    validation, train = order[:VALIDATION_DIGITS], order[VALIDATION_DIGITS:]
    return Mnist(
        train=split(images[train], labels[train]),
        validation=split(images[validation], labels[validation]),
        test=split(*read_test(folder)),
    )
