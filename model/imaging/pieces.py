"""Segmentation of a picture's ink, or of a drawing's strokes, into lines of pieces.

A piece is a part of the ink that belongs to one sign: a connected component, a part of one between two candidate cuts
(over-segmentation), or a stroke. Which neighbouring pieces make a digit together is decided by the recogniser
(`model.inference.number`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from model.imaging.normalise import EDGE

Box = tuple[float, float, float, float]

# Height in pixels at which strokes are drawn: four pixels to one of the digit image.
TALL = 80
# Least ink of a component, in pen x pen.
LEAST_INK = 0.5
# Most pixels of all strokes drawn, a rectangle each.
MOST_PIXELS = 4_000_000


@dataclass(frozen=True, eq=False)
class Piece:
    """Ink, float32 (H, W), 0 to 1, whose first row and column are at `top` and `left`."""

    left: int
    top: int
    ink: np.ndarray

    @property
    def right(self) -> int:
        return self.left + self.ink.shape[1]

    @property
    def bottom(self) -> int:
        return self.top + self.ink.shape[0]

    @property
    def width(self) -> int:
        return self.ink.shape[1]

    @property
    def height(self) -> int:
        return self.ink.shape[0]

    @cached_property
    def area(self) -> float:
        return float(self.ink.sum())


def extent(pieces: Sequence[Piece]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of several pieces."""
    return (
        min(piece.left for piece in pieces),
        min(piece.top for piece in pieces),
        max(piece.right for piece in pieces),
        max(piece.bottom for piece in pieces),
    )


def join(pieces: Sequence[Piece]) -> Piece:
    """Return the ink of several pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    left, top, right, bottom = extent(pieces)
    ink = np.zeros((bottom - top, right - left), np.float32)
    for piece in pieces:
        part = ink[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left]
        np.maximum(part, piece.ink, out=part)
    return Piece(left, top, ink)


@dataclass(frozen=True)
class Frame:
    """The place of pieces in the picture: pixel p of the pieces is at origin + p / scale of the picture."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    def box(self, extent: Box) -> Box:
        """Return left, top, right and bottom of pieces in pixels of the picture."""
        left, top, right, bottom = extent
        return (
            self.x + left / self.scale,
            self.y + top / self.scale,
            self.x + right / self.scale,
            self.y + bottom / self.scale,
        )


def stroke_pieces(strokes: Sequence[np.ndarray], pen: float) -> tuple[list[Piece], Frame]:
    """Draw each stroke, float (n, 2), with a pen of this width: a piece each."""
    low = np.concatenate(strokes).min(0) - pen
    sides = np.array([np.ptp(stroke, axis=0) + pen for stroke in strokes])
    height = max(float(np.quantile(sides.max(1), 0.75, method="higher")), 2 * pen)
    scale = min(TALL / height, math.sqrt(MOST_PIXELS / float(sides.prod(1).sum())))
    pieces = [_draw((stroke - low) * scale, max(pen * scale, 1.0)) for stroke in strokes]
    return pieces, Frame(float(low[0]), float(low[1]), scale)


def _draw(stroke: np.ndarray, pen: float) -> Piece:
    left, top = np.floor(stroke.min(0) - pen / 2).astype(int).tolist()
    width, height = (np.ceil(stroke.max(0) + pen / 2).astype(int) + 1 - (left, top)).tolist()
    paper = Image.new("L", (width, height))
    brush = ImageDraw.Draw(paper)
    places = stroke - (left, top)
    if len(places) > 1:
        brush.line(places.ravel().tolist(), 255, round(pen), joint="curve")
    for x, y in (places[0].tolist(), places[-1].tolist()):
        brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 255)
    return _trimmed(Piece(left, top, np.asarray(paper, np.float32) / 255))


def _trimmed(piece: Piece) -> Piece:
    ink = piece.ink > EDGE
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return piece
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return Piece(piece.left + int(left), piece.top + int(top), piece.ink[top:bottom, left:right])


def ink_pieces(ink: np.ndarray) -> tuple[list[Piece], Frame, float]:
    """Return the components of ink, float32 (H, W), 0 to 1, without specks, their frame, and the pen's width in it.

    Ink of tall digits is reduced to about TALL pixels.
    """
    left, top, right, bottom = Image.fromarray(ink > EDGE).getbbox() or (0, 0, 1, 1)
    part = ink[top:bottom, left:right]
    found = components(part)
    step = max(1, int(digit_height(found) / TALL)) if found else 1
    if step > 1:
        part = _reduced(part, step)
        found = components(part)
    pen = pen_width(part)
    return [piece for piece in found if piece.area > LEAST_INK * pen * pen], Frame(left, top, 1 / step), pen


def _reduced(ink: np.ndarray, step: int) -> np.ndarray:
    """Return the means of squares of `step` pixels; the ink is continued by paper to whole squares."""
    rows, columns = -(-ink.shape[0] // step), -(-ink.shape[1] // step)
    padded = np.zeros((rows * step, columns * step), np.float32)
    padded[: ink.shape[0], : ink.shape[1]] = ink
    return padded.reshape(rows, step, columns, step).mean((1, 3))


# Components of ink, at most: more are a texture, and each takes 20 us.
MOST_COMPONENTS = 5_000


def components(ink: np.ndarray) -> list[Piece]:
    """Return the 8-connected components of the ink, float32 (H, W), 0 to 1; none of a texture."""
    height, width = ink.shape
    stride = width + 2
    mask = np.zeros((height, stride), np.int8)
    mask[:, 1:-1] = ink > EDGE
    steps = np.diff(mask.ravel(), prepend=0)
    starts, ends = (steps == 1).nonzero()[0], (steps == -1).nonzero()[0]
    if not len(starts):
        return []
    roots = _connected(len(starts), *_touching(starts, ends, stride))
    _, labels = np.unique(roots, return_inverse=True)
    change = np.zeros(height * stride, np.int32)
    change[starts], change[ends] = labels + 1, -(labels + 1)
    image = np.cumsum(change).reshape(height, stride)[:, 1:-1]
    count = int(labels.max()) + 1
    if count > MOST_COMPONENTS:
        return []
    box = np.empty((4, count), np.int64)
    box[:2], box[2:] = max(height, width), 0
    rows = starts // stride
    np.minimum.at(box[0], labels, starts % stride - 1)
    np.minimum.at(box[1], labels, rows)
    np.maximum.at(box[2], labels, ends - rows * stride - 1)
    np.maximum.at(box[3], labels, rows + 1)
    pieces = []
    for label, (left, top, right, bottom) in enumerate(box.T.tolist(), 1):
        part = np.s_[top:bottom, left:right]
        pieces.append(Piece(left, top, np.where(image[part] == label, ink[part], 0)))
    return pieces


def _touching(starts: np.ndarray, ends: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of runs of ink in neighbouring rows that touch, also at a corner."""
    first = np.searchsorted(ends, starts + stride, "left")
    last = np.searchsorted(starts, ends + stride, "right")
    counts = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(starts)), counts)
    below = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return above, below


def _connected(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the smallest member of each node's connected part, given the pairs that are connected."""
    parent = np.arange(count)
    while True:
        a, b = parent[one], parent[other]
        if (a == b).all():
            return parent
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]


# Rows at which cuts are found, at most.
CUT_ROWS = 40
# How far a seam may be from a straight line, and least width of what is cut, as parts of the digits' height.
REACH = 0.25
NARROW = 0.4
# Cost of a step aside, in pixels of ink.
ASIDE = 0.02
# Most pens of ink that a cut may cross, and least area of a piece, in parts of height x pen.
MOST_CROSSED = 2.3
LEAST_AREA = 0.12
# Most cuts of a piece: ten touching digits have fewer.
MOST_CUTS = 40


def pen_width(ink: np.ndarray) -> float:
    """Return the mean width of the lines of ink: twice the area over the length of the outline."""
    line = np.pad(ink > EDGE, 1)
    edges = np.count_nonzero(line[1:] != line[:-1]) + np.count_nonzero(line[:, 1:] != line[:, :-1])
    return 2 * np.count_nonzero(line) / max(edges * np.pi / 4, 1)


def cut(piece: Piece, height: float, pen: float, lean: float) -> list[tuple[Piece, float]]:
    """Cut a piece wherever two digits may touch; return the parts with the cost of the cut to the right of each.

    A cut is a seam from the top to the bottom that crosses little ink (Wang and Jean, "Segmentation of merged
    characters by neural networks and shortest path", 1993).
    """
    if piece.width < NARROW * height:
        return [(piece, 0.0)]
    step = max(1, round(piece.height / CUT_ROWS))
    seams = _seams(piece.ink, step, height, pen, lean)
    parts, columns = [], np.arange(piece.width)
    edges = [np.zeros(piece.height, int), *(at for at, _ in seams), np.full(piece.height, piece.width)]
    costs = [*(cost for _, cost in seams), 0.0]
    for left, right, cost in zip(edges[:-1], edges[1:], costs, strict=True):
        inside = (columns >= left[:, None]) & (columns < right[:, None])
        parts.append((_trimmed(Piece(piece.left, piece.top, np.where(inside, piece.ink, 0))), cost))
    return parts


def _seams(ink: np.ndarray, step: int, height: float, pen: float, lean: float) -> list[tuple[np.ndarray, float]]:
    """Return seams from left to right, each as the first column to its right by row, with the pens of ink it crosses.

    Seams of least cost are found near every line of the writing's lean; of similar ones the cheapest is kept.
    """
    small = _reduced(ink, step)
    rows = len(small)
    slanted = np.round(lean * (rows / 2 - np.arange(rows))).astype(int)
    seams, costs = _paths_near(small, slanted, max(1, round(REACH * height / step)))
    costs = costs * step / pen
    sums = np.pad(np.cumsum(small, 1), ((0, 0), (1, 0)))
    areas = sums[np.arange(rows), seams].sum(1) * step * step
    least, whole = LEAST_AREA * height * pen, float(ink.sum())
    chosen: list[int] = []
    for i in np.argsort(costs, kind="stable").tolist():
        if costs[i] > MOST_CROSSED:
            break
        if not least < areas[i] < whole - least or (np.abs(areas[i] - areas[chosen]) <= least).any():
            continue
        if _beside(seams[i], seams[chosen]):
            chosen.append(i)
        if len(chosen) == MOST_CUTS:
            break
    chosen.sort(key=lambda i: areas[i])
    return [(np.repeat(seams[i], step)[: ink.shape[0]] * step, float(costs[i])) for i in chosen]


def _paths_near(small: np.ndarray, slanted: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for the slanted line through each column, the path from top to bottom that crosses the least ink.

    A path stays within `reach` of its line. Return (paths, rows) columns and the costs.
    """
    rows, width = small.shape
    most = int(np.abs(slanted).max()) + reach
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(small, ((0, 0), (most, most))), 2 * reach + 1, axis=1)
    columns = np.arange(width)
    starts = columns + most - reach + slanted[:, None]
    total = windows[0][starts[0]]
    back = np.zeros((rows, width, 2 * reach + 1), np.int8)
    for row in range(1, rows):
        shift = slanted[row] - slanted[row - 1]  # of the window, which the path need not follow
        best = np.full_like(total, np.inf)
        for move in (0, -1, 1):
            source, cost = move + shift, ASIDE * abs(move)
            part = np.s_[max(0, -source) : total.shape[1] - max(0, source)]
            moved = total[:, max(0, source) : total.shape[1] + min(0, source)] + cost
            better = moved < best[:, part]
            best[:, part] = np.where(better, moved, best[:, part])
            back[row][:, part][better] = source
        total = best + windows[row][starts[row]]
    at = total.argmin(1)
    costs = total[columns, at]
    paths = np.empty((width, rows), int)
    for row in range(rows - 1, -1, -1):
        paths[:, row] = columns + slanted[row] + at - reach
        at = at + back[row, columns, at]
    return paths.clip(0, width), costs


def _beside(one: np.ndarray, others: np.ndarray) -> bool:
    """Return whether a seam, (rows,), crosses none of others, (n, rows)."""
    return bool(((one <= others).all(1) | (one >= others).all(1)).all())


# Pieces of a line: most distance to the next one, and least common part of their heights (of the smaller one).
LINE_GAP = 2.5
LINE_COMMON = 0.4
# Most distance between a piece and the rest of the same broken digit below it, in parts of the lower height.
BROKEN = 0.15
# Pieces lower than this part of the digits' height are not lines by themselves: points, dashes, parts of digits.
SMALL = 0.45


def text_lines(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Divide pieces into lines of text, from top to bottom.

    Tall pieces are linked to their neighbours at the same height, so that a line may rise or fall; small ones join the
    line of the nearest tall piece.
    """
    height = digit_height(pieces)
    tall = [piece for piece in pieces if piece.height >= SMALL * height] or list(pieces)
    line_of = list(range(len(tall)))
    for i, one in enumerate(tall):
        for j, other in enumerate(tall[:i]):
            if _in_line(one, other, height):
                old, new = line_of[i], line_of[j]
                line_of = [new if line == old else line for line in line_of]
    found: dict[int, list[Piece]] = {}
    for line, piece in zip(line_of, tall, strict=True):
        found.setdefault(line, []).append(piece)
    kept = {id(piece) for piece in tall}
    for piece in pieces:
        if id(piece) not in kept:
            nearest = min(range(len(tall)), key=lambda i: _distance(piece, tall[i]))
            found[line_of[nearest]].append(piece)
    return sorted(found.values(), key=lambda line: sum(piece.top + piece.bottom for piece in line) / len(line))


def digit_height(pieces: Sequence[Piece]) -> float:
    """Return the height of the digits: the height of pieces that six tenths of all heights together do not exceed.

    So neither one tall piece nor many small ones decide it.
    """
    heights = np.sort([piece.height for piece in pieces])
    sums = np.cumsum(heights)
    return float(heights[np.searchsorted(sums, 0.6 * sums[-1])])


def _in_line(one: Piece, other: Piece, height: float) -> bool:
    gap = max(one.left, other.left) - min(one.right, other.right)
    common = min(one.bottom, other.bottom) - max(one.top, other.top)
    low = min(one.height, other.height)
    beside = gap < LINE_GAP * height and common > LINE_COMMON * low
    return beside or (gap < -LINE_COMMON * min(one.width, other.width) and -common < BROKEN * low)


def _distance(one: Piece, other: Piece) -> float:
    across = max(one.left - other.right, other.left - one.right, 0)
    down = max(one.top - other.bottom, other.top - one.bottom, 0)
    return across * across + down * down
