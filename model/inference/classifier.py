"""One loaded version of the MLP, ready to read pictures."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.imaging.normalise import digit_image
from model.inference import weights
from model.inference.decision import Calibration, Verdict, decide, not_a_digit, ranked
from model.inference.mlp import NumpyMLP
from model.task import DIGITS, SIDE, TOP, Reason

SHIPPED = Path(__file__).parent.parent / "shipped" / "mlp.safetensors"


@dataclass(frozen=True)
class Prediction:
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


BLANK = Prediction("blank")


class Classifier:
    """Reads pictures with the weights that `load` returns as safetensors bytes.

    They are loaded at the first reading, or by `warm`, once, however many threads ask at the same time. `version` is
    the name that answers carry. Raises what `load` raises, and WeightsError where its bytes cannot be used.
    """

    def __init__(self, load: Callable[[], bytes], version: str):
        self.version = version
        self._load = load
        self._lock = threading.Lock()
        self._loaded: tuple[NumpyMLP, Calibration] | None = None

    def warm(self) -> tuple[NumpyMLP, Calibration]:
        """Loads the weights and tries them on a few inputs, unless that has been done; returns them."""
        if self._loaded is None:
            with self._lock:
                self._loaded = self._loaded or _checked(self._load())
        return self._loaded

    def predict(self, picture: Image.Image) -> Prediction:
        """The reading of a picture of one digit."""
        return self.read(digit_image(picture))

    def read(self, image: np.ndarray | None) -> Prediction:
        """The reading of what `picture.digit_image` makes of a picture: uint8 (28, 28), or None where it is blank."""
        if image is None:
            return BLANK
        network, calibration = self.warm()
        return _prediction(image, network.forward_one(image).tolist(), calibration)

    def read_all(self, images: Sequence[np.ndarray | None]) -> list[Prediction]:
        """What `read` says of each; together they take less time."""
        inked = [image for image in images if image is not None]
        if not inked:
            return [BLANK] * len(images)
        network, calibration = self.warm()
        logits = iter(network.forward_batch(np.stack(inked)).tolist())
        return [BLANK if image is None else _prediction(image, next(logits), calibration) for image in images]


def try_out(data: bytes) -> None:
    """Checks that these weights can read pictures: all tensors are whole, and a few inputs give finite logits.

    Raises WeightsError where they cannot.
    """
    Classifier(lambda: data, "").warm()


def _prediction(image: np.ndarray, logits: Sequence[float], calibration: Calibration) -> Prediction:
    probabilities, outliers = _softmax(logits[:DIGITS]), _softmax(logits)[DIGITS:]
    verdict, digits, reason = decide(probabilities, outliers, calibration)
    top = tuple([(digit, probabilities[digit]) for digit in ranked(probabilities)[:TOP]])
    return Prediction(verdict, digits, reason, top, probabilities, not_a_digit(outliers), calibration.coverage, image)


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Shares that sum to 1; of so few numbers quicker without numpy."""
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = sum(powers)
    return tuple([power / total for power in powers])


def _checked(data: bytes) -> tuple[NumpyMLP, Calibration]:
    """The network in `data` and its calibration, after it has given finite logits for a few inputs."""
    layers, card = weights.layers(data)
    network = NumpyMLP(layers)
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE), np.uint8)
    with np.errstate(all="ignore"):
        logits = np.concatenate((network.forward_batch(images[1:]), network.forward_one(images[0])[None]))
    if not np.isfinite(logits).all():
        raise weights.WeightsError("the network gives no finite probabilities")
    return network, card.calibration
