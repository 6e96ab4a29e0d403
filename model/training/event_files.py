"""Learning curves as TensorBoard's event files. Needs the package tensorboard, an extra of the requirements."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from model.training.train import Epoch

TAGS = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/validation": "validation_accuracy",
    "accuracy/test": "test_accuracy",
}


class EventFile:
    """A file of scalars in a folder that TensorBoard reads while it grows.

    A training that resumes adds another file with the epochs that the first one lacks.
    """

    def __init__(self, folder: Path):
        self._writer = SummaryWriter(str(folder))

    def add(self, epoch: Epoch) -> None:
        """Write the figures of an epoch."""
        for tag, name in TAGS.items():
            if (value := getattr(epoch, name)) is not None:
                self._writer.add_scalar(tag, value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
