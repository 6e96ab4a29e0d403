"""Tell the symbols between digits by the shape and the place of their ink.

All lengths are parts of the height of the line's digits, places from 0 at their top to 1 at their bottom.
"""

from __future__ import annotations

import numpy as np

from model.imaging.normalise import EDGE
from model.imaging.pieces import Piece

# A dot is at most this wide and high, or twice the pen.
DOT = 0.25
# A dash is at least this wide, at most this high (or twice the pen), and so many times as wide as high.
DASH_WIDTH, DASH_HEIGHT, DASH_ASPECT = 0.2, 0.25, 1.8
# Least height of a slash, how much further than the line's other tall pieces it leans, across by down, and the least
# share of its ink within a pen of a straight line.
SLASH_HEIGHT, SLASH_LEAN, STRAIGHT = 1.08, 0.27, 0.97
# Most ink of a plus outside its two bars, where they cross, in parts of its height and width, and how much of them they
# fill. Least and most width and height.
OUTSIDE_BARS, CROSSING, FILLED, PLUS_SIZE = 0.06, (0.3, 0.7), 0.7, (0.3, 1.0)
# Where the centre of a minus and of a plus is, and above which one point and comma are not.
MINUS_CENTRE, PLUS_CENTRE, LOW = (0.28, 0.75), (0.2, 0.85), 0.75
# Most height of "=" and ":". A point is round: at most so many times as high as wide. Most height of a comma.
TWO_PARTS, ROUND, COMMA_HEIGHT = 0.95, 1.6, 0.6


def symbol(piece: Piece, top: float, bottom: float, pen: float, lean: float) -> str | None:
    """Return the symbol that a piece is, None for anything else.

    The digits beside it reach from `top` to `bottom`; `lean` is the line's.
    """
    height = bottom - top
    ink = piece.ink > EDGE
    at = (piece.top - top) / height
    parts = [_extent(ink[rows], rows.start, height, at) for rows in _bands(ink)]
    pen = pen / height
    if len(parts) == 2 and piece.height < TWO_PARTS * height:
        if all(_is_dash(*part, pen) for part in parts):
            return "="
        return ":" if all(_is_dot(*part, pen) for part in parts) else None
    if len(parts) != 1:
        return None
    width, high, centre = parts[0]
    if _is_dash(width, high, centre, pen) and _within(centre, MINUS_CENTRE):
        return "-"
    if centre > LOW and _is_dot(width, high, centre, pen) and high < ROUND * max(width, pen):
        return "."
    if centre > LOW and centre + high / 2 > 1 and high < COMMA_HEIGHT and width < min(high, DOT + pen):
        return ","
    upright = _within(high, PLUS_SIZE) and _within(width, PLUS_SIZE) and _within(centre, PLUS_CENTRE)
    if upright and _is_plus(piece.ink, pen * height):
        return "+"
    if high > SLASH_HEIGHT and lean_of(piece) > max(lean, 0) + SLASH_LEAN and _is_straight(piece.ink, pen * height):
        return "/"
    return None


def lean_of(piece: Piece) -> float:
    """Return the lean of a piece by the moments of its ink."""
    y, x = np.nonzero(piece.ink > EDGE)
    spread = y.var()
    return float(-((x - x.mean()) * (y - y.mean())).mean() / spread) if spread else 0.0


def _bands(ink: np.ndarray) -> list[slice]:
    """Return the runs of rows with ink."""
    edges = np.flatnonzero(np.diff(ink.any(1).astype(np.int8), prepend=0, append=0))
    return [slice(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _extent(ink: np.ndarray, start: int, height: float, at: float) -> tuple[float, float, float]:
    """Return the width, the height and the vertical centre of a band of ink."""
    columns = np.flatnonzero(ink.any(0))
    high = len(ink) / height
    return (columns[-1] + 1 - columns[0]) / height, high, at + start / height + high / 2


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] < value < limits[1]


def _is_dash(width: float, high: float, centre: float, pen: float) -> bool:
    return high < max(DASH_HEIGHT, 2 * pen) and width > max(DASH_WIDTH, DASH_ASPECT * high)


def _is_dot(width: float, high: float, centre: float, pen: float) -> bool:
    return max(width, high) < max(DOT, 2 * pen)


def _is_plus(ink: np.ndarray, pen: float) -> bool:
    """Tell whether the ink is two bars that cross near the middle."""
    height, width = ink.shape
    rows, columns = ink.sum(1), ink.sum(0)
    y, x = int(rows.argmax()), int(columns.argmax())
    if not (_within(y / height, CROSSING) and _within(x / width, CROSSING)):
        return False
    down, across = np.abs(np.arange(height) - y), np.abs(np.arange(width) - x)
    outside = ink[np.ix_(down > max(pen, 0.14 * height), across > max(pen, 0.14 * width))].sum()
    return bool(outside < OUTSIDE_BARS * ink.sum() and rows[y] > FILLED * width and columns[x] > FILLED * height)


def _is_straight(ink: np.ndarray, pen: float) -> bool:
    y, x = np.nonzero(ink > EDGE)
    points = np.stack((x - x.mean(), y - y.mean()))
    direction = np.linalg.eigh(points @ points.T)[1][:, 0]  # across the line
    return bool((np.abs(direction @ points) < pen).mean() > STRAIGHT)
