"""What a network learns from: MNIST's training digits, and the project's own drawings beside them.

The drawings are made anew every few epochs, so that a long training sees many of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from model import chance, drawn
from model.deform import Deformer
from model.mnist import Split
from model.picture import to_tensor

REDRAWN = 20  # epochs: drawing takes about as long as one of them
DRAWN_SHARE = 0.4
"""Drawn digits for one of MNIST's; and as many drawings of no digit."""


class Material:
    """Batches of digit images with their labels, 0..9, and 10 up for what is no digit where `refused` asks for that.

    `digits` are MNIST's; `drawings` says whether drawn ones come beside them, `deformed` whether each picture is
    deformed anew whenever it is seen. The same arguments give the same batches, in the order in which they are asked
    for.
    """

    def __init__(self, digits: Split, seed: int, *, deformed: bool, drawings: bool, refused: bool):
        self.digits, self.seed, self.deformed, self.refused = digits, seed, deformed, refused
        self.random = torch.Generator().manual_seed(seed)
        self.count = round(len(digits) * DRAWN_SHARE) if drawings else 0
        self._take([digits.images], [digits.labels], 0)

    def __len__(self) -> int:
        return len(self.digits) + self.count * (2 if self.refused else 1)

    def epoch(self, epoch: int, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Once through everything, `epoch` counted from 1: images float32 (B, 784), labels int64 (B,)."""
        if self.count and (epoch - 1) % REDRAWN == 0:
            self.draw(epoch)
        for index in torch.randperm(len(self.labels), generator=self.random).split(batch_size):
            yield self.batch(index), self.labels[index]

    def draw(self, epoch: int) -> None:
        """Makes new drawings, those of this epoch."""
        parts = [drawn.digits(self.count, chance.seed("drawn digits", self.seed, epoch))]
        if self.refused:
            parts.append(drawn.others(self.count, chance.seed("drawn others", self.seed, epoch)))
        images = [self.digits.images, *(torch.from_numpy(images) for images, _ in parts)]
        self._take(images, [self.digits.labels, *(torch.from_numpy(labels) for _, labels in parts)], epoch)

    def batch(self, index: torch.Tensor) -> torch.Tensor:
        """The pictures at `index` (int64, B): float32 (B, 784)."""
        return self.deformer.batch(index) if self.deformer else to_tensor(self.images[index])

    def _take(self, images: list[torch.Tensor], labels: list[torch.Tensor], epoch: int) -> None:
        self.images, self.labels = torch.cat(images), torch.cat(labels)
        seed = chance.seed("deformation", self.seed, epoch)
        self.deformer = Deformer(self.images, seed) if self.deformed else None
