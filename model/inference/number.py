"""Read whole numbers: choose, among the ways to join pieces of ink to digits, the one that the network finds likeliest.

Consecutive pieces of a line (`model.imaging.segments`) are joined to candidates, every candidate is read, and the best
path through the lattice of candidates is the number (over-segmentation; LeCun et al., "Gradient-based learning applied
to document recognition", 1998, section V; Fenrich, "Segmentation of automatically located handwritten numeric
strings", 1992; Liu, Sako and Fujisawa, "Effects of classifier structures and training regimes on integrated
segmentation and recognition of handwritten numeral strings", 2004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.imaging.normalise import from_ink
from model.imaging.segments import (
    Box,
    Frame,
    Piece,
    components,
    cut,
    digit_height,
    join,
    pen_width,
    stroke_pieces,
    text_lines,
)
from model.inference.classifier import Classifier, Prediction

MOST_JOINED = 6
MOST_PIECES = 250
BEAM = 8
FLOOR = 1e-5
P = {"count": 0.0, "gap": 3.0, "overlap": 4.0, "low": 4.0, "wide": 3.0, "cut": 0.5}


@dataclass(frozen=True)
class Sign:
    """A digit or symbol of a number with its box in pixels of the ink; `prediction` is None for a symbol.

    `text` is "?" for a digit that the network refuses.
    """

    text: str
    box: Box
    prediction: Prediction | None = None


@dataclass(frozen=True)
class Number:
    """A line read: its text, the probability that all of it is right, its box in pixels of the ink, and its signs."""

    text: str
    confidence: float
    box: Box
    signs: tuple[Sign, ...]


@dataclass(frozen=True)
class Candidate:
    """Pieces `start` to `end` joined; the ways to read them with their log scores."""

    start: int
    end: int
    piece: Piece
    gap: float
    prediction: Prediction | None = None
    readings: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Path:
    score: float
    text: str
    last: Candidate | None = None
    before: Path | None = None

    def candidates(self) -> list[Candidate]:
        """Return the candidates from left to right."""
        found, path = [], self
        while path.last and path.before:
            found.append(path.last)
            path = path.before
        return found[::-1]


def read_numbers(classifier: Classifier, ink: np.ndarray, strokes: Sequence[np.ndarray] = ()) -> list[Number]:
    """Read the numbers in ink, float32 (H, W), 0 to 1: one for each line of text that has a digit.

    `strokes` of a drawing, float (n, 2) each, are in pixels of the ink.
    """
    pen = pen_width(ink)
    if strokes:
        pieces, frame = stroke_pieces(strokes, pen)
        pen = 0.0
    else:
        pieces, frame = [piece for piece in components(ink) if piece.area > pen * pen / 2], Frame()
    if not 0 < len(pieces) <= MOST_PIECES:
        return []
    numbers = [read_line(classifier, line, pen, frame) for line in text_lines(pieces)]
    return [number for number in numbers if any(sign.text.isdigit() for sign in number.signs)]


def read_line(classifier: Classifier, pieces: Sequence[Piece], pen: float, frame: Frame) -> Number:
    """Read a line of pieces as one number."""
    height = digit_height(pieces)
    pairs = [pair for piece in pieces for pair in (cut(piece, height, pen) if pen else [(piece, 0.0)])]
    pairs.sort(key=lambda pair: pair[0].left + pair[0].right)
    pieces, cuts = [piece for piece, _ in pairs], [cost for _, cost in pairs]
    candidates = list(_candidates(pieces, height))
    predictions = classifier.predict_digit_images([from_ink(c.piece.ink) for c in candidates])
    lattice: list[list[Candidate]] = [[] for _ in range(len(pieces) + 1)]
    for c, prediction in zip(candidates, predictions, strict=True):
        lattice[c.end].append(_scored(c, prediction, height, cuts[c.end - 1]))
    paths = _best_paths(lattice, height)
    best = paths[0]
    confidence = 1 / sum(math.exp(path.score - best.score) for path in paths)
    signs = tuple(_sign(candidate, frame) for candidate in best.candidates())
    return Number("".join(sign.text for sign in signs), confidence, frame.box(join(pieces)), signs)


def _sign(candidate: Candidate, frame: Frame) -> Sign:
    prediction = candidate.prediction
    assert prediction is not None
    refused = prediction.verdict == "not_a_digit"
    return Sign("?" if refused else str(prediction.top[0][0]), frame.box(candidate.piece), prediction)


def _candidates(pieces: Sequence[Piece], height: float):
    for start in range(len(pieces)):
        right = pieces[start].right
        left = pieces[start].left
        gap = 0.0
        for end in range(start + 1, min(start + MOST_JOINED, len(pieces)) + 1):
            piece = pieces[end - 1]
            gap = max(gap, piece.left - right)
            left, right = min(left, piece.left), max(right, piece.right)
            if end > start + 1 and (right - left > 1.6 * height or gap > 0.4 * height):
                break
            yield Candidate(start, end, join(pieces[start:end]), gap)


def _scored(c: Candidate, prediction: Prediction, height: float, crossed: float) -> Candidate:
    geometry = -P["gap"] * c.gap / height - P["count"] - P["cut"] * crossed
    geometry -= P["low"] * max(0.0, 0.6 - c.piece.height / height)
    geometry -= P["wide"] * max(0.0, c.piece.width / height - 1.2)
    digit = math.log(max(1 - prediction.not_a_digit, FLOOR))
    readings = tuple((str(d), geometry + digit + math.log(max(p, FLOOR))) for d, p in prediction.top)
    return Candidate(c.start, c.end, c.piece, c.gap, prediction, readings)


def _best_paths(lattice: list[list[Candidate]], height: float) -> list[Path]:
    paths: list[list[Path]] = [[Path(0.0, "")]]
    for ending in lattice[1:]:
        found: dict[str, Path] = {}
        for c in ending:
            for path in paths[c.start]:
                score = path.score - _overlap(path.last, c)
                for text, s in c.readings:
                    key = path.text + text
                    if key not in found or found[key].score < score + s:
                        found[key] = Path(score + s, key, c, path)
        paths.append(sorted(found.values(), key=lambda path: -path.score)[:BEAM])
    return paths[-1]


def _overlap(before: Candidate | None, c: Candidate) -> float:
    if before is None:
        return 0.0
    common = min(before.piece.right, c.piece.right) - max(before.piece.left, c.piece.left)
    return P["overlap"] * max(0.0, common / min(before.piece.width, c.piece.width) - 0.3)
