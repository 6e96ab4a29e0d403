"""What a network learns from: MNIST's training digits, and the project's own drawings beside them.

The drawings are made anew every few epochs, so that no two of a long training are the same.
"""

from __future__ import annotations

import torch

from model import drawn
from model.deform import Deformer
from model.mnist import Split
from model.picture import to_tensor

REDRAWN = 10  # epochs
DRAWN_SHARE = 0.4
"""Drawn digits for one of MNIST's; and as many drawings of no digit."""


class Material:
    """Batches of digit images with their labels, 0..9, and 10 up for what is no digit where that is wanted.

    The same arguments give the same batches, in the order in which they are asked for.
    """

    def __init__(self, digits: Split, seed: int, *, deformed: bool, drawn: bool, refused: bool):
        self.digits, self.seed = digits, seed
        self.deformed, self.drawn, self.refused = deformed, drawn, refused
        self.random = torch.Generator().manual_seed(seed)
        self.count = round(len(digits) * DRAWN_SHARE) if drawn else 0
        self.images, self.labels = digits.images, digits.labels
        if not drawn:
            self._prepare(0)

    def __len__(self) -> int:
        return len(self.digits) + self.count * (2 if self.refused else 1)

    def epoch(self, epoch: int, batch_size: int):
        """The batches of the `epoch`th time through everything: images float32 (B, 784), labels int64 (B,)."""
        if self.drawn and (epoch - 1) % REDRAWN == 0:
            self._draw(epoch)
        for index in torch.randperm(len(self.labels), generator=self.random).split(batch_size):
            yield self.batch(index), self.labels[index]

    def _draw(self, epoch: int) -> None:
        seed = self.seed * 1000 + epoch
        parts = [drawn.digits(self.count, seed)]
        if self.refused:
            parts.append(drawn.others(self.count, seed))
        self.images = torch.cat([self.digits.images, *(torch.from_numpy(images) for images, _ in parts)])
        self.labels = torch.cat([self.digits.labels, *(torch.from_numpy(labels) for _, labels in parts)])
        self._prepare(epoch)

    def _prepare(self, epoch: int) -> None:
        if self.deformed:
            self.batch = Deformer(self.images, self.seed * 1000 + epoch).batch
        else:
            self.batch = lambda index: to_tensor(self.images[index])
