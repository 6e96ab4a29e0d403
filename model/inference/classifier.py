"""A loaded version of the MLP that reads pictures."""

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
    """The answer to a picture.

    `top` holds the three likeliest digits with their probabilities, best first, `probabilities` all ten (index =
    digit), given that the picture is a digit; both are empty for a blank picture. `digits` are those that the verdict
    names, likeliest first: one for "digit", more for "unsure", none otherwise. `not_a_digit` is the probability of no
    digit, 0 to 1, `reason` the likeliest reason where the verdict says so. `coverage` is the share of hesitant
    predictions whose `digits` hold the true one, 0 to 1; `can_refuse` tells whether the network can tell that a picture
    is no digit. `digit_image` is the network's input, uint8 (28, 28).
    """

    verdict: Verdict
    digits: tuple[int, ...] = ()
    reason: Reason | None = None
    top: tuple[tuple[int, float], ...] = ()
    probabilities: tuple[float, ...] = ()
    not_a_digit: float = 0.0
    coverage: float | None = None
    can_refuse: bool | None = None
    digit_image: np.ndarray | None = None


BLANK = Prediction("blank")


class Classifier:
    """Predicts digits with the weights that `load` returns as safetensors bytes.

    `load` is called once, by the first prediction or `warm`, however many threads ask at the same time; errors that it
    raises go to the caller, as does WeightsError where its bytes cannot be used. `version` is the name that answers
    carry.
    """

    def __init__(self, load: Callable[[], bytes], version: str):
        self.version = version
        self._load = load
        self._lock = threading.Lock()
        self._loaded: tuple[NumpyMLP, weights.ModelCard] | None = None

    @property
    def test_accuracy(self) -> float | None:
        """The share of test digits read right, 0 to 1; None if not measured, or before the weights are loaded."""
        return self._loaded and self._loaded[1].test_accuracy

    def warm(self) -> tuple[NumpyMLP, weights.ModelCard]:
        """Load the weights and check them on a few inputs, unless that has been done; return the network and card."""
        if self._loaded is None:
            with self._lock:
                self._loaded = self._loaded or _load_checked(self._load())
        return self._loaded

    def predict(self, picture: Image.Image) -> Prediction:
        """Predict the digit in a picture."""
        return self.predict_digit_image(digit_image(picture))

    def predict_digit_image(self, image: np.ndarray | None) -> Prediction:
        """Predict the digit in a digit image, uint8 (28, 28), or None for a blank picture."""
        if image is None:
            return BLANK
        network, card = self.warm()
        return _prediction(image, network.forward_one(image).tolist(), card.calibration)

    def predict_digit_images(self, images: Sequence[np.ndarray | None]) -> list[Prediction]:
        """Predict the digits in several digit images at once; as `predict_digit_image` of each."""
        inked = [image for image in images if image is not None]
        if not inked:
            return [BLANK] * len(images)
        network, card = self.warm()
        logits = iter(network.forward_batch(np.stack(inked)).tolist())
        return [BLANK if image is None else _prediction(image, next(logits), card.calibration) for image in images]


def check_weights(data: bytes) -> None:
    """Check that weights can be used: the file is undamaged and gives finite logits; raises WeightsError."""
    Classifier(lambda: data, "").warm()


def _prediction(image: np.ndarray, logits: Sequence[float], calibration: Calibration) -> Prediction:
    probabilities, outliers = _softmax(logits[:DIGITS]), _softmax(logits)[DIGITS:]
    verdict, digits, reason = decide(probabilities, outliers, calibration)
    top = tuple([(digit, probabilities[digit]) for digit in ranked(probabilities)[:TOP]])
    can_refuse = bool(outliers) and calibration.refuse_above < 1
    return Prediction(
        verdict, digits, reason, top, probabilities, not_a_digit(outliers), calibration.coverage, can_refuse, image
    )


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Return the softmax; for so few numbers faster without numpy."""
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = sum(powers)
    return tuple([power / total for power in powers])


def _load_checked(data: bytes) -> tuple[NumpyMLP, weights.ModelCard]:
    """Load a network and its card; raises WeightsError where it gives no finite logits for random inputs."""
    layers, card = weights.layers(data)
    network = NumpyMLP(layers)
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE), np.uint8)
    with np.errstate(all="ignore"):
        logits = np.concatenate((network.forward_batch(images[1:]), network.forward_one(images[0])[None]))
    if not np.isfinite(logits).all():
        raise weights.WeightsError("the network gives no finite probabilities")
    return network, card
