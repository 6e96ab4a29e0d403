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
# Most ink of a plus outside its two bars.
OUTSIDE_BARS = 0.06


def symbol(piece: Piece, top: float, bottom: float, pen: float, lean: float) -> str | None:
    """Return the symbol that a piece is, None for anything else.

    The digits beside it reach from `top` to `bottom`; `lean` is the line's.
    """
    height = bottom - top
    ink = piece.ink > EDGE
    at = (piece.top - top) / height
    parts = [_extent(ink[rows], rows.start, height, at) for rows in _bands(ink)]
    pen = pen / height
    if len(parts) == 2 and piece.height < 0.95 * height:
        if all(_is_dash(*part, pen) for part in parts):
            return "="
        return ":" if all(_is_dot(*part, pen) for part in parts) else None
    if len(parts) != 1:
        return None
    width, high, centre = parts[0]
    if _is_dash(width, high, centre, pen) and 0.28 < centre < 0.75:
        return "-"
    if centre > 0.75 and _is_dot(width, high, centre, pen) and high < 1.6 * max(width, pen):
        return "."
    if centre > 0.75 and centre + high / 2 > 1 and high < 0.6 and width < min(high, DOT + pen):
        return ","
    if 0.3 < high < 1.0 and 0.3 < width < 1.0 and 0.2 < centre < 0.85 and _is_plus(piece.ink, pen * height):
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


def _is_dash(width: float, high: float, centre: float, pen: float) -> bool:
    return high < max(DASH_HEIGHT, 2 * pen) and width > max(DASH_WIDTH, DASH_ASPECT * high)


def _is_dot(width: float, high: float, centre: float, pen: float) -> bool:
    return max(width, high) < max(DOT, 2 * pen)


def _is_plus(ink: np.ndarray, pen: float) -> bool:
    """Tell whether the ink is two bars that cross near the middle."""
    height, width = ink.shape
    rows, columns = ink.sum(1), ink.sum(0)
    y, x = int(rows.argmax()), int(columns.argmax())
    if not (0.3 < y / height < 0.7 and 0.3 < x / width < 0.7):
        return False
    down, across = np.abs(np.arange(height) - y), np.abs(np.arange(width) - x)
    outside = ink[np.ix_(down > max(pen, 0.14 * height), across > max(pen, 0.14 * width))].sum()
    return bool(outside < OUTSIDE_BARS * ink.sum() and rows[y] > 0.7 * width and columns[x] > 0.7 * height)


def _is_straight(ink: np.ndarray, pen: float) -> bool:
    y, x = np.nonzero(ink > EDGE)
    points = np.stack((x - x.mean(), y - y.mean()))
    direction = np.linalg.eigh(points @ points.T)[1][:, 0]  # across the line
    return bool((np.abs(direction @ points) < pen).mean() > STRAIGHT)
