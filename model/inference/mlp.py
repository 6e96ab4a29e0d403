"""The network's forward pass where it serves: in numpy, since a web process that imports no torch starts at once and
stays small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# So many weights are gathered at a time: the copy stays in the core's own cache.
PORTION = 70_000


class NumpyMLP:
    """What an MLP computes in eval mode, equal to it within the rounding of float32.

    `layers` are a weight (outputs, inputs) and a bias (outputs,) each, from the pixels to the logits, of any float
    type; they are kept as float32.
    """

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]]):
        self._layers = [
            (np.ascontiguousarray(weight.T, np.float32), np.ascontiguousarray(bias, np.float32))
            for weight, bias in layers
        ]

    def forward_batch(self, images: np.ndarray) -> np.ndarray:
        """Digit images, uint8 (N, 28, 28), to logits, float32 (N, outputs)."""
        x = _SHARES[images.reshape(len(images), -1)]
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self._layers[-1]
        return x @ weight + bias

    def forward_one(self, image: np.ndarray) -> np.ndarray:
        """Logits, float32 (outputs,), of one digit image, uint8 (28, 28).

        The weights of inputs that are zero are not touched: one product with a vector takes as long as it takes to
        fetch the matrix from memory, and four fifths of the pixels have no ink, and most hidden units are off.
        """
        pixels = image.ravel()
        on = pixels.nonzero()[0]
        values = _SHARES[pixels[on]]
        for weight, bias in self._layers:
            x, step = bias.copy(), max(1, PORTION // len(bias))
            for start in range(0, len(on), step):
                x += values[start : start + step] @ weight.take(on[start : start + step], axis=0)
            on = (x > 0).nonzero()[0]
            values = x[on]
        return x


# The share of full ink that each grey value is.
_SHARES = np.arange(256, dtype=np.float32) / np.float32(255)
