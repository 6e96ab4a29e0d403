"""How long one digit takes in the network, on one core: `python benchmarks/forward.py`.

The test digits go through one by one, with the weights laid out by columns, as a loaded version has them (the weights
of pixels without ink and of units that are off are not touched), and by rows, as torch lays them out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from model import mnist, weights
from model.picture import to_tensor
from model.recognizer import SHIPPED

DIGITS, ROUNDS = 500, 20


def microseconds(network, inputs: torch.Tensor) -> float:
    with torch.inference_mode():
        begun = time.perf_counter()
        for i in range(len(inputs)):
            network(inputs[i : i + 1])
    return (time.perf_counter() - begun) / len(inputs) * 1e6


def by_rows(network):
    for layer in network.layers:
        layer.weight.data = layer.weight.data.contiguous()
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="default: the shipped weights")
    path = parser.parse_args().weights
    torch.set_num_threads(1)
    inputs = to_tensor(mnist.read_test()[0][:DIGITS])
    ways = {"by columns": weights.load(path)[0], "by rows": by_rows(weights.load(path)[0])}
    taken = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, network in ways.items():
            taken[name].append(microseconds(network, inputs))
    widths = "-".join(str(width) for width in (784, *ways["by rows"].hidden, ways["by rows"].outputs))
    print(f"{widths}, {path.stat().st_size / 1e6:.1f} MB, one digit on one core:")
    for name, times in taken.items():
        print(f"{name:<12} {statistics.median(times):>5.0f} us   fastest round {min(times):.0f} us")


if __name__ == "__main__":
    main()
