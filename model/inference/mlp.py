"""The MLP's forward pass in numpy: a web process without torch starts at once and stays small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Number of weights gathered at a time, so that the copy stays in the core's cache.
PORTION = 70_000


class NumpyMLP:
    """An MLP in eval mode, equal to the one in torch within float32 rounding.

    `layers` holds a weight (outputs, inputs) and a bias (outputs,) for each layer, from the pixels to the logits, of
    any float type; they are kept as float32.
    """

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]]):
        self._layers = [
            (np.ascontiguousarray(weight.T, np.float32), np.ascontiguousarray(bias, np.float32))
            for weight, bias in layers
        ]

    def forward_batch(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (N, outputs), of digit images uint8 (N, 28, 28)."""
        x = _SHARES[images.reshape(len(images), -1)]
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self._layers[-1]
        return x @ weight + bias

    def forward_one(self, image: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (outputs,), of one digit image, uint8 (28, 28).

        Skip the weights of inputs that are zero: a matrix-vector product takes as long as fetching the matrix from
        memory, four fifths of the pixels have no ink, and most hidden units are zero after ReLU.
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


# Grey value -> ink, 0 to 1.
_SHARES = np.arange(256, dtype=np.float32) / np.float32(255)
