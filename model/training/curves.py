"""Learning curves as CSV. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = "epoch", "train_loss", "validation_loss", "validation_accuracy", "test_accuracy", "seconds"


def to_csv(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of a training's epochs, dicts of `model.training.train.Epoch.as_dict()`, one a line.

    A figure that an epoch does not have is empty. Seconds count from the start of the training.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
