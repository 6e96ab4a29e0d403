"""Batches of training data: MNIST's training digits, synthetic pictures, corrections.

Synthetic pictures are drawn anew every few epochs, so that a long training sees many of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from model import seeds
from model.data import synthetic
from model.data.augment import Deformer
from model.data.corrections import Corrections, class_index
from model.data.splits import Split
from model.network.mlp import to_tensor
from model.task import NO_DIGIT

REDRAW_EPOCHS = 30  # not after each: drawing takes longer than an epoch
SYNTHETIC_SHARE = 0.4
"""Synthetic digits per digit of MNIST; as many synthetic non-digits."""
CORRECTIONS_SHARE = 0.1
MAX_COPIES = 100
"""Corrections are repeated in each epoch up to this share of the other data, at most MAX_COPIES times each."""


class Batch(NamedTuple):
    """Digit images, float32 (B, 784), their labels int64 (B,), and which of them are corrections, bool (B,).

    `weight` is this process's share of the whole batch, 0 to 1.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    is_correction: torch.Tensor
    weight: float = 1.0


class TrainingData:
    """Batches of digit images with labels 0..9, and 10 up for non-digits where `refused`.

    `digits` are MNIST's; `drawings` adds synthetic ones, `deformed` augments each picture anew whenever it is used.
    `corrections` are repeated several times an epoch, so that a few dozen have an effect beside MNIST. The random
    numbers of an epoch depend on `seed` and its number alone: equal arguments give equal batches, whichever epochs came
    before.
    """

    def __init__(
        self,
        digits: Split,
        seed: int,
        *,
        deformed: bool,
        drawings: bool,
        refused: bool,
        corrections: Corrections | None = None,
    ):
        self.digits, self.seed, self.deformed, self.refused = digits, seed, deformed, refused
        self.count = round(len(digits) * SYNTHETIC_SHARE) if drawings else 0
        self.fixed = [digits.images], [digits.labels]
        if corrections:
            self._repeat(corrections)
        self.drawn_in: int | None = None
        self._take(*self.fixed)

    def __len__(self) -> int:
        return sum(map(len, self.fixed[1])) + self.count * (2 if self.refused else 1)

    def epoch(self, epoch: int, batch_size: int, rank: int = 0, size: int = 1) -> Iterator[Batch]:
        """Yield all data once, in batches of at most `batch_size`; `epoch` is counted from 1.

        Of each batch, yield the part of process `rank` among `size`: as even as possible.
        """
        first = epoch - (epoch - 1) % REDRAW_EPOCHS
        if self.count and self.drawn_in != first:
            self.draw(first)
        if self.deformer:
            self.deformer.random.manual_seed(seeds.derive_seed("deformation", self.seed, epoch, rank))
        order = torch.Generator().manual_seed(seeds.derive_seed("order", self.seed, epoch))
        # about equally long: batch normalisation refuses a batch of one
        parts = math.ceil(len(self) / batch_size)
        for whole in torch.randperm(len(self), generator=order).tensor_split(parts):
            part = whole.tensor_split(size)[rank]
            inputs, index = self._inputs(part)
            yield Batch(inputs, self.labels[index], self.is_correction[index], len(part) / len(whole))

    def draw(self, epoch: int) -> None:
        """Replace the synthetic pictures by those of this epoch."""
        parts = [synthetic.digits(self.count, seeds.derive_seed("drawn digits", self.seed, epoch))]
        if self.refused:
            parts.append(synthetic.others(self.count, seeds.derive_seed("drawn others", self.seed, epoch)))
        images, labels = self.fixed
        self._take(
            [*images, *(torch.from_numpy(images) for images, _ in parts)],
            [*labels, *(torch.from_numpy(labels) for _, labels in parts)],
        )
        self.drawn_in = epoch

    def _inputs(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pictures at `index` (int64, B), float32 (B, 784), and their index in the order returned."""
        if self.deformer:
            columns, index = self.deformer.batch(index)
            return columns.t().float(), index
        return to_tensor(self.images[index]), index

    def _repeat(self, corrections: Corrections) -> None:
        usable = corrections.labels < (NO_DIGIT + 1 if self.refused else NO_DIGIT)
        images = torch.from_numpy(corrections.images[usable])
        labels = torch.tensor([class_index(label) for label in corrections.labels[usable].tolist()], dtype=torch.int64)
        if len(labels):
            copies = round(len(self) * CORRECTIONS_SHARE / len(labels))
            copies = min(max(copies, 1), MAX_COPIES)
            self.fixed[0].append(images.repeat(copies, 1, 1))
            self.fixed[1].append(labels.repeat(copies))

    def _take(self, images: list[torch.Tensor], labels: list[torch.Tensor]) -> None:
        self.images, self.labels = torch.cat(images), torch.cat(labels)
        self.is_correction = torch.zeros(len(self.labels), dtype=torch.bool)
        self.is_correction[len(self.digits) : sum(map(len, self.fixed[1]))] = True
        self.deformer = Deformer(self.images, self.seed) if self.deformed else None
