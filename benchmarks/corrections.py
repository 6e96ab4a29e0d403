"""Measure the effect of fifty corrections: python -m benchmarks.corrections STROKES_FOLDER [--weights FILE]

Fine-tunes a network on fifty drawings by some writers in a style that it reads badly, and measures it on the drawings
of the style's other writers, on all other handwriting, and on MNIST's test set. A style is the drawings of one digit by
the writers of one donor; the styles read worst are measured. The folder holds `*.jsonl.gz` files of one JSON object a
line with `label`, `donor`, `writer` and `strokes`. Without --weights, a network is first trained on MNIST only, since
the shipped one knows most styles.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model.data import splits
from model.data.corrections import Corrections
from model.data.strokes import Drawing, draw
from model.evaluation import metrics
from model.imaging.normalise import digit_image
from model.inference.decision import Calibration
from model.network.mlp import MLP
from model.network.predict import digit_probabilities, predict
from model.network.weights import load_network
from model.presets import PRESETS, Config
from model.progress import progress_bar
from model.training.calibrate import calibrate
from model.training.train import train

LEARNT = 50
STYLES = 3
LEAST_HELD_OUT = 20
LEAST_DRAWINGS = LEARNT + LEAST_HELD_OUT
EPOCHS = 15


@dataclass(frozen=True, eq=False)
class Handwriting:
    """Drawn digits: images uint8 (N, 28, 28), labels (N,), and of each its donor's and its writer's name, (N,)."""

    images: np.ndarray
    labels: np.ndarray
    donors: np.ndarray
    writers: np.ndarray


@dataclass(frozen=True)
class Reader:
    network: MLP
    calibration: Calibration

    def right(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return which images are accepted and read right: bool (N,)."""
        probabilities, outliers = predict(self.network, images)
        taken = metrics.not_a_digit(outliers) <= self.calibration.refuse_above
        return taken & (probabilities.argmax(1) == labels)

    def error(self, split: splits.Split) -> float:
        probabilities = digit_probabilities(self.network, split.images)
        return 1 - metrics.report(probabilities, split.labels.numpy()).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, metavar="FILE")
    args = parser.parse_args()
    written, data = read(args.folder), splits.load()
    before = Reader(*_loaded(args.weights)) if args.weights else trained(data)
    right = before.right(written.images, written.labels)
    print(f"{len(right):,} drawings, {right.mean():.2%} read right; MNIST test error {before.error(data.test):.2%}")
    print("style           learnt  held out   before    after              others          test error     s")
    for name, style in worst(written, right):
        print(learn(name, style, written, data, before), flush=True)


def read(folder: Path) -> Handwriting:
    rows = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows += [row for row in map(json.loads, lines) if row["label"].isdigit()]
    images = [digit_image(draw(_drawing(row))) for row in tqdm(rows, unit=" drawings", disable=None)]
    kept = [(row, image) for row, image in zip(rows, images, strict=True) if image is not None]
    columns = ([row[name] for row, _ in kept] for name in ("label", "donor", "writer"))
    labels, donors, writers = map(np.array, columns)
    return Handwriting(np.stack([image for _, image in kept]), labels.astype(np.int64), donors, writers)


def _drawing(row: dict) -> Drawing:
    return Drawing(int(row["label"]), tuple(np.array(stroke, float).reshape(-1, 2) for stroke in row["strokes"]))


def _loaded(path: Path) -> tuple[MLP, Calibration]:
    network, card = load_network(path)
    return network, card.calibration


def trained(data: splits.Mnist) -> Reader:
    """Train a network on MNIST's digits only, deformed."""
    PRESETS["mnist alone"] = replace(PRESETS["standard"], name="mnist alone", drawn=False)
    with progress_bar() as move:
        result = train(Config("mnist alone", EPOCHS), data, lambda progress: move(progress.fraction))
    return Reader(*calibrate(result.network, data.validation))


def worst(written: Handwriting, right: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the styles that are read worst, each as a name and the indexes of its drawings."""
    styles = defaultdict(list)
    for place, (donor, label) in enumerate(zip(written.donors, written.labels, strict=True)):
        styles[f"{donor}, {label}"].append(place)
    enough = {name: np.array(places) for name, places in styles.items() if len(places) >= LEAST_DRAWINGS}
    return sorted(enough.items(), key=lambda style: right[style[1]].mean())[:STYLES]


def parts(style: np.ndarray, written: Handwriting) -> tuple[np.ndarray, np.ndarray]:
    """Return drawings to learn from and to measure by, of different writers unless there are too few."""
    chosen = list(_by_writer(style, written))
    learnt = np.array(chosen[:LEARNT])
    others = np.array([i for i in chosen if written.writers[i] not in set(written.writers[learnt])])
    return learnt, others if len(others) >= LEAST_HELD_OUT else np.array(chosen[LEARNT:])


def _by_writer(style: np.ndarray, written: Handwriting) -> Iterator[int]:
    writers = sorted(set(written.writers[style]))
    for writer in np.random.default_rng(0).permutation(writers):
        yield from (i for i in style if written.writers[i] == writer)


def learn(name: str, style: np.ndarray, written: Handwriting, data: splits.Mnist, before: Reader) -> str:
    """Fine-tune on one style and return a line of the table."""
    learnt, held_out = parts(style, written)
    corrections = Corrections(written.images[learnt], written.labels[learnt], np.zeros(len(learnt), bool), learnt)
    begun = time.perf_counter()
    with progress_bar() as move:
        result = train(
            Config("fine-tune"),
            data,
            lambda progress: move(progress.fraction),
            start=before.network,
            corrections=corrections,
        )
    seconds = time.perf_counter() - begun
    after = Reader(*calibrate(result.network, data.validation))
    others = np.setdiff1d(np.arange(len(written.labels)), style)
    shares = [
        reader.right(written.images[part], written.labels[part]).mean()
        for part in (held_out, others)
        for reader in (before, after)
    ]
    errors = f"{before.error(data.test):.2%} to {after.error(data.test):.2%}"
    moved = f"{shares[2]:.2%} to {shares[3]:.2%}"
    counts = f"{len(learnt):>8}{len(held_out):>10}"
    return f"{name:<14}{counts}{shares[0]:>9.1%}{shares[1]:>9.1%}{moved:>20}{errors:>20}{seconds:>6.0f}"


if __name__ == "__main__":
    main()
