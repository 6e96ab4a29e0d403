"""How well a network reads: probabilities, accuracy, per digit and confused pairs, and a sheet to look at.

Only `probabilities` imports torch; a report needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor

    from model.network import MLP

DIGITS = 10
BATCH = 1_000

_SCALE = 3
_CAPTION = 20
_GAP = 6
_COLUMNS = 10
_RIGHT, _WRONG = (30, 30, 30), (176, 32, 32)


def probabilities(
    network: MLP,
    images: np.ndarray | Tensor,
    on_progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Return float32 (N, 10), the softmax of the network's ten digit logits for digit images uint8 (N, 28, 28).

    The network is left in eval mode; `on_progress` is told the fraction done, 0 to 1, after each batch.
    """
    import torch

    from model.picture import to_tensor

    network.eval()
    found = np.empty((len(images), DIGITS), np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            logits = network(to_tensor(images[start : start + BATCH]))
            found[start : start + BATCH] = logits[:, :DIGITS].softmax(1).numpy()
            if on_progress:
                on_progress(min(start + BATCH, len(images)) / len(images))
    return found


@dataclass(frozen=True, eq=False)
class Report:
    """What a network made of digits whose truth is known; accuracies are 0 to 1.

    `per_digit` holds ten accuracies, None where a digit does not occur; `confusion` is int64 (10, 10),
    its row the true digit, its column the one read.
    """

    count: int
    accuracy: float
    top3_accuracy: float
    per_digit: list[float | None]
    confusion: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {
            "count": self.count,
            "accuracy": self.accuracy,
            "top3_accuracy": self.top3_accuracy,
            "per_digit": self.per_digit,
            "confusion": self.confusion.tolist(),
        }


def report(probabilities: np.ndarray, labels: np.ndarray) -> Report:
    """Compare probabilities (N, 10) with labels (N,) of 0..9.

    Between equal probabilities the smaller digit is the one read. Raises ValueError when N is 0 or differs.
    """
    labels = np.asarray(labels)
    if len(labels) == 0 or probabilities.shape != (len(labels), DIGITS):
        raise ValueError(f"{len(labels)} labels do not match probabilities of shape {probabilities.shape}")
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    right = ranked == labels[:, None]
    confusion = np.zeros((DIGITS, DIGITS), np.int64)
    np.add.at(confusion, (labels, ranked[:, 0]), 1)
    occurring = confusion.sum(1)
    return Report(
        count=len(labels),
        accuracy=float(right[:, 0].mean()),
        top3_accuracy=float(right[:, :3].any(1).mean()),
        per_digit=[float(confusion[d, d] / n) if n else None for d, n in enumerate(occurring)],
        confusion=confusion,
    )


def contact_sheet(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Image.Image:
    """Return an RGB picture of digit images, ten a row, each over "true/read confidence", in red when wrong.

    images uint8 (N, 28, 28), N at least 1; labels (N,); probabilities (N, 10). They are shown dark on white.
    """
    width, height = 28 * _SCALE + _GAP, 28 * _SCALE + _CAPTION + _GAP
    columns, rows = min(len(images), _COLUMNS), -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, (image, label, likely) in enumerate(zip(images, labels, probabilities, strict=True)):
        x, y = _GAP + i % _COLUMNS * width, _GAP + i // _COLUMNS * height
        picture = Image.fromarray(255 - np.asarray(image))
        sheet.paste(picture.resize((28 * _SCALE, 28 * _SCALE), Image.Resampling.BICUBIC), (x, y))
        read = int(likely.argmax())
        caption = f"{int(label)}/{read}  {likely[read]:.0%}"
        draw.text((x + 2, y + 28 * _SCALE + 2), caption, _RIGHT if read == label else _WRONG, font)
    return sheet
