"""Measure how well whole numbers are read: `python -m benchmarks.numbers STROKES_FOLDER`.

Numbers of two to six digits are composed of one writer's digits (strokes with a `writer`; their format:
model/data/strokes.py), about as high as each other, on a field of 900 x 900 pixels with a pen of 12: spaced, close
without touching, overlapping by up to an eighth of a digit's width, and spaced with a symbol between two digits. A
number counts where it is entirely right. Each is read with its strokes beside the picture, as the page sends it, and
from the picture alone; also by RapidOCR (rapidocr_onnxruntime) and Tesseract where these are installed. Parameters were
chosen on the numbers of every other writer ("half chosen on"); the other half is for the figures.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.figures import machine
from model import seeds
from model.data import strokes
from model.data.strokes import Drawing
from model.imaging.png import png
from model.imaging.writing import find_writing
from model.inference import weights
from model.inference.classifier import SHIPPED, Classifier
from model.inference.number import read_numbers

FIELD, PEN = 900, 12
MARGIN = 40
HEIGHTS = (110, 240)
ARRANGEMENTS = ("spaced", "close", "overlapping", "symbols")
# Strokes in a square of 100 in which digits are as high as it is.
SYMBOLS: dict[str, list[list[tuple[float, float]]]] = {
    "-": [[(20, 55), (45, 53), (70, 55)]],
    ".": [[(20, 97), (22, 99)]],
    ",": [[(24, 90), (25, 100), (18, 114)]],
    ":": [[(20, 30), (22, 32)], [(20, 84), (22, 86)]],
    "/": [[(10, 108), (40, 50), (68, -8)]],
    "+": [[(15, 52), (75, 52)], [(45, 22), (45, 82)]],
    "=": [[(15, 40), (70, 39)], [(16, 65), (71, 66)]],
}


@dataclass(frozen=True)
class Sample:
    """A number: its text, its strokes in pixels of the field, and its picture."""

    text: str
    strokes: tuple[np.ndarray, ...]
    picture: Image.Image


def writers(drawings: Sequence[Drawing]) -> dict[str, list[Drawing]]:
    """Return each writer's digits; writers with too few for a number are left out."""
    found: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        if drawing.digit is not None and drawing.writer:
            found[drawing.writer].append(drawing)
    return {name: found[name] for name in sorted(found) if len({d.digit for d in found[name]}) >= 5}


def compose(digits: Sequence[Drawing], arrangement: str, random: np.random.Generator) -> Sample:
    """Compose a number of one writer's digits."""
    chosen = [digits[i] for i in random.choice(len(digits), int(random.integers(2, 7)), replace=False)]
    texts = [str(drawing.digit) for drawing in chosen]
    shapes = [drawing.strokes for drawing in chosen]
    if arrangement == "symbols":
        at = int(random.integers(1, len(chosen)))
        symbol = str(random.choice(list(SYMBOLS)))
        texts.insert(at, symbol)
        shapes.insert(at, tuple(np.array(stroke) for stroke in SYMBOLS[symbol]))
    height = random.uniform(*HEIGHTS)
    while True:
        placed: list[list[np.ndarray]] = []
        for text, shape in zip(texts, shapes, strict=True):
            scaled = _scaled(text, shape, height * random.uniform(0.92, 1.08), height * random.uniform(-0.04, 0.04))
            placed.append(_beside(placed, scaled, arrangement, height, random))
        width = float(np.ptp(np.concatenate([points for sign in placed for points in sign])[:, 0]))
        if width <= FIELD - 2 * MARGIN:
            return _drawn("".join(texts), placed, random)
        # The pen keeps its width, so arrange again instead of reducing the whole.
        height *= 0.98 * (FIELD - 2 * MARGIN) / width


def _drawn(text: str, placed: list[list[np.ndarray]], random: np.random.Generator) -> Sample:
    everything = np.concatenate([points for digit in placed for points in digit])
    low, high = everything.min(0), everything.max(0)
    room = np.maximum(FIELD - (high - low) - 2 * MARGIN, 0) / 2
    shift = FIELD / 2 - (low + high) / 2 + room * random.uniform(-1, 1, 2)
    lines = tuple(stroke + shift for digit in placed for stroke in digit)
    picture = strokes.rasterize(lines, PEN, FIELD)
    return Sample(text, lines, picture)


def _scaled(text: str, shape: Sequence[np.ndarray], height: float, offset: float) -> list[np.ndarray]:
    """Scale a sign to the height, its foot on the line; symbols are drawn in a square as high as the digits."""
    if not text.isdigit():
        left = min(stroke[:, 0].min() for stroke in shape)
        return [(stroke - (left, 100)) * height / 100 + (0, offset) for stroke in shape]
    points = np.concatenate(shape)
    low, size = points.min(0), np.ptp(points, axis=0)
    scale = height / max(size[1], size[0] / 1.5, 1)
    return [(stroke - low - (0, size[1])) * scale + (0, offset) for stroke in shape]


def _beside(placed, digit, arrangement, height, random) -> list[np.ndarray]:
    """Place a digit to the right of those placed."""
    if not placed:
        return digit
    before, points = np.concatenate(placed[-1]), np.concatenate(digit)
    right, width = before[:, 0].max(), min(np.ptp(points[:, 0]), np.ptp(before[:, 0]))
    if arrangement in ("spaced", "symbols"):
        at = right + PEN + height * random.uniform(0.2, 0.6)
    elif arrangement == "close":
        at = right + PEN + random.uniform(3, 12)
    else:
        at = right - width * random.uniform(0, 1 / 8)
    return [stroke + (at, 0) for stroke in digit]


# Read a sample: its text and the probability that all of it is right, None where the reader says none.
Read = Callable[[Sample], tuple[str, float | None]]

BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.01)


def readers() -> dict[str, Read]:
    """Return the ways to read a number: Inkling's two, and other programs that are installed."""
    data = weights.read(SHIPPED)
    classifier = Classifier(lambda: data, "shipped")
    classifier.warm()

    def inkling(sample: Sample, with_strokes: bool) -> tuple[str, float]:
        writing = find_writing(b"P5 %d %d 255 " % sample.picture.size + sample.picture.tobytes())
        assert writing.ink is not None
        scale = writing.ink.shape[1] / sample.picture.width
        numbers = read_numbers(classifier, writing.ink, [s * scale for s in sample.strokes] if with_strokes else ())
        confidence = float(np.prod([number.confidence for number in numbers])) if numbers else 0.0
        return "\n".join(number.text for number in numbers), confidence

    found: dict[str, Read] = {
        "strokes sent": lambda sample: inkling(sample, True),
        "picture alone": lambda sample: inkling(sample, False),
    }
    try:
        from rapidocr_onnxruntime import RapidOCR  # type: ignore[import-not-found]
    except ImportError:
        pass
    else:
        engine = RapidOCR()
        found["RapidOCR"] = lambda sample: (_rapid_text(engine(np.asarray(sample.picture.convert("RGB")))[0]), None)
    if shutil.which("tesseract"):
        found["Tesseract"] = lambda sample: (_tesseract(sample.picture), None)
    return found


def _rapid_text(found: list | None) -> str:
    return "".join(text for _, text, _ in found or ()).replace(" ", "")


def _tesseract(picture: Image.Image) -> str:
    command = ["tesseract", "-", "-", "--psm", "7", "-c", "tessedit_char_whitelist=0123456789-.,/:+="]
    done = subprocess.run(command, input=png(picture), capture_output=True, check=True)
    return done.stdout.decode().strip().replace(" ", "")


@dataclass
class Tally:
    """What a reader made of the numbers of one arrangement and half of the writers."""

    right: list[bool]
    confidences: list[float | None]
    seconds: list[float]


def measure(drawings: list[Drawing], count: int, seed: int) -> dict[tuple[str, str, int], Tally]:
    """Read `count` numbers of each arrangement and half of the writers in every way."""
    halves = [list(writers(drawings).values())[half::2] for half in (0, 1)]
    if not all(halves):
        raise strokes.StrokesError("the folder holds too few writers: two with five different digits each are needed")
    ways, found = readers(), dict[tuple[str, str, int], Tally]()
    with tqdm(total=2 * len(ARRANGEMENTS) * count, unit=" numbers", disable=None) as bar:
        for arrangement in ARRANGEMENTS:
            for half, people in enumerate(halves):
                random = np.random.default_rng(seeds.derive_seed(f"numbers, {arrangement}, {half}", seed))
                tallies = {name: found.setdefault((arrangement, name, half), Tally([], [], [])) for name in ways}
                for _ in range(count):
                    sample = compose(people[random.integers(len(people))], arrangement, random)
                    for name, read in ways.items():
                        begun = time.perf_counter()
                        text, confidence = read(sample)
                        tallies[name].seconds.append(time.perf_counter() - begun)
                        tallies[name].right.append(text == sample.text)
                        tallies[name].confidences.append(confidence)
                    bar.update()
    return found


def table(found: dict[tuple[str, str, int], Tally]) -> Iterator[str]:
    yield "| numbers | read by | entirely right | half chosen on | median time |"
    yield "|---|---|---|---|---|"
    for arrangement, name in dict.fromkeys((arrangement, name) for arrangement, name, _ in found):
        chosen_on, other = (found[arrangement, name, half] for half in (0, 1))
        took = np.median(chosen_on.seconds + other.seconds) * 1000
        yield (
            f"| {arrangement} | {name} | {np.mean(other.right):.0%} | {np.mean(chosen_on.right):.0%} | {took:.0f} ms |"
        )


def calibration(found: dict[tuple[str, str, int], Tally]) -> Iterator[str]:
    """Yield the share of numbers entirely right by the confidence told, of the writers that nothing was chosen on."""
    tallies = [tally for (_, _, half), tally in found.items() if half == 1]
    pairs = [
        (confidence, right) for tally in tallies
        for confidence, right in zip(tally.confidences, tally.right, strict=True) if confidence is not None
    ]  # fmt: skip
    yield "| confidence | numbers | entirely right | mean confidence |"
    yield "|---|---|---|---|"
    for low, high in zip(BINS, BINS[1:], strict=False):
        inside = [(confidence, right) for confidence, right in pairs if low <= confidence < high]
        if inside:
            told, right = np.mean(inside, axis=0)
            yield f"| {low:.2f} to {min(high, 1):.2f} | {len(inside)} | {right:.0%} | {told:.0%} |"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="STROKES_FOLDER", help="*.jsonl.gz files of strokes with their writers")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="numbers of each kind (default: 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="where chance starts (default: 0)")
    args = parser.parse_args(argv)
    if args.seed < 0 or args.count < 1:
        parser.error("--count must be at least 1, and --seed at least 0")
    begun = time.monotonic()
    try:
        found = measure(strokes.read_folder(args.folder), args.count, args.seed)
    except strokes.StrokesError as error:
        print(f"numbers: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(found)), "\n".join(calibration(found)), sep="\n\n")
    print(f"\n{args.count} numbers of each kind and half, {machine()}, {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
