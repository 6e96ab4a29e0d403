"""Measure the time of one digit in the network on one core: `python benchmarks/forward.py`.

The test digits are read one by one, in numpy as in production (skipping the weights of pixels without ink and of
inactive units), and in torch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from model.data import mnist
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.inference.mlp import NumpyMLP
from model.network.mlp import to_tensor
from model.network.weights import load_network
from model.task import PIXELS

DIGITS, ROUNDS = 500, 20


def microseconds(read: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    begun = time.perf_counter()
    for i in range(len(images)):
        read(images[i : i + 1])
    return (time.perf_counter() - begun) / len(images) * 1e6


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="default: the shipped weights")
    path = parser.parse_args().weights
    torch.set_num_threads(1)
    images = mnist.read_test()[0][:DIGITS]
    network, card = load_network(path)
    served = NumpyMLP(weights.layers(path.read_bytes())[0])
    ways = {
        "numpy, served": lambda images: served.forward_one(images[0]),
        "torch": lambda images: network(to_tensor(images)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, read in ways.items():
            taken[name].append(microseconds(read, images))
    widths = "-".join(str(width) for width in (PIXELS, *card.hidden, card.outputs))
    print(f"{widths}, {path.stat().st_size / 1e6:.1f} MB, one digit on one core:")
    for name, times in taken.items():
        print(f"{name:<13} {statistics.median(times):>5.0f} us   fastest round {min(times):.0f} us")


if __name__ == "__main__":
    main()
