"""How much chance changes a preset's accuracy: `python -m benchmarks.seeds PRESET ... [--seeds N ...]`.

Trains each preset with each seed, as `python -m model train` does, and prints a table of the accuracies on MNIST's test
set; a preset that fine-tunes goes on from the shipped weights. `--keep FOLDER` keeps the weights, as
PRESET-SEED.safetensors, and takes those that are there from it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from tqdm import tqdm

from model.data import splits
from model.files import atomic_write
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.network.weights import deserialize
from model.presets import PRESETS, Config
from model.training.package import build_package
from model.training.train import train

HEAD = ("preset", "seeds", "test accuracy, mean ± standard deviation", "lowest to highest")


def accuracy(config: Config, data: splits.Mnist, keep: Path | None) -> float:
    """Return the accuracy, 0 to 1, on the test set of a network trained by `config`."""
    path = keep / f"{config.preset}-{config.seed}.safetensors" if keep else None
    if path and path.exists():
        made = weights.read(path)
    else:
        parent = SHIPPED.read_bytes() if PRESETS[config.preset].fine_tunes else None
        trained = train(config, data, start=deserialize(parent)[0] if parent else None)
        made = build_package(config, trained, data, parent).data
        if path:
            atomic_write(path, made)
    card = weights.read_card(made)
    split = PRESETS[config.preset].split
    if (card.preset, card.seed, card.epochs, card.split) != (config.preset, config.seed, config.epochs, split):
        sys.exit(f"seeds: {path} is another training: {card.command}")
    assert card.test_accuracy is not None
    return card.test_accuracy


def row(name: str, accuracies: list[float]) -> str:
    """Return a line of the table; the standard deviation is that of a sample."""
    mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
    spread = f"{100 * min(accuracies):.2f} to {100 * max(accuracies):.2f} %"
    return f"| `{name}` | {len(accuracies)} | {100 * mean:.2f} ± {100 * deviation:.2f} % | {spread} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__)
    parser.add_argument("presets", nargs="+", metavar="PRESET", choices=PRESETS, help=", ".join(PRESETS))
    seeds_help = "two or more (default: 0 to 4)"
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5), metavar="N", help=seeds_help)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a folder for the weights")
    args = parser.parse_args()
    if len(args.seeds) < 2:
        parser.error("--seeds needs two or more: one has no spread")
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    data = splits.load()
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for name in args.presets:
        seeds = tqdm(args.seeds, desc=name, unit=" seeds", disable=None)
        lines.append(row(name, [accuracy(Config(name, seed=seed), data, args.keep) for seed in seeds]))
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
