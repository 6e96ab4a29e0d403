"""Measure how many wrong labels the most suspicious hold: python benchmarks/label_quality.py STROKES_FOLDER

Of 1,000 pictures 100 have a wrong label, another digit chosen at random; the figure is how many of these are among the
100 most suspicious. The folder holds `*.jsonl.gz` files of strokes. Misread pictures are its drawings in random looks
(pens of 10 to 30 pixels, 30 to 90 % of the canvas, turned by up to 15 degrees), where another digit is read than the
one meant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tqdm import tqdm

from benchmarks.figures import machine
from model import seeds
from model.data import mnist, splits, strokes
from model.data.strokes import Drawing, Look, StrokesError
from model.evaluation.label_quality import Reference, suspicion
from model.evaluation.metrics import roc_area
from model.imaging.normalise import digit_image
from model.inference.classifier import SHIPPED
from model.inference.weights import WeightsError
from model.network.mlp import MLP
from model.network.predict import predict
from model.network.weights import load_network
from model.task import DIGITS

JUDGED, WRONG = 1_000, 100
PENS, SIZES, ANGLE = (10.0, 30.0), (0.3, 0.9), 15.0
MOST_LOOKS = 20
"""Times that a drawing is drawn at most in search of misread pictures."""
ERRORS = (mnist.MnistMissing, StrokesError, WeightsError)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Digit images uint8 (N, 28, 28), the digits meant (N,), and the numbers of the drawings that they show (N,)."""

    images: np.ndarray
    true: np.ndarray
    drawings: np.ndarray

    def __len__(self) -> int:
        return len(self.true)

    def __getitem__(self, chosen: np.ndarray | slice) -> Pictures:
        return Pictures(self.images[chosen], self.true[chosen], self.drawings[chosen])

    def __add__(self, other: Pictures) -> Pictures:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Pictures(*(np.concatenate(pair) for pair in pairs))


def draw(drawings: Sequence[Drawing], looks: Iterator[Look]) -> Pictures:
    """Return the drawings of digits that are not blank, each in the next look."""
    found = [digit_image(strokes.draw(one, look)) for one, look in zip(drawings, looks, strict=False)]
    kept = np.array([number for number, image in enumerate(found) if image is not None], np.int64)
    digits = np.array([drawing.digit for drawing in drawings])
    return Pictures(np.stack([found[number] for number in kept]), digits[kept], kept)


def looks(random: np.random.Generator) -> Iterator[Look]:
    while True:
        yield Look(random.uniform(*SIZES), random.uniform(*PENS), random.uniform(-ANGLE, ANGLE))


def misread(network: MLP, drawings: Sequence[Drawing], random: np.random.Generator) -> tuple[Pictures, Pictures]:
    """Return JUDGED misread pictures, or those that MOST_LOOKS find, and JUDGED pictures that are read right."""
    wrong, right = [], None
    with tqdm(total=JUDGED, unit=" misread", disable=None) as bar:
        for _ in range(MOST_LOOKS):
            found = draw(drawings, looks(random))
            is_wrong = predict(network, found.images)[0].argmax(1) != found.true
            right = right or found[np.flatnonzero(~is_wrong)]
            wrong.append(found[is_wrong])
            bar.update(int(is_wrong.sum()))
            if sum(map(len, wrong)) >= JUDGED:
                break
    everything = sum(wrong[1:], wrong[0])
    return _chosen(everything, random), _chosen(right or found, random)


def _chosen(pictures: Pictures, random: np.random.Generator) -> Pictures:
    return pictures[random.permutation(len(pictures))[:JUDGED]]


def row(network: MLP, reference: Reference, pictures: Pictures, random: np.random.Generator, name: str) -> str:
    """Label the first tenth of the pictures wrongly and return a line of the table."""
    count = len(pictures) * WRONG // JUDGED
    wrong = np.arange(len(pictures)) < count
    labels = np.where(wrong, (pictures.true + random.integers(1, DIGITS, len(pictures))) % DIGITS, pictures.true)
    found = suspicion(pictures.images, labels, *predict(network, pictures.images), reference).suspicion
    most = np.argsort(-found, kind="stable")[:count]
    area = roc_area(found[~wrong], found[wrong])
    shown = len(np.unique(pictures.drawings))
    cells = (
        f"{len(pictures):,}",
        f"{shown:,}",
        f"{wrong[most].sum()} of {count}",
        "-" if area is None else f"{area:.4f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def table(network: MLP, data: splits.Mnist, drawings: Sequence[Drawing], seed: int) -> str:
    """Return the table as Markdown."""
    reference = Reference(data.train.images.numpy(), data.train.labels.numpy())
    validation = data.validation
    numbers = np.arange(len(validation))
    ordinary = Pictures(validation.images.numpy(), validation.labels.numpy(), numbers)

    def stream(name: str) -> np.random.Generator:
        return np.random.default_rng(seeds.derive_seed(f"label quality, {name}", seed))

    hard, easy = misread(network, drawings, stream("looks"))
    count = len(hard) * WRONG // JUDGED
    kinds = {
        "validation digits": _chosen(ordinary, stream("ordinary")),
        "other people's drawings": _chosen(draw(drawings, looks(stream("plain"))), stream("drawings")),
        "misread drawings; those wrongly labelled are read right": easy[:count] + hard[count:],
        "misread drawings": hard,
    }
    lines = [
        "| pictures | judged | drawings | wrong labels found | area under the ROC curve |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(network, reference, found, stream(name), name) for name, found in kinds.items())])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="STROKES_FOLDER", help="*.jsonl.gz files of strokes")
    parser.add_argument("--weights", default=SHIPPED, metavar="FILE", help="default: the shipped weights")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="where chance starts (default: 0)")
    args = parser.parse_args(argv)
    try:
        drawings = [drawing for drawing in strokes.read_folder(args.folder) if drawing.digit is not None]
        if not drawings:
            raise StrokesError(f"{args.folder} holds no drawing of a digit")
        print(table(load_network(args.weights)[0], splits.load(), drawings, args.seed))
    except ERRORS as error:
        print(f"label_quality: {error}", file=sys.stderr)
        return 2
    print(f"\n{machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
