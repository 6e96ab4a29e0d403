"""One loaded version of the MLP, ready to read pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from model import picture as road

SHIPPED = Path(__file__).parent / "shipped" / "standard.safetensors"
TOP = 3


@dataclass(frozen=True)
class Reading:
    """What a picture was read as.

    `top` holds the three likeliest digits with their probabilities, best first, `probabilities` all ten (index =
    digit); both are empty for a blank picture. `digit_image` is what the network saw, uint8 (28, 28).
    """

    verdict: Literal["digit", "blank"]
    top: list[tuple[int, float]]
    probabilities: list[float]
    digit_image: np.ndarray | None


BLANK = Reading("blank", [], [], None)


class Recognizer:
    """Reads pictures with the weights that `load` returns as safetensors bytes.

    They are loaded at the first reading, or by `warm`, once, however many threads ask at the same time. `version` is
    the name that answers carry. Raises what `load` raises, and WeightsError where its bytes cannot be used.
    """

    def __init__(self, load: Callable[[], bytes], version: str):
        self.version = version
        self._load = load
        self._lock = threading.Lock()
        self._network = None

    def warm(self) -> None:
        """Loads the weights and tries them on a few inputs, unless that has been done."""
        if self._network is None:
            with self._lock:
                if self._network is None:
                    self._network = _checked_network(self._load())

    def recognize(self, picture: Image.Image) -> Reading:
        """The reading of a picture of one digit."""
        image = road.digit_image(picture)
        if image is None:
            return BLANK
        probabilities = self._probabilities(image)
        best = sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)[:TOP]
        return Reading("digit", [(digit, probabilities[digit]) for digit in best], probabilities, image)

    def _probabilities(self, image: np.ndarray) -> list[float]:
        import torch

        self.warm()
        with torch.inference_mode():
            return self._network(road.to_tensor(image[None])).softmax(1)[0].tolist()


def _checked_network(data: bytes):
    """The network in `data`, after it has given probabilities for a few inputs: finite, of the right shape."""
    import torch

    from model import weights

    network, _ = weights.from_bytes(data)
    inputs = torch.rand(8, 28 * 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        probabilities = network(inputs).softmax(1)
    if probabilities.shape != (8, 10) or not torch.isfinite(probabilities).all():
        raise weights.WeightsError("the network gives no finite probabilities")
    return network
