"""Read whole numbers: choose, among the ways to join pieces of ink to digits, the one that the network finds likeliest.

Consecutive pieces of a line (`model.imaging.pieces`) are joined to candidates, every candidate is read, and the best
path through the lattice of candidates is the number (over-segmentation; LeCun et al., "Gradient-based learning applied
to document recognition", 1998, section V; Liu, Sako and Fujisawa, "Effects of classifier structures and training
regimes on integrated segmentation and recognition of handwritten numeral strings", 2004).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.imaging.cuts import cut
from model.imaging.normalise import from_ink
from model.imaging.pieces import (
    Box,
    Frame,
    Piece,
    digit_height,
    extent,
    ink_pieces,
    join,
    pen_width,
    stroke_pieces,
)
from model.imaging.symbols import lean_of, symbol
from model.imaging.text_lines import text_lines
from model.inference.classifier import Classifier, Prediction

# Most pieces of a picture; more are a texture, and no numbers.
MOST_PIECES = 250
# Least height of a line in pens.
LOWEST = 2.5
# A reading of strokes with less confidence is compared with one of the ink.
DOUBTFUL = 0.5
# Most candidates of a picture, and pixels of them, which take about a second.
MOST_CANDIDATES, MOST_CANDIDATE_PIXELS = 1_000, 40_000_000
# A candidate has at most so many pieces; of several pieces at most this width and gaps, in parts of the digits' height.
MOST_JOINED = 10
WIDEST, WIDEST_GAP = 1.6, 0.4
# Most lean that cuts follow, across by down.
MOST_LEAN = 0.5
# Paths kept at each place of the lattice, each with another text.
BEAM = 8
# The least probability that is told from 0.
FLOOR = 1e-5
# What the network refuses by itself is a digit among others up to this probability of none.
REFUSE_ABOVE = 0.5

# Costs in log scores, chosen on numbers of half of the writers (docs/recognition.md). Lengths are in parts of the
# height of the line's digits.
GAP = 2.5  # a gap inside a digit
WIDE, WIDE_COST = 1.2, 3.5  # what its width has more
LOW, LOW_COST = 0.6, 4.5  # what its height lacks
OVERLAPPING, OVERLAP = 0.07, 5.0  # what it begins earlier before the end of the digit to its left
TOUCH, CUT = 0.3, 0.35  # a cut, and each pen of ink that it crosses
SHARED = 1.0  # a piece that two digits have
SPECK = 2.0  # a piece that is left out
SYMBOL = 0.3  # a piece of a symbol's shape and place
SLASH = -0.5  # likewise; the network reads a slash as 1
REFUSAL = 1.5  # weight of the log probability of being a digit
# Largest pieces that may be shared, in height x pen, and left out, in pen x pen.
MOST_SHARED, MOST_SPECK = 1.0, 2.0
# Logistic regression of "entirely right" on the lead in log odds, at most that of LEAST_SHARE, and on the log score.
CONFIDENCE, LEAST_SHARE = (2.7, 0.27, 1.75), 1e-9


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

    def is_one(self) -> bool:
        """Tell whether it has a digit, and at most half of what is no symbol is refused."""
        refused, digits = self.text.count("?"), sum(sign.prediction is not None for sign in self.signs)
        return digits > 0 and 2 * refused <= digits


@dataclass(frozen=True)
class Span:
    """Pieces `start` to `end` of a line, with the widest gap between them and their left, top, right and bottom."""

    start: int
    end: int
    gap: int
    extent: tuple[int, int, int, int]

    @property
    def width(self) -> int:
        return self.extent[2] - self.extent[0]

    @property
    def height(self) -> int:
        return self.extent[3] - self.extent[1]


@dataclass(frozen=True)
class Candidate:
    """Pieces joined: the prediction of a digit, and the texts that they may be with log scores."""

    span: Span
    prediction: Prediction
    readings: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Path:
    """A way to read the first pieces of a line; its last candidate was read as `read`."""

    score: float
    text: str
    read: str = ""
    last: Candidate | None = None
    before: Path | None = None

    def steps(self) -> list[tuple[str, Candidate]]:
        """Return what was read with its candidates, from left to right."""
        found, path = [], self
        while path.last and path.before:
            found.append((path.read, path.last))
            path = path.before
        return found[::-1]


def read_numbers(classifier: Classifier, ink: np.ndarray, strokes: Sequence[np.ndarray] = ()) -> list[Number]:
    """Read the numbers in ink, float32 (H, W), 0 to 1: one for each line of text that has a digit.

    `strokes` of a drawing, float (n, 2) each, are in pixels of the ink.
    """
    found: list[Number] = []
    if 0 < len(strokes) <= MOST_PIECES:
        pen = pen_width(ink)
        pieces, frame = stroke_pieces(strokes, pen)
        found = _read(classifier, pieces, frame, pen * frame.scale, cutting=False)
        if confidence_of(found) >= DOUBTFUL:
            return found
    cut_apart = _read(classifier, *ink_pieces(ink), cutting=True)
    # One stroke may hold several digits, which are then told with confidence from the ink.
    return found if found and confidence_of(cut_apart) < DOUBTFUL else cut_apart


def confidence_of(numbers: Sequence[Number]) -> float:
    """Return the probability that all numbers are right; 0 where there is none."""
    return math.prod(number.confidence for number in numbers) if numbers else 0.0


def _read(classifier: Classifier, pieces: Sequence[Piece], frame: Frame, pen: float, cutting: bool) -> list[Number]:
    """Read pieces as numbers, a line each; `cutting` tells whether a piece may hold several digits."""
    if not 0 < len(pieces) <= MOST_PIECES:
        return []
    of_lines = [line for line in text_lines(pieces) if digit_height(line) > LOWEST * pen]
    lines = [Line.of(line, pen, cutting) for line in of_lines]
    spans = [list(line.spans()) for line in lines]
    together = [span for of_line in spans for span in of_line]
    if len(together) > MOST_CANDIDATES or sum(span.width * span.height for span in together) > MOST_CANDIDATE_PIXELS:
        return []
    numbers = [read_line(classifier, *of_line, frame) for of_line in zip(lines, spans, strict=True)]
    return [number for number in numbers if number.is_one()]


def read_line(classifier: Classifier, line: Line, spans: Sequence[Span], frame: Frame) -> Number:
    """Read a line of pieces, which may be joined in these spans, as one number."""
    images, others = [], []
    for span in spans:
        piece = join(line.pieces[span.start : span.end])
        images.append(from_ink(piece.ink))
        others.append(tuple(line.others(span, piece)))
    lattice: list[list[Candidate]] = [[] for _ in range(len(line.pieces) + 1)]
    for span, prediction, other in zip(spans, classifier.predict_digit_images(images), others, strict=True):
        lattice[span.end].append(Candidate(span, prediction, (*line.digits(span, prediction), *other)))
    paths = _best_paths(lattice, line)
    best = paths[0]
    signs = tuple(_sign(read, candidate, frame) for read, candidate in best.steps() if read)
    return Number("".join(sign.text for sign in signs), _confidence(paths), frame.box(extent(line.pieces)), signs)


def _confidence(paths: list[Path]) -> float:
    """Return the probability that the best of the paths is right, by its score and its lead over the other texts."""
    best = paths[0].score
    others = sum(math.exp(path.score - best) for path in paths[1:])
    constant, by_lead, by_score = CONFIDENCE
    return 1 / (1 + math.exp(-constant + by_lead * math.log(max(others, LEAST_SHARE)) - by_score * best))


def _sign(read: str, candidate: Candidate, frame: Frame) -> Sign:
    box = frame.box(candidate.span.extent)
    prediction = candidate.prediction
    if not read.isdigit():
        return Sign(read, box)
    if prediction.not_a_digit > REFUSE_ABOVE:
        return Sign("?", box, prediction)
    if prediction.verdict == "not_a_digit":  # by itself; among digits it is a doubtful one
        prediction = replace(prediction, verdict="unsure", digits=(int(read),), reason=None)
    return Sign(read, box, prediction)


@dataclass(frozen=True)
class Line:
    """A line's pieces from left to right, the number of the component of each, the cost of the cut before each and
    after the last (0: none), the height of its digits, its pen and the lean of its tall pieces."""

    pieces: Sequence[Piece]
    components: Sequence[int]
    cuts: Sequence[float]
    height: float
    pen: float
    leans: Sequence[tuple[Piece, float]]

    @classmethod
    def of(cls, pieces: Sequence[Piece], pen: float, cutting: bool) -> Line:
        height = digit_height(pieces)
        leans = [(piece, lean_of(piece)) for piece in pieces if piece.height >= LOW * height]
        lean = float(np.clip(np.median([lean for _, lean in leans]), -MOST_LEAN, MOST_LEAN))
        parts: list[tuple[float, int, Piece, float]] = []
        for number, piece in enumerate(pieces):
            middle = -math.inf
            for part, cost in cut(piece, height, pen, lean) if cutting else [(piece, 0.0)]:
                middle = max(middle, part.left + part.right)  # parts keep their order
                parts.append((middle, number, part, cost))
        parts.sort(key=lambda part: part[0])
        _, components, ordered, costs = zip(*parts, strict=True)
        return cls(ordered, components, (0.0, *costs), height, pen, leans)

    def spans(self) -> Iterator[Span]:
        """Yield the pieces that may be joined."""
        for start in range(len(self.pieces)):
            gap, right = 0, self.pieces[start].right
            for end in range(start + 1, min(start + MOST_JOINED, len(self.pieces)) + 1):
                gap = max(gap, self.pieces[end - 1].left - right)
                span = Span(start, end, gap, extent(self.pieces[start:end]))
                right = span.extent[2]
                if end > start + 1 and (span.width > WIDEST * self.height or gap > WIDEST_GAP * self.height):
                    break
                yield span

    def digits(self, span: Span, prediction: Prediction) -> Iterator[tuple[str, float]]:
        """Yield the likeliest digits with their log scores."""
        crossed = self.cuts[span.end]
        score = -GAP * span.gap / self.height - (TOUCH + CUT * crossed if crossed else 0.0)
        score -= LOW_COST * max(0.0, LOW - span.height / self.height)
        score -= WIDE_COST * max(0.0, span.width / self.height - WIDE)
        score += REFUSAL * math.log(max(1 - prediction.not_a_digit, FLOOR))
        for digit, probability in prediction.top:
            yield str(digit), score + math.log(max(probability, FLOOR))

    def others(self, span: Span, piece: Piece) -> Iterator[tuple[str, float]]:
        """Yield the symbol that a piece may be, or nothing where it may be a speck, with the log scores."""
        inside = self.components[span.start : span.end]
        if any(self.components.count(component) > inside.count(component) for component in set(inside)):
            return  # a part of what touches
        found = symbol(piece, *self._place(piece), self.pen, self._lean(piece))
        if found:
            yield found, -SLASH if found == "/" else -SYMBOL
        elif piece.area < MOST_SPECK * self.pen**2:
            yield "", -SPECK

    def may_be_shared(self, number: int) -> bool:
        """Tell whether two digits may both have a piece: it is between two cuts, and small."""
        at = self.pieces[number]
        return self.cuts[number] > 0 and self.cuts[number + 1] > 0 and at.area < MOST_SHARED * self.pen * self.height

    def _place(self, piece: Piece) -> tuple[float, float]:
        """Return the top and the bottom of the digits beside a piece: a line may rise or fall."""
        middle = piece.left + piece.right
        others = [tall for tall, _ in self.leans if tall is not piece] or [piece]
        others.sort(key=lambda tall: abs(tall.left + tall.right - middle))
        near = others[:2]
        return sum(tall.top for tall in near) / len(near), sum(tall.bottom for tall in near) / len(near)

    def _lean(self, piece: Piece) -> float:
        leans = [lean for tall, lean in self.leans if tall is not piece]
        return float(np.median(leans)) if leans else 0.0


def _best_paths(lattice: list[list[Candidate]], line: Line) -> list[Path]:
    """Return the best path to the end for each of the best texts, best first (Viterbi, with a beam of texts)."""
    paths: list[list[Path]] = [[Path(0.0, "")]]
    for ending in lattice[1:]:
        found: dict[str, Path] = {}
        for candidate in ending:
            for path, cost in _before(paths, candidate, line):
                start = path.score - cost - _overlap(path.last, candidate, line)
                for read, score in candidate.readings:
                    text = path.text + read
                    if text not in found or found[text].score < start + score:
                        found[text] = Path(start + score, text, read, candidate, path)
        paths.append(sorted(found.values(), key=lambda path: -path.score)[:BEAM])
    return paths[-1]


def _before(paths: list[list[Path]], candidate: Candidate, line: Line) -> Iterator[tuple[Path, float]]:
    """Yield the paths that a candidate may follow, up to its start or sharing its first piece, with the cost."""
    span = candidate.span
    for path in paths[span.start]:
        yield path, 0.0
    if span.end - span.start > 1 and line.may_be_shared(span.start):
        for path in paths[span.start + 1]:
            if path.last and path.last.span.start < span.start:
                yield path, SHARED


def _overlap(before: Candidate | None, candidate: Candidate, line: Line) -> float:
    """Return the cost of how far a candidate begins before the end of the one before it."""
    if before is None:
        return 0.0
    common = before.span.extent[2] - candidate.span.extent[0] - line.pen
    return OVERLAP * max(0.0, common / line.height - OVERLAPPING)
