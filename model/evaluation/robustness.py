"""The robustness report ("strength" in commands and files): accuracy under changes of the pictures, and refusals.

Every digit is enlarged to a picture, changed there, and preprocessed and predicted like any picture. All random numbers
come from the seed, so that versions are measured on equal pictures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from model import seeds
from model.data import strokes, synthetic
from model.data.strokes import Drawing, Look
from model.evaluation.metrics import Reliability, not_a_digit, refused_beside, reliability, report, roc_area
from model.imaging.normalise import digit_image
from model.inference.decision import UNCALIBRATED, Calibration, digit_set
from model.task import DIGITS, REASONS, SIDE

Read = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Digit images uint8 (N, 28, 28) to probabilities (N, 10) and outliers (N, 4) or (N, 0), as `predict` returns."""
Tell = Callable[[float], None]
"""Called with the fraction done, 0 to 1."""

CURVE_DIGITS = 500
OTHERS = 2_000
PAIRS = 1_000
# Pixels a side of an enlarged test digit; drawings are of strokes.CANVAS, as on the page.
SMALL_CANVAS = 112

# Factors of enlargement: the 20-pixel box fills half or a third of the canvas, to leave room for changes.
HALF, THIRD = SMALL_CANVAS / 2 / 20, SMALL_CANVAS / 3 / 20
# Lines are widened on a digit that fills the canvas, four of whose pixels are one of MNIST's.
WHOLE = SMALL_CANVAS / SIDE

PENS = (10.0, 30.0)
PAIR_SIZES, PAIR_PENS, PAIR_ANGLE = (0.15, 0.9), (4.0, 40.0), 15.0
# Where size and pen both change, a pen wider than this share of the digit may make it illegible.
WIDEST_PEN = 0.25


@dataclass(frozen=True)
class Curve:
    """Accuracy, 0 to 1, at each level of a change; `unit` is that of the levels."""

    name: str
    unit: str
    levels: list[float]
    accuracy: list[float]


@dataclass(frozen=True)
class Refusals:
    """Shares refused, 0 to 1, of test digits and, by reason, of synthetic non-digits, at the version's own threshold.

    `beside` is the share of non-digits refused by the threshold that refuses 2 % of the digits (`metrics.BESIDE`),
    `area` that under the ROC curve of `not_a_digit`; both None for a network that refuses nothing.
    """

    digits: float
    others: dict[str, float]
    beside: float | None
    area: float | None


@dataclass(frozen=True)
class Sets:
    """Coverage of the conformal sets over the digits that are not refused.

    `promised` is the calibrated coverage, `kept` the share of sets that hold the true digit; `unsure` the share of sets
    of several digits, and of those alone `unsure_kept` and `unsure_size`, their mean size. `hesitant` is the share of
    sets of one digit whose probability is below the coverage, of which `hesitant_kept` are right. None for means of
    nothing.
    """

    promised: float
    kept: float | None
    unsure: float | None
    unsure_kept: float | None
    unsure_size: float | None
    hesitant: float | None
    hesitant_kept: float | None


@dataclass(frozen=True)
class Strokes:
    """Results on real handwriting: `digits` and `others` are numbers of drawings, at pens 10 to 30 on 280 x 280 pixels.

    Shares are 0 to 1. `digits_refused` and `others_refused` are at the version's own threshold, `refused_beside` and
    `area` as in Refusals; None without others. `same` holds for each change (PAIRED) the share of `pairs` in which a
    digit and the changed digit are predicted alike. `sets` is None where the calibration is not known.
    """

    digits: int
    others: int
    accuracy: float
    top3_accuracy: float
    reliability: Reliability
    digits_refused: float
    others_refused: float | None
    refused_beside: float | None
    area: float | None
    pairs: int
    same: dict[str, float]
    sets: Sets | None = None


@dataclass(frozen=True)
class Robustness:
    """The report of a version; all figures but `curves` and `strokes` are of the whole test set."""

    seed: int
    digits: int
    accuracy: float
    reliability: Reliability
    sets: Sets
    refusals: Refusals
    curve_digits: int
    curves: list[Curve]
    strokes: Strokes | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions for N pictures: probabilities (N, 10), all 0 for a blank one; not_a_digit (N,), 1 for a blank one, or
    None where the network refuses nothing; refused pictures, bool (N,), blank ones included.
    """

    probabilities: np.ndarray
    not_a_digit: np.ndarray | None
    refused: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Return the likeliest digits, int64 (N,); -1 for blank pictures."""
        return np.where(self.probabilities.any(1), self.probabilities.argmax(1), -1)


Predictor = Callable[[Iterable[Image.Image]], Answers]
Looks = Callable[[np.random.Generator], Look]


def measure_robustness(
    read: Read,
    calibration: Calibration,
    images: np.ndarray,
    labels: np.ndarray,
    drawings: Sequence[Drawing] = (),
    seed: int = 0,
    on_progress: Tell | None = None,
) -> Robustness:
    """Measure a version on digit images uint8 (N, 28, 28) with labels (N,), N at least 1, and on the drawings, if any.

    Raises ValueError where there are drawings but no digit among them.
    """
    chosen = random_stream("digits", seed).permutation(len(labels))[:CURVE_DIGITS]
    total = sum(len(change.levels) for change in CHANGES) * len(chosen) + stroke_pictures(drawings)
    done = itertools.count(1)

    def step() -> None:
        now = next(done)
        if on_progress and (now % 100 == 0 or now == total):
            on_progress(now / total)

    def curve(change: Change) -> Curve:
        levels = changed_pictures(change, images[chosen], seed, step)
        right = [float((predictor(read)(pictures).predicted == labels[chosen]).mean()) for pictures in levels]
        return Curve(change.name, change.unit, list(change.levels), right)

    probabilities, outliers = read(images)
    accepted = not_a_digit(outliers) <= calibration.refuse_above
    return Robustness(
        seed=seed,
        digits=len(labels),
        accuracy=report(probabilities, labels).accuracy,
        reliability=reliability(probabilities, labels),
        sets=conformal_sets(probabilities[accepted], labels[accepted], calibration),
        refusals=_refusals(read, outliers, calibration, seed),
        curve_digits=len(chosen),
        curves=[curve(change) for change in CHANGES],
        strokes=stroke_figures(predictor(read, calibration), drawings, seed, step, calibration) if drawings else None,
    )


def predictor(read: Read, calibration: Calibration = UNCALIBRATED) -> Predictor:
    """Return a function that preprocesses pictures and predicts them with `read`."""

    def ask(pictures: Iterable[Image.Image]) -> Answers:
        images, blank = digit_images(pictures)
        probabilities, outliers = read(images)
        scores = np.where(blank, 1, not_a_digit(outliers))
        refused = blank | (scores > calibration.refuse_above)
        return Answers(np.where(blank[:, None], 0, probabilities), scores if outliers.shape[1] else None, refused)

    return ask


def digit_images(pictures: Iterable[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Return the digit images, uint8 (N, 28, 28), of N pictures, and which pictures are blank, bool (N,)."""
    found = [digit_image(picture) for picture in pictures]
    empty = np.zeros((SIDE, SIDE), np.uint8)
    blank = np.array([image is None for image in found], bool)
    return np.stack([empty if image is None else image for image in found]), blank


def random_stream(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(seeds.derive_seed(f"strength, {purpose}", seed))


# Conformal sets and refusals of the test digits


def conformal_sets(probabilities: np.ndarray, labels: np.ndarray, calibration: Calibration) -> Sets:
    """Measure the sets of digits that verdicts name: probabilities (N, 10) of pictures not refused, labels (N,)."""
    rows = zip(probabilities.tolist(), labels.tolist(), strict=True)
    named = [(digit_set(likely, calibration), label, max(likely) < calibration.coverage) for likely, label in rows]
    unsure = [(digits, label) for digits, label, _ in named if len(digits) > 1]
    hesitant = [(digits, label) for digits, label, is_hesitant in named if len(digits) == 1 and is_hesitant]
    return Sets(
        promised=calibration.coverage,
        kept=_mean(label in digits for digits, label, _ in named),
        unsure=_mean(len(digits) > 1 for digits, _, _ in named),
        unsure_kept=_mean(label in digits for digits, label in unsure),
        unsure_size=_mean(len(digits) for digits, _ in unsure),
        hesitant=len(hesitant) / len(named) if named else None,
        hesitant_kept=_mean(label in digits for digits, label in hesitant),
    )


def _refusals(read: Read, outliers: np.ndarray, calibration: Calibration, seed: int) -> Refusals:
    images, reasons = synthetic.others(OTHERS, seeds.derive_seed("strength, others", seed))
    digits, others = not_a_digit(outliers), not_a_digit(read(images)[1])
    refused = others > calibration.refuse_above
    beside, area = _separation(digits, others) if outliers.shape[1] else (None, None)
    return Refusals(
        digits=float((digits > calibration.refuse_above).mean()),
        others={reason: float(refused[reasons == DIGITS + i].mean()) for i, reason in enumerate(REASONS)},
        beside=beside,
        area=area,
    )


def _separation(digits: np.ndarray, others: np.ndarray) -> tuple[float | None, float | None]:
    """Return `refused_beside` and `roc_area` of the probabilities of no digit."""
    return refused_beside(digits, others), roc_area(digits, others)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


# Curves of accuracy under changes


@dataclass(frozen=True)
class Change:
    """A change of digits: `apply` maps an image, uint8 (28, 28), a level and a generator to ink on a canvas, L."""

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[np.ndarray, float, np.random.Generator], Image.Image]


def _place(image: np.ndarray, scale: float, degrees: float = 0.0, dx: float = 0.0, dy: float = 0.0) -> Image.Image:
    """Enlarge ink onto the canvas, rotate it clockwise about the middle of its box, move it by canvas pixels."""
    ink = Image.fromarray(image)
    left, top, right, bottom = ink.getbbox() or (0, 0, SIDE, SIDE)
    cos, sin = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    x, y = SMALL_CANVAS / 2 + dx, SMALL_CANVAS / 2 + dy
    places = (cos, sin, (left + right) / 2 - cos * x - sin * y, -sin, cos, (top + bottom) / 2 + sin * x - cos * y)
    return ink.transform((SMALL_CANVAS, SMALL_CANVAS), Image.Transform.AFFINE, places, Image.Resampling.BILINEAR)


def _shift(image: np.ndarray, level: float, random: np.random.Generator) -> Image.Image:
    direction = random.uniform(0, 2 * math.pi)
    distance = level / 100 * SMALL_CANVAS
    return _place(image, THIRD, dx=distance * math.cos(direction), dy=distance * math.sin(direction))


def _change_width(image: np.ndarray, level: float, _random: np.random.Generator) -> Image.Image:
    ink = np.asarray(_place(image, WHOLE))
    strongest = np.maximum if level > 0 else np.minimum
    for _ in range(
        round(abs(level) * WHOLE / 2)
    ):  # each step adds or removes a pixel of the canvas on both sides of a line
        for axis in (0, 1):
            ink = strongest(ink, strongest(np.roll(ink, 1, axis), np.roll(ink, -1, axis)))
    return Image.fromarray(ink)


def _add_noise(image: np.ndarray, level: float, random: np.random.Generator) -> Image.Image:
    ink = np.asarray(_place(image, HALF), np.float32)
    grain = random.standard_normal(ink.shape, np.float32) * (255 * level / 100)
    return Image.fromarray((ink + grain).round().clip(0, 255).astype(np.uint8))


CHANGES = (
    Change("shift", "% of the canvas", (0, 10, 20, 30), _shift),
    Change(
        "size",
        "% of the canvas",
        (10, 20, 30, 50, 70, 90),
        lambda image, level, _: _place(image, level / 100 * SMALL_CANVAS / 20),
    ),
    Change(
        "angle", "degrees", (-45, -30, -20, -10, 0, 10, 20, 30, 45), lambda image, level, _: _place(image, HALF, level)
    ),
    Change("line width", "pixels wider, of 28", (-2, -1, 0, 1, 2, 3, 4), _change_width),
    Change("noise", "% of full contrast", (0, 5, 10, 15, 20, 30), _add_noise),
    Change(
        "blur",
        "pixels, of 28",
        (0, 0.5, 1, 1.5, 2, 2.5),
        lambda image, level, _: _place(image, HALF).filter(ImageFilter.GaussianBlur(level * HALF)),
    ),
)


def changed_pictures(
    change: Change, images: np.ndarray, seed: int, step: Callable[[], None]
) -> Iterable[Iterable[Image.Image]]:
    """Return, for each level of a change, the changed pictures of digits uint8 (N, 28, 28), to be consumed in order.

    `step` is called after each picture.
    """
    random = random_stream(change.name, seed)

    def pictures(level: float) -> Iterable[Image.Image]:
        for image in images:
            yield ImageOps.invert(change.apply(image, level, random))
            step()

    return (pictures(level) for level in change.levels)


# Strokes


def stroke_pictures(drawings: Sequence[Drawing]) -> int:
    """Return the number of pictures that `stroke_figures` draws."""
    digits = sum(drawing.digit is not None for drawing in drawings)
    return len(drawings) + min(digits, PAIRS) * (1 + len(PAIRED))


def stroke_figures(
    ask: Predictor,
    drawings: Sequence[Drawing],
    seed: int,
    step: Callable[[], None],
    calibration: Calibration | None = None,
) -> Strokes:
    """Measure drawings of real handwriting; `step` is called for each picture drawn.

    Raises ValueError where no drawing is a digit.
    """
    digits = [drawing for drawing in drawings if drawing.digit is not None]
    others = [drawing for drawing in drawings if drawing.digit is None]
    if not digits:
        raise ValueError("there is no digit among the drawings")
    labels = np.array([drawing.digit for drawing in digits])

    def seen(name: str, drawings: Sequence[Drawing], look: Looks) -> Answers:
        random = random_stream(f"strokes, {name}", seed)

        def pictures() -> Iterable[Image.Image]:
            for drawing in drawings:
                yield strokes.draw(drawing, look(random))
                step()

        return ask(pictures())

    def penned(random: np.random.Generator) -> Look:
        return Look(pen=random.uniform(*PENS))

    read = seen("digits", digits, penned)
    refused = seen("others", others, penned) if others else None
    beside = area = None
    if refused and read.not_a_digit is not None and refused.not_a_digit is not None:
        beside, area = _separation(read.not_a_digit, refused.not_a_digit)
    judged = report(read.probabilities, labels)
    paired = [digits[i] for i in random_stream("strokes, pairs", seed).permutation(len(digits))[:PAIRS]]
    plain = seen("plain", paired, lambda _: Look()).predicted
    changed = {name: seen(name, paired, look).predicted for name, look in PAIRED.items()}
    return Strokes(
        digits=len(digits),
        others=len(others),
        accuracy=judged.accuracy,
        top3_accuracy=judged.top3_accuracy,
        reliability=reliability(read.probabilities, labels),
        digits_refused=float(read.refused.mean()),
        others_refused=float(refused.refused.mean()) if refused else None,
        refused_beside=beside,
        area=area,
        pairs=len(paired),
        same={name: float(((plain == again) & (plain >= 0)).mean()) for name, again in changed.items()},
        sets=conformal_sets(read.probabilities[~read.refused], labels[~read.refused], calibration)
        if calibration
        else None,
    )


def _random_place(random: np.random.Generator) -> Look:
    return Look(x=random.uniform(-1, 1), y=random.uniform(-1, 1))


def _all_at_once_any_pen(random: np.random.Generator) -> Look:
    size, pen = random.uniform(*PAIR_SIZES), random.uniform(*PAIR_PENS)
    return replace(_random_place(random), size=size, pen=pen, angle=random.uniform(-PAIR_ANGLE, PAIR_ANGLE))


def _all_at_once(random: np.random.Generator) -> Look:
    look = _all_at_once_any_pen(random)
    return replace(look, pen=min(look.pen, WIDEST_PEN * look.size * strokes.CANVAS))


PAIRED: dict[str, Looks] = {
    "moved": _random_place,
    "size": lambda random: Look(size=random.uniform(*PAIR_SIZES)),
    "pen": lambda random: Look(pen=random.uniform(*PAIR_PENS)),
    "rotated": lambda random: Look(angle=random.uniform(-PAIR_ANGLE, PAIR_ANGLE)),
    "all at once": _all_at_once,
    "all at once, any pen": _all_at_once_any_pen,
}
"""Random looks of the second drawing of a pair; the first has the default one. "All at once" keeps the pen within a
quarter of the digit's size; "any pen" may draw a digit of 42 pixels with a pen of 40."""
