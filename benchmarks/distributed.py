"""Compare a training by several processes with one process on the same cores: `python -m benchmarks.distributed`.

Trainings of a few epochs alternate: by one process with a thread for each core, and by several that share the cores.
The time leaves out the first epoch, which also generates the drawings; the accuracy is that of the last one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks.figures import Figure, machine, table

ROOT = Path(__file__).resolve().parent.parent


def figures(preset: str = "standard", processes: int = 2, epochs: int = 4, rounds: int = 3) -> list[Figure]:
    found: dict[int, list[dict]] = {1: [], processes: []}
    for _ in tqdm(range(rounds), unit=" rounds", disable=None):
        for count, trainings in found.items():
            trainings.append(_training(preset, epochs, count))
    single, several = map(_medians, found.values())
    name = f"{preset}, {processes} processes"
    return [
        Figure(f"{name}: an epoch", "s", several["seconds"], single["seconds"], "one process"),
        Figure(f"{name}: read after {epochs} epochs", "%", several["read"], single["read"], "one process", 0.998, True),
    ]


def _medians(trainings: list[dict]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in trainings) for key in trainings[0]}


def _training(preset: str, epochs: int, processes: int) -> dict[str, float]:
    """Run one training in a child process, whose threads sleep while they wait, as under a worker."""
    options = ["--only", str(processes), "--epochs", str(epochs)]
    command = [sys.executable, "-m", "benchmarks.distributed", preset, *options]
    environ = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return json.loads(subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE).stdout)


def train_only(preset: str, epochs: int, processes: int) -> None:
    """Train, and print the seconds per epoch and the percentage of validation digits read right after the last one."""
    from model.data import splits
    from model.presets import Config
    from model.training.distributed import process_group
    from model.training.train import train

    with process_group(processes, [sys.executable, *sys.orig_argv[1:]]) as group:
        history = train(Config(preset, epochs, processes=processes), splits.load(), group=group).history
    if group.rank == 0:
        seconds = (history[-1].seconds - history[1].seconds) / (epochs - 1)
        print(json.dumps({"seconds": seconds, "read": 100 * history[-1].validation_accuracy}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distributed", description=__doc__)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="which trainings (default: standard)")
    parser.add_argument("--processes", type=int, default=2, help="how many together (default: 2)")
    parser.add_argument("--epochs", type=int, default=4, help="of each training, from 2 up (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is trained (default: 3)")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    presets = args.presets or ["standard"]
    if args.only:
        train_only(presets[0], args.epochs, args.only)
        return
    found = [each for preset in presets for each in figures(preset, args.processes, args.epochs, args.rounds)]
    print(f"{table(found)}\n\n{machine()}")


if __name__ == "__main__":
    main()
