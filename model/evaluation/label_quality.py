"""Suspicion of labels: how likely a correction's label is wrong, 0 to 1.

The product of the doubts, each 0 to 1, of two estimates that err in different ways:

- the network doubts a label by 1 minus its probability. A network that refuses nothing doubts "not a digit" by 1/2.
- the NEIGHBOURS nearest images among MNIST's training digits and the approved corrections vote, with weight 0 at
  similarity FAR to 1 at NEAR; a vote for another label is doubt. Weight that is missing to NEIGHBOURS full votes counts
  as doubt of 1/2 in a digit (an image unlike all others) and as none in "not a digit", which looks so.

A wrong label on an ordinary digit comes near 1, a right one near 0; a digit that is predicted wrong because it is
written in an unusual way lies between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.evaluation.metrics import not_a_digit
from model.task import NO_DIGIT, SIDE

NEIGHBOURS = 10
# Cosine similarities. The nearest ten of a digit of MNIST are at 0.93 to 0.96 in half of the cases, below 0.86 in one
# of a hundred; those of a scribble are at 0.83.
FAR, NEAR = 0.8, 0.9
# Images compared at a time: 128 rows of 60,000 similarities are 30 MB.
BATCH = 128


@dataclass(frozen=True, eq=False)
class Suspicion:
    """Suspicion of N labels and its parts: float64 (N,), 0 to 1, except `read` and `neighbours`.

    `probability` is the network's for the label, `read` (N,) its prediction, 0 to 9 or NO_DIGIT; `neighbours` int
    (N, 11) counts by label the nearest images whose vote has weight.
    """

    suspicion: np.ndarray
    network_doubt: np.ndarray
    neighbour_doubt: np.ndarray
    probability: np.ndarray
    read: np.ndarray
    neighbours: np.ndarray

    def __len__(self) -> int:
        return len(self.suspicion)


class Reference:
    """Nearest-neighbour index of trusted digits: images uint8 (M, 28, 28), labels (M,) of 0..10, M at least 0."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.labels = np.asarray(labels, np.int64)
        self._features = features(images)

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return labels int64 (N, K) and similarities float32 (N, K) of the nearest to each image uint8 (N, 28, 28).

        K is NEIGHBOURS, or fewer where the index is smaller.
        """
        count = min(NEIGHBOURS, len(self))
        labels = np.zeros((len(images), count), np.int64)
        similarities = np.zeros((len(images), count), np.float32)
        if count == 0:
            return labels, similarities
        asked = features(images)
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            found = asked[part] @ self._features.T
            places = np.argpartition(found, -count, axis=1)[:, -count:]
            labels[part] = self.labels[places]
            similarities[part] = np.take_along_axis(found, places, 1)
        return labels, similarities


def suspicion(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    outliers: np.ndarray,
    reference: Reference,
) -> Suspicion:
    """Compute the suspicion of labels (N,) of 0..10 for digit images uint8 (N, 28, 28), as the module describes.

    `probabilities` (N, 10) and `outliers` (N, 4), or (N, 0), are those of `network.predict` for the images.
    """
    # probabilities of the eleven labels: the digits' are conditional on being a digit
    no_digit = not_a_digit(outliers)[:, None]
    believed = np.clip(np.hstack((probabilities * (1 - no_digit), no_digit)), 0, 1)
    probability = believed[np.arange(len(labels)), labels]
    network_doubt = 1 - probability
    if outliers.shape[1] == 0:
        network_doubt = np.where(labels == NO_DIGIT, 0.5, network_doubt)
    near_labels, similarities = reference.nearest(images)
    voices = np.clip((similarities.astype(np.float64) - FAR) / (NEAR - FAR), 0, 1)
    against = (voices * (near_labels != labels[:, None])).sum(1)
    silent = NEIGHBOURS - voices.sum(1)
    neighbour_doubt = np.clip((against + np.where(labels == NO_DIGIT, 0, 0.5) * silent) / NEIGHBOURS, 0, 1)
    return Suspicion(
        suspicion=network_doubt * neighbour_doubt,
        network_doubt=network_doubt,
        neighbour_doubt=neighbour_doubt,
        probability=probability,
        read=believed.argmax(1),
        neighbours=((near_labels[:, :, None] == np.arange(NO_DIGIT + 1)) & (voices > 0)[:, :, None]).sum(1),
    )


def features(images: np.ndarray) -> np.ndarray:
    """Return features of digit images uint8 (N, 28, 28): float32 (N, 196), of length 1 (0 for an empty image).

    Blur and halve the images, so that lines one pixel apart are still similar.
    """
    half = SIDE // 2
    found = np.empty((len(images), half * half), np.float32)
    for start in range(0, len(images), 1_000):  # intermediate arrays take five times the memory
        part = slice(start, start + 1_000)
        halved = blurred(images[part].astype(np.float32)).reshape(-1, half, 2, half, 2).mean((2, 4))
        found[part] = halved.reshape(-1, half * half)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, length, out=found, where=length > 0)


def blurred(images: np.ndarray) -> np.ndarray:
    """Blur images, floats (N, H, W), with the kernel (1, 2, 1) / 4 on both axes."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16
