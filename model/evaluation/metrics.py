"""How well a network reads: probabilities, accuracy, per digit and confused pairs, calibration, telling digits from
others, and a sheet to look at.

Only `readings` imports torch; all that judges them needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor

    from model.network.mlp import MLP

from model.task import DIGITS, SIDE, TOP

BATCH = 1_000
BINS = 15
BESIDE = 0.02
"""The share of digits refused at which networks are compared, each having a threshold of its own (calibrate's)."""

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
    return readings(network, images, on_progress)[0]


def readings(
    network: MLP,
    images: np.ndarray | Tensor,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `probabilities` returns, and float32 (N, 4): the probability of each reason why it is no digit.

    The second array is (N, 0) for a network that refuses nothing.
    """
    import torch

    from model.network.mlp import to_tensor

    network.eval()
    found = np.empty((len(images), DIGITS), np.float32)
    outliers = np.empty((len(images), network.outputs - DIGITS), np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            logits = network(to_tensor(images[batch]))
            found[batch] = logits[:, :DIGITS].softmax(1).numpy()
            outliers[batch] = logits.softmax(1)[:, DIGITS:].numpy()
            if on_progress:
                on_progress(min(start + BATCH, len(images)) / len(images))
    return found, outliers


def not_a_digit(outliers: np.ndarray) -> np.ndarray:
    """Return float64 (N,), 0 to 1: the probability of no digit, of all reasons (N, 4) or (N, 0) together.

    As `decision.not_a_digit`, of many at once. Refused is what lies above a calibration's `refuse_above`.
    """
    return np.minimum(1, outliers.sum(1, dtype=np.float64))


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
        return vars(self) | {"confusion": self.confusion.tolist()}


def report(probabilities: np.ndarray, labels: np.ndarray) -> Report:
    """Compare probabilities (N, 10) with labels (N,) of 0..9.

    Between equal probabilities the smaller digit is the one read. Where all ten are 0, as for a blank picture, none is
    read: that is wrong, and in no column of the confusion.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    read = np.asarray(probabilities.any(1))
    right = (ranked == labels[:, None]) & read[:, None]
    confusion = np.zeros((DIGITS, DIGITS), np.int64)
    np.add.at(confusion, (labels[read], ranked[read, 0]), 1)
    occurring = np.bincount(labels, minlength=DIGITS)
    return Report(
        count=len(labels),
        accuracy=float(right[:, 0].mean()),
        top3_accuracy=float(right[:, :TOP].any(1).mean()),
        per_digit=[float(confusion[d, d] / n) if n else None for d, n in enumerate(occurring)],
        confusion=confusion,
    )


@dataclass(frozen=True)
class Bin:
    """Readings of about the same confidence: how many, their mean confidence, and how many are right, 0 to 1."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Whether confidence can be believed: `error` is the expected calibration error, 0 to 1; no bin is empty."""

    error: float
    bins: list[Bin]


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Compare how sure the likeliest digit is with how often it is right: probabilities (N, 10), labels (N,) of 0..9.

    The bins divide 0 to 1 evenly; the error is their gap between confidence and accuracy, weighted by their count
    (Guo et al., "On Calibration of Modern Neural Networks", 2017). Where all ten are 0, nothing is read, which is wrong
    with confidence 0. N is at least 1.
    """
    confidence = probabilities.max(1).astype(float)
    right = (probabilities.argmax(1) == labels) & (confidence > 0)
    # a bin has its upper edge, so that 1 belongs to the last
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]
    gaps = sum(one.count * abs(one.confidence - one.accuracy) for one in found)
    return Reliability(gaps / len(labels), found)


def roc_area(inside: np.ndarray, outside: np.ndarray) -> float | None:
    """Return the probability that one of `outside` has a higher score than one of `inside`, equal ones counting half.

    That is the area under the ROC curve of the scores (N,) and (M,); None where either is empty.
    """
    if not (len(inside) and len(outside)):
        return None
    ordered = np.sort(inside)
    below, upto = (np.searchsorted(ordered, outside, side) for side in ("left", "right"))
    return float((below + upto).sum() / (2 * len(inside) * len(outside)))


def refused_beside(inside: np.ndarray, outside: np.ndarray, share: float = BESIDE) -> float | None:
    """Return how much of `outside`, 0 to 1, the lowest threshold refuses that refuses at most `share` of `inside`.

    Refused is a score above the threshold; scores (N,) and (M,). None where either is empty.
    """
    if len(inside) == 0 or len(outside) == 0:
        return None
    threshold = np.sort(inside)[len(inside) - 1 - int(share * len(inside))]
    return float((outside > threshold).mean())


def contact_sheet(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Image.Image:
    """Return an RGB picture of digit images, ten a row, each over "true/read confidence", in red when wrong.

    images uint8 (N, 28, 28), N at least 1; labels (N,); probabilities (N, 10). They are shown dark on white.
    """
    width, height = SIDE * _SCALE + _GAP, SIDE * _SCALE + _CAPTION + _GAP
    columns, rows = min(len(images), _COLUMNS), -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, (image, label, likely) in enumerate(zip(images, labels, probabilities, strict=True)):
        x, y = _GAP + i % _COLUMNS * width, _GAP + i // _COLUMNS * height
        picture = Image.fromarray(255 - np.asarray(image))
        sheet.paste(picture.resize((SIDE * _SCALE, SIDE * _SCALE), Image.Resampling.BICUBIC), (x, y))
        read = int(likely.argmax())
        caption = f"{int(label)}/{read}  {likely[read]:.0%}"
        draw.text((x + 2, y + SIDE * _SCALE + 2), caption, _RIGHT if read == label else _WRONG, font)
    return sheet
