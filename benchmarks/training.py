"""Compare presets with the script that Inkling grew from: `python benchmarks/training.py`.

All train an MLP 784-64-64-64-10 on MNIST and measure it on the test set before training and after every epoch. The
script's loop is unchanged: torchvision's DataLoader, batches of 15, Adam at 0.001, two epochs. The preset original
takes the same steps with a loop of its own; the preset basic is another recipe, so that its time says nothing of loops.
The rounds alternate, so that other load on the machine affects all.

Then one epoch of the standard preset is compared with its matrix products: for every layer and batch, the products of
the forward pass, of the gradients of inputs and of weights, in the same dtypes and shapes. The epoch includes all but
the validation at its end, and the share of one epoch in drawing new digits every few epochs. Measured with bfloat16 on
processors that multiply tiles of it, and with float32.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from benchmarks.figures import Figure
from model.data import mnist, splits
from model.data.download import import_datasets
from model.data.loader import REDRAW_EPOCHS, TrainingData
from model.evaluation import metrics
from model.network.mlp import MLP, build_network
from model.network.predict import digit_probabilities
from model.presets import PRESETS, Config
from model.training.train import HALF_IS_FAST, Epoch, TrainingLoop, train

BATCH, EPOCHS, LEARNING_RATE = 15, 2, 0.001


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(28 * 28, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.fc4 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        return F.log_softmax(self.fc4(x), dim=1)


def script() -> float:
    """Train by the script's original loop; return its accuracy on the test set, 0 to 1."""
    datasets = import_datasets()
    from torchvision import transforms

    def loader(train: bool):
        digits = datasets.MNIST(mnist.default_folder(), train=train, transform=transforms.ToTensor())
        return torch.utils.data.DataLoader(digits, batch_size=BATCH, shuffle=True)

    train_data, test_data, net = loader(True), loader(False), Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    accuracy = _accuracy(test_data, net)
    for _ in range(EPOCHS):
        for x, y in train_data:
            net.zero_grad()
            loss = F.nll_loss(net(x.view(-1, 28 * 28)), y)
            loss.backward()
            optimizer.step()
        accuracy = _accuracy(test_data, net)
    return accuracy


def _accuracy(data, net: Net) -> float:
    right = total = 0
    with torch.no_grad():
        for x, y in data:
            right += int((net(x.view(-1, 28 * 28)).argmax(1) == y).sum())
            total += len(y)
    return right / total


def preset(name: str) -> float:
    """Train a preset, reading MNIST included; return its accuracy on the test set, 0 to 1."""
    data = splits.load()

    def accuracy(network: MLP) -> float:
        return metrics.report(digit_probabilities(network, data.test.images), data.test.labels.numpy()).accuracy

    def measure(epoch: Epoch, network: MLP) -> None:
        accuracy(network)

    return accuracy(train(Config(name), data, on_epoch=measure).network)


class Epochs:
    """The seconds of the standard preset's epochs, and of their parts measured separately."""

    def __init__(self, data: splits.Mnist, dtype: torch.dtype, rounds: int):
        standard = replace(PRESETS["standard"], mixed_precision=dtype == torch.bfloat16)
        self.dtype = dtype
        training_data = TrainingData(data.train, 0, deformed=True, drawings=True, refused=True)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._time("drawing", lambda: training_data.draw(1))
        self.loop = TrainingLoop(standard, build_network(standard), training_data, rounds)

    def round(self, epoch: int) -> None:
        loop = self.loop
        self._time("epoch", lambda: loop.epoch(epoch, lambda: False, lambda epochs, loss: None))
        self._time("matrix products", self._products())
        self._time(
            "batches, deformed", lambda: deque(loop.training_data.epoch(epoch, loop.preset.batch_size), maxlen=0)
        )

    def _time(self, part: str, do: Callable[[], object]) -> None:
        begun = time.perf_counter()
        do()
        self.seconds[part].append(time.perf_counter() - begun)

    def _products(self) -> Callable[[], object]:
        """Prepare the matrix products of an epoch, without the rest of its work."""
        batches = self.loop.training_data.epoch(1, self.loop.preset.batch_size)
        counts = [len(batch.labels) for batch in batches]
        steps = {count: self._step(count) for count in set(counts)}
        return lambda: [steps[count]() for count in counts]

    def _step(self, count: int) -> Callable[[], None]:
        """Prepare the matrix products of one step with a batch of `count` digits."""
        weights = [each.detach().to(self.dtype) for each in self.loop.network.parameters() if each.ndim == 2]
        ins = [torch.rand(count, weight.shape[1]).to(self.dtype) for weight in weights]
        outs = [torch.rand(count, weight.shape[0]).to(self.dtype) for weight in weights]

        def multiply() -> None:
            for i, (x, weight, change) in enumerate(zip(ins, weights, outs, strict=True)):
                torch.mm(x, weight.t())
                torch.mm(change.t(), x)
                if i:
                    torch.mm(change, weight)

        return multiply

    def medians(self) -> dict[str, float]:
        return {part: statistics.median(each) for part, each in self.seconds.items()}

    def lines(self) -> list[str]:
        """Return the medians as lines of a table."""
        seconds = self.medians()
        epoch, drawing, products = seconds.pop("epoch"), seconds.pop("drawing"), seconds["matrix products"]
        seconds["all the rest"] = epoch - sum(seconds.values())
        seconds |= {"one epoch": epoch, "and its share of drawing": epoch + drawing / REDRAW_EPOCHS}
        return [f"{part:<28}{each:>9.2f}{each / products:>9.2f}" for part, each in seconds.items()]


def epochs(rounds: int) -> list[Epochs]:
    """Measure alternately in the fastest dtype of this machine and, if that is another, in float32."""
    data, dtypes = splits.load(), (torch.bfloat16, torch.float32) if HALF_IS_FAST else (torch.float32,)
    ways = [Epochs(data, dtype, rounds) for dtype in dtypes]
    for epoch in tqdm(range(1, rounds + 1), unit=" rounds", disable=None):
        for way in ways:
            way.round(epoch)
    return ways


def figures(rounds: int = 3) -> list[Figure]:
    found = []
    for way in epochs(rounds):
        seconds = way.medians()
        whole = seconds["epoch"] + seconds["drawing"] / REDRAW_EPOCHS
        what = f"an epoch of the standard preset, {way.dtype}".replace("torch.", "")
        found.append(Figure(what, "s", whole, seconds["matrix products"], "its matrix products alone", 1.5))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is trained (default: 3)")
    rounds = parser.parse_args().rounds
    ways: dict[str, Callable[[], float]] = {"the script's loop": script}
    ways |= {f"--preset {name}": functools.partial(preset, name) for name in ("original", "basic")}
    seconds: dict[str, list[float]] = defaultdict(list)
    accuracies: dict[str, list[float]] = defaultdict(list)
    for _ in tqdm(range(rounds), unit=" rounds", disable=None):
        for name, way in ways.items():
            begun = time.perf_counter()
            accuracies[name].append(way())
            seconds[name].append(time.perf_counter() - begun)
    threads = f"(medians of {rounds}, {torch.get_num_threads()} threads)"
    print(f"{'':<22}{'seconds':>9}{'test accuracy':>15}{'times as fast':>15}     {threads}")
    for name in ways:
        ratios = sorted(a / b for a, b in zip(seconds["the script's loop"], seconds[name], strict=True))
        figures = f"{statistics.median(seconds[name]):>9.2f}{statistics.median(accuracies[name]):>15.2%}"
        print(f"{name:<22}{figures}{statistics.median(ratios):>15.1f}     from {ratios[0]:.1f} to {ratios[-1]:.1f}")
    for measured in epochs(rounds):
        name = f"standard, {measured.dtype}".replace("torch.", "")
        print(f"\n{name:<28}{'seconds':>9}{'ratio':>9}", *measured.lines(), sep="\n")


if __name__ == "__main__":
    main()
