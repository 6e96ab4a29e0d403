"""One loaded version of the MLP, ready to read pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model import picture as road
from model.verdict import DIGITS, TOP, Reason, Verdict, decide, not_a_digit, ranked

SHIPPED = Path(__file__).parent / "shipped" / "mlp.safetensors"


@dataclass(frozen=True)
class Reading:
    """What a picture was read as.

    `top` holds the three likeliest digits with their probabilities, best first, `probabilities` all ten (index =
    digit), given that it is a digit at all; both are empty for a blank picture. `digits` are those that the verdict
    names, likeliest first: one for "digit", more for "unsure", none otherwise. `not_a_digit` is the probability that
    it is none, 0 to 1; `reason` says what it is then. `coverage` is how many hesitant readings' `digits` hold the true
    one, 0 to 1. `digit_image` is what the network saw, uint8 (28, 28).
    """

    verdict: Verdict
    digits: tuple[int, ...] = ()
    reason: Reason | None = None
    top: tuple[tuple[int, float], ...] = ()
    probabilities: tuple[float, ...] = ()
    not_a_digit: float = 0.0
    coverage: float | None = None
    digit_image: np.ndarray | None = None


BLANK = Reading("blank")


class Recognizer:
    """Reads pictures with the weights that `load` returns as safetensors bytes.

    They are loaded at the first reading, or by `warm`, once, however many threads ask at the same time. `version` is
    the name that answers carry. Raises what `load` raises, and WeightsError where its bytes cannot be used.
    """

    def __init__(self, load: Callable[[], bytes], version: str):
        self.version = version
        self._load = load
        self._lock = threading.Lock()
        self._network = self._calibration = None

    def warm(self) -> None:
        """Loads the weights and tries them on a few inputs, unless that has been done."""
        if self._network is None:
            with self._lock:
                if self._network is None:
                    self._network, self._calibration = _checked(self._load())

    def recognize(self, picture: Image.Image) -> Reading:
        """The reading of a picture of one digit."""
        image = road.digit_image(picture)
        return BLANK if image is None else self.read(image)

    def read(self, image: np.ndarray) -> Reading:
        """The reading of a digit image, uint8 (28, 28), as `picture.digit_image` makes it."""
        probabilities, outliers = self._probabilities(image)
        verdict, digits, reason = decide(probabilities, outliers, self._calibration)
        top = tuple((digit, probabilities[digit]) for digit in ranked(probabilities)[:TOP])
        coverage = self._calibration.coverage
        return Reading(verdict, digits, reason, top, probabilities, not_a_digit(outliers), coverage, image)

    def _probabilities(self, image: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The ten digits' probabilities, and those of each reason why it is no digit."""
        import torch

        self.warm()
        with torch.inference_mode():
            logits = self._network(road.to_tensor(image[None]))[0]
            digits, everything = logits[:DIGITS].softmax(0), logits.softmax(0)
        return tuple(digits.tolist()), tuple(everything[DIGITS:].tolist())


def _checked(data: bytes):
    """The network in `data` and its calibration, after it has given finite logits for a few inputs."""
    import torch

    from model import weights

    network, card = weights.from_bytes(data)
    inputs = torch.rand(8, 28 * 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = torch.cat((network(inputs[:7]), network(inputs[7:])))  # one digit goes another way than several
    if logits.shape != (8, card.outputs) or not torch.isfinite(logits).all():
        raise weights.WeightsError("the network gives no finite probabilities")
    return network, card.calibration
