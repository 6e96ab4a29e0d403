"""The seed preset beside the script that Inkling grew from: `python benchmarks/training.py`.

Both train an MLP 784-64-64-64-10 on MNIST and measure it on the test set before training and after every epoch. The
script's loop stands below as it was: torchvision's DataLoader, batches of 15, Adam at 0.001, two epochs. The rounds
alternate, so that what else the machine does meets both. Then: how much of a step of the standard preset's training is
spent on drawing and deforming what it learns from.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from model import evaluate, mnist
from model.material import REDRAWN, Batch, Material
from model.network import for_training
from model.presets import PRESETS, Config
from model.torchvision_shim import import_datasets
from model.train import Loop, train

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


def original() -> float:
    """The script's training, as it was; its accuracy on the test set, 0 to 1."""
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


def seed() -> float:
    """The preset: reading MNIST included; its accuracy on the test set, 0 to 1."""
    data = mnist.load()

    def measure(epoch, network) -> float:
        return evaluate.report(evaluate.probabilities(network, data.test.images), data.test.labels.numpy()).accuracy

    result = train(Config("seed"), data, on_epoch=measure)
    return measure(None, result.network)


def deforming(steps: int = 60) -> float:
    """The share of drawing and deforming in the time of the standard preset's training steps, 0 to 1."""
    preset, data = PRESETS["standard"], mnist.load()
    material = Material(data.train, 0, deformed=True, drawings=True, refused=True)
    begun = time.perf_counter()
    material.draw(1)
    drawing = (time.perf_counter() - begun) / REDRAWN / math.ceil(len(material) / preset.batch_size)
    loop = Loop(preset, for_training(preset), material, epochs=1)
    loop.network.train()
    spent = total = 0.0
    for step, index in enumerate(torch.randperm(len(material)).split(preset.batch_size)[:steps]):
        begun = time.perf_counter()
        inputs = material.batch(index)
        deformed = time.perf_counter()
        loop.step(Batch(inputs, material.labels[index], material.is_correction[index]))
        if step >= 10:  # the first ones find their way
            spent += deformed - begun + drawing
            total += time.perf_counter() - begun + drawing
    return spent / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is trained (default: 3)")
    rounds = parser.parse_args().rounds
    seconds = {original: [], seed: []}
    accuracies = {original: [], seed: []}
    for _ in tqdm(range(rounds), unit=" rounds", disable=None):
        for way in (original, seed):
            begun = time.perf_counter()
            accuracies[way].append(way())
            seconds[way].append(time.perf_counter() - begun)
    print(f"{'':<22}{'seconds':>9}{'test accuracy':>15}     (medians of {rounds}, {torch.get_num_threads()} threads)")
    for way, name in ((original, "the original loop"), (seed, "--preset seed")):
        print(f"{name:<22}{statistics.median(seconds[way]):>9.2f}{statistics.median(accuracies[way]):>15.2%}")
    ratios = sorted(a / b for a, b in zip(seconds[original], seconds[seed], strict=True))
    print(f"{'times as fast':<22}{statistics.median(ratios):>9.1f}   from {ratios[0]:.1f} to {ratios[-1]:.1f}")
    print(f"drawing and deforming take {deforming():.0%} of a step of the standard preset")


if __name__ == "__main__":
    main()
