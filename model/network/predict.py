"""Run the network in torch over many digit images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from model.network.mlp import MLP, to_tensor
from model.task import DIGITS

BATCH = 1_000


def digit_probabilities(
    network: MLP,
    images: np.ndarray | torch.Tensor,
    on_progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Return the first array of `predict`, float32 (N, 10)."""
    return predict(network, images, on_progress)[0]


def predict(
    network: MLP,
    images: np.ndarray | torch.Tensor,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's probabilities for digit images uint8 (N, 28, 28), two arrays of float32.

    The first is (N, 10), the softmax of the digits' logits alone: each digit's probability, given that it is a digit.
    The second is (N, 4), or (N, 0) for a network that refuses nothing: the probability of each of REASONS, in the
    softmax of all logits. The network is left in eval mode; `on_progress` gets the fraction done, 0 to 1, after each
    batch.
    """
    network.eval()
    probabilities = np.empty((len(images), DIGITS), np.float32)
    outliers = np.empty((len(images), network.outputs - DIGITS), np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            logits = network(to_tensor(images[batch]))
            probabilities[batch] = logits[:, :DIGITS].softmax(1).numpy()
            outliers[batch] = logits.softmax(1)[:, DIGITS:].numpy()
            if on_progress:
                on_progress(min(start + BATCH, len(images)) / len(images))
    return probabilities, outliers
