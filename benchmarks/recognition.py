"""Measure the accuracy of a running Inkling over HTTP: `python benchmarks/recognition.py STROKES_FOLDER`.

Every picture is posted to /predict as the page does it, a PNG of 280 x 280 pixels in a data URL: the MNIST test set
enlarged, real handwriting from a folder of strokes (its format: model/data/strokes.py), that handwriting changed, and
drawings that are no digits. It prints each figure beside its goal.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from http.client import HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw
from tqdm import tqdm

from model import seeds
from model.data import mnist, strokes
from model.data.strokes import CANVAS, Drawing, Look
from model.evaluation import metrics, robustness
from model.task import DIGITS

URL = "http://127.0.0.1:8000"
AT_ONCE = 4
WAITING = 8 * AT_ONCE
SECONDS = 20
OF_EACH_KIND = 50
ANSWERED = ("verdict", "probabilities", "not_a_digit", "version")

Draw = Callable[[np.random.Generator], Image.Image]


class ServerError(Exception):
    """The server cannot be reached, does not read a picture, or changes its version; the message is one line."""


ERRORS = (ServerError, strokes.StrokesError, mnist.MnistMissing)


class Server:
    """A running Inkling, with several requests at once; `version` is the one that answers, "" before the first."""

    def __init__(self, url: str):
        self.url, self.version = url.rstrip("/"), ""
        self._pool = ThreadPoolExecutor(AT_ONCE)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def ask(self, pictures: Iterable[Image.Image]) -> robustness.Answers:
        """Return the answers to pictures; raises ServerError, also if the version changes meanwhile."""
        answers = [self._of_one_version(answer) for answer in self._answers(pictures)]
        verdicts = np.array([answer["verdict"] for answer in answers])
        scores = np.array([answer["not_a_digit"] for answer in answers], float)
        return robustness.Answers(
            np.array([answer["probabilities"] or [0.0] * DIGITS for answer in answers]),
            # A network that refuses nothing gives all pictures a score of 0.
            np.where(verdicts == "blank", 1.0, scores) if scores.any() else None,
            np.isin(verdicts, ("blank", "not_a_digit")),
        )

    def _of_one_version(self, answer: dict[str, Any]) -> dict[str, Any]:
        self.version = self.version or answer["version"]
        if answer["version"] != self.version:
            raise ServerError(
                f"{self.url} has changed from {self.version} to {answer['version']} in the middle; measure again"
            )
        return answer

    def _answers(self, pictures: Iterable[Image.Image]) -> Iterator[dict[str, Any]]:
        """Yield the answers in the order of the pictures, which are drawn only as they are sent."""
        waiting: deque[Future[dict[str, Any]]] = deque()
        for picture in pictures:
            waiting.append(self._pool.submit(self._post, picture))
            if len(waiting) == WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _post(self, picture: Image.Image) -> dict[str, Any]:
        png = io.BytesIO()
        picture.save(png, "PNG", compress_level=1)
        image = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
        body = json.dumps({"image": image}).encode()
        request = urllib.request.Request(f"{self.url}/predict", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                answer = json.load(response)
                return {name: answer[name] for name in ANSWERED}
        except urllib.error.HTTPError as error:
            raise ServerError(f"{self.url} answers {error.code}: {error.read(300).decode(errors='replace')}") from error
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise ServerError(f"{self.url} does not answer as Inkling does: {error}") from error


def enlarged(images: np.ndarray, step: Callable[[], None]) -> Iterator[Image.Image]:
    """Yield digits of MNIST, dark on white, as large as the canvas."""
    for image in images:
        yield Image.fromarray(255 - image).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
        step()


# Drawings that are no digits


def blank(random: np.random.Generator) -> Image.Image:
    return Image.new("L", (CANVAS, CANVAS), 255)


def dot(random: np.random.Generator) -> Image.Image:
    return pen([(0, 0)], random)


def dash(random: np.random.Generator) -> Image.Image:
    return pen([(0, 0), (1, random.uniform(-0.2, 0.2))], random, size=random.uniform(0.2, 0.5))


def scribble(random: np.random.Generator) -> Image.Image:
    return pen(random.uniform(0, 1, (random.integers(15, 60), 2)), random, size=random.uniform(0.4, 0.9))


def filled_box(random: np.random.Generator) -> Image.Image:
    picture = Image.new("L", (CANVAS, CANVAS), 255)
    width, height = random.uniform(0.2, 0.8, 2) * CANVAS
    left, top = (CANVAS - width) * random.uniform(), (CANVAS - height) * random.uniform()
    ImageDraw.Draw(picture).rectangle((left, top, left + width, top + height), 0)
    return picture


def pen(points: ArrayLike, random: np.random.Generator, size: float = 0.7) -> Image.Image:
    look = Look(size, random.uniform(*robustness.PENS), x=random.uniform(-1, 1), y=random.uniform(-1, 1))
    return strokes.draw(Drawing(None, (np.array(points, float),)), look)


def side_by_side(digits: list[Drawing]) -> Draw:
    """Return a function that draws two to four of the digits in a row, equally high and a little apart."""

    def draw(random: np.random.Generator) -> Image.Image:
        row, right = [], 0.0
        for number in random.integers(0, len(digits), random.integers(2, 5)):
            points = np.concatenate(digits[number].strokes)
            corner, height = points.min(0), np.ptp(points[:, 1]) or 1
            row += [(stroke - corner) / height + (right, 0) for stroke in digits[number].strokes]
            right = max(stroke[:, 0].max() for stroke in row) + 0.3
        return strokes.draw(Drawing(None, tuple(row)), Look(0.85, random.uniform(8, 16)))

    return draw


# The figures


def figures(server: Server, drawings: list[Drawing], count: int | None, seed: int) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table: figure, where it is measured, value reached, and goal."""
    images, labels = mnist.read_test()
    images, labels = images[:count], labels[:count]
    digits = [drawing for drawing in drawings if drawing.digit is not None]
    kinds: dict[str, Draw] = {"blank": blank, "dot": dot, "dash": dash, "scribble": scribble, "filled box": filled_box}
    kinds |= {"several digits": side_by_side(digits)}
    total = len(images) + robustness.stroke_pictures(drawings) + len(kinds) * OF_EACH_KIND
    with tqdm(total=total, unit=" pictures", disable=None) as bar:

        def drawn(name: str, draw: Draw) -> Iterator[Image.Image]:
            random = _stream(name, seed)
            for _ in range(OF_EACH_KIND):
                yield draw(random)
                bar.update()

        refused = {name: server.ask(drawn(name, draw)).refused.mean() for name, draw in kinds.items()}
        test = server.ask(enlarged(images, bar.update))
        found = robustness.stroke_figures(server.ask, drawings, seed, bar.update)
    return [*_mnist_rows(test, labels), *_stroke_rows(found), *_drawn_rows(refused)]


def _mnist_rows(test: robustness.Answers, labels: np.ndarray) -> list[tuple[str, str, str, str]]:
    where = f"MNIST test set, {len(labels):,}"
    return [
        ("error", where, percent((test.predicted != labels).mean(), len(labels)), "at most 0.35 %"),
        ("calibration error", where, percent(metrics.reliability(test.probabilities, labels).error), "0.5 %"),
        ("digits refused", where, percent(test.refused.mean()), ""),
    ]


def _stroke_rows(found: robustness.Strokes) -> list[tuple[str, str, str, str]]:
    where, others = f"strokes, {found.digits:,} digits", f"strokes, {found.others:,} others"
    rows = [
        ("digits read right", where, percent(found.accuracy, found.digits), "at least 98.3 %"),
        ("true digit in the top three", where, percent(found.top3_accuracy, found.digits), "at least 99.5 %"),
        ("calibration error", where, percent(found.reliability.error), "1.5 %"),
        ("digits refused", where, percent(found.digits_refused), ""),
    ]
    if found.others:
        rows += [
            ("refused", others, percent(found.others_refused), ""),
            ("refused where 2 % of digits are", others, percent(found.refused_beside), "at least 90 %"),
            ("area under the ROC curve", others, "-" if found.area is None else f"{found.area:.4f}", "0.98"),
        ]
    pairs = f"strokes, {found.pairs:,} pairs"
    return rows + [(f"same answer: {name}", pairs, percent(share), "98 %") for name, share in found.same.items()]


def _drawn_rows(refused: dict[str, float]) -> list[tuple[str, str, str, str]]:
    return [(f"{name} refused", f"drawn, {OF_EACH_KIND}", percent(share), "all") for name, share in refused.items()]


def percent(share: float | None, count: int | None = None) -> str:
    """Return a share in per cent, of `count` pictures with its 95 % interval."""
    if share is None:
        return "-"
    interval = f" ({metrics.interval_words(*metrics.wilson_interval(share, count))})" if count else ""
    return f"{100 * share:.2f} %{interval}"


def table(figures: list[tuple[str, str, str, str]]) -> str:
    """Return the figures as an aligned Markdown table."""
    rows: list[tuple[str, ...]] = [("figure", "where", "reached", "goal"), *figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="STROKES_FOLDER", help="*.jsonl.gz files of strokes")
    parser.add_argument("--url", default=URL, help=f"the running server (default: {URL})")
    parser.add_argument("--count", type=int, metavar="N", help="at most N test digits, written digits and others")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="where chance starts (default: 0)")
    args = parser.parse_args(argv)
    if args.seed < 0 or (args.count is not None and args.count < 1):
        parser.error("--count must be at least 1, and --seed at least 0")
    return args


def chosen(drawings: list[Drawing], count: int | None, seed: int) -> list[Drawing]:
    """Return at most `count` digits and as many others, chosen at random; without `count`, all in their order."""
    if count is None:
        return drawings
    shuffled = [drawings[i] for i in _stream("chosen", seed).permutation(len(drawings))]
    digits = [drawing for drawing in shuffled if drawing.digit is not None]
    return digits[:count] + [drawing for drawing in shuffled if drawing.digit is None][:count]


def _stream(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(seeds.derive_seed(f"recognition, {purpose}", seed))


def measured(folder: str, url: str, count: int | None = None, seed: int = 0) -> str:
    """Return the table of a running server's figures; raises StrokesError, ServerError or MnistMissing."""
    drawings = chosen(strokes.read_folder(folder), count, seed)
    if all(drawing.digit is None for drawing in drawings):
        raise strokes.StrokesError(f"{folder} holds no drawing of a digit")
    with Server(url) as server:
        found = table(figures(server, drawings, count, seed))
    return f"{found}\n\n{server.version} at {server.url}"


def main(argv: list[str] | None = None) -> int:
    args = parsed(argv)
    begun = time.monotonic()
    try:
        found = measured(args.folder, args.url, args.count, args.seed)
    except ERRORS as error:
        print(f"recognition: {error}", file=sys.stderr)
        return 2
    print(f"{found}, {date.today()}, in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
