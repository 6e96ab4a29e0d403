"""Candidate cuts of ink between digits that touch."""

from __future__ import annotations

import numpy as np

from model.imaging.pieces import Piece, reduced, trimmed

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
        parts.append((trimmed(Piece(piece.left, piece.top, np.where(inside, piece.ink, 0))), cost))
    return parts


def _seams(ink: np.ndarray, step: int, height: float, pen: float, lean: float) -> list[tuple[np.ndarray, float]]:
    """Return seams from left to right, each as the first column to its right by row, with the pens of ink it crosses.

    Seams of least cost are found near every line of the writing's lean; of similar ones the cheapest is kept.
    """
    small = reduced(ink, step)
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
