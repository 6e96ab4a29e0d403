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
    return trimmed(Piece(left, top, np.asarray(paper, np.float32) / 255))


def trimmed(piece: Piece) -> Piece:
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
        part = reduced(part, step)
        found = components(part)
    pen = pen_width(part)
    return [piece for piece in found if piece.area > LEAST_INK * pen * pen], Frame(left, top, 1 / step), pen


def reduced(ink: np.ndarray, step: int) -> np.ndarray:
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


def pen_width(ink: np.ndarray) -> float:
    """Return the mean width of the lines of ink: twice the area over the length of the outline."""
    line = np.pad(ink > EDGE, 1)
    edges = np.count_nonzero(line[1:] != line[:-1]) + np.count_nonzero(line[:, 1:] != line[:, :-1])
    return 2 * np.count_nonzero(line) / max(edges * np.pi / 4, 1)


def digit_height(pieces: Sequence[Piece]) -> float:
    """Return the height of the digits: the height of pieces that six tenths of all heights together do not exceed.

    So neither one tall piece nor many small ones decide it.
    """
    heights = np.sort([piece.height for piece in pieces])
    sums = np.cumsum(heights)
    return float(heights[np.searchsorted(sums, 0.6 * sums[-1])])
