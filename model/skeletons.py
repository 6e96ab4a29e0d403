"""The line a pen follows in a digit or in what is no digit: skeletons without width, as people write them.

A shape is written as its strokes, separated by "/"; a stroke is its points "x,y" on a field of 100 x 100, y
downwards, through which the pen goes in a smooth curve, with a corner where a point ends in "!". MNIST shows American
hands of the 1990s; here are the forms that it hardly has as well: the 1 with a flag and a foot, the crossed 7, the open
4, the slashed zero. Letters come from the Hershey fonts, which were drawn as strokes for plotters, and from our own
hands below; those that some hand writes like a digit (O, I, l, Z, S, B, b, g, q ...) are left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

DIGITS: dict[int, tuple[str, ...]] = {
    0: (
        "50,0 20,15 8,50 20,88 50,100 80,88 92,50 80,15 52,0",
        "55,3 30,8 12,35 10,65 30,97 60,98 85,75 90,40 75,10 45,0",
        "70,8 45,0 18,22 10,60 30,98 65,95 90,60 85,20 62,4 50,10",
        "30,8 10,40 18,85 50,100 85,80 90,35 65,2 25,8 20,20",
        "60,0 35,5 25,50 35,96 60,100 75,60 74,20 58,0",
    ),
    1: (
        "50,0! 50,100",
        "60,0! 42,100",
        "45,0 52,50 48,100",
        "25,25! 52,0! 52,100",
        "15,38! 55,0! 52,100",
        "5,55! 60,0! 56,100",
        "10,72! 62,0! 54,100",
        "28,22 40,14 54,0! 50,100",
        "22,28! 50,0! 50,100! / 22,100! 78,100",
        "15,30! 52,0! 52,98! / 8,99! 95,98",
        "30,20! 50,0! 50,100! / 35,100! 66,100",
        "0,60! 58,0! 52,100! / 30,100! 75,100",
        "36,12! 52,0! 50,100 / 10,100 45,96 90,100",
        "35,5! 50,2! 50,98! / 32,100! 68,100",
    ),
    2: (
        "10,25 25,5 55,0 80,15 78,40 50,70 8,98! 95,96",
        "12,30 20,8 50,0 82,12 80,42 45,75 15,98 8,85 25,80 55,95 95,92",
        "15,20 45,0 80,10 80,35 40,70 5,100! 90,100",
        "5,15 40,0 75,12 70,45 35,80 10,95 20,78 45,85 70,98 98,85",
        "20,10! 75,5! 60,50 10,98! 92,98",
        "25,28 30,5 55,0 70,18 62,45 30,96! 78,98",
        "10,5 60,0 80,20 60,50 15,92 30,98 60,92 98,97",
    ),
    3: (
        "12,12 45,0 80,12 75,38 40,48! 80,55 90,80 55,100 10,90",
        "15,2! 85,2! 42,42! 80,52 88,80 52,100 10,88",
        "10,15 40,0 78,10 72,36 35,46 45,48 82,58 85,85 45,100 5,88",
        "20,8 55,0 78,18 50,46! 82,62 70,95 35,100 12,85",
        "8,5 82,0! 35,40 70,42 92,65 75,95 35,100 5,92",
        "15,10 50,0 75,15 60,40 38,48 30,46 45,44 80,60 78,90 45,100 8,92",
    ),
    4: (
        "30,0! 10,58! 92,55 / 68,20! 66,100",
        "20,5! 18,50! 85,48 / 75,0! 70,100",
        "65,0! 5,68! 95,66 / 66,0! 66,100",
        "70,0! 10,65! 95,62 / 70,2! 68,100",
        "15,0 10,45 30,58 75,45! / 82,0! 75,50 70,100",
        "10,5! 22,48 50,55 80,42! 85,0! 72,100",
        "35,0! 5,60! 95,60! / 60,35! 55,100",
        "18,10 12,40 25,52 60,50! 88,48 / 78,8! 62,100",
        "60,0 30,35 5,66! 92,64 / 72,40! 66,100",
        "20,0! 12,55! 60,58 98,52 / 62,30! 60,100",
        "72,0! 20,48 8,62 95,58! / 62,38! 60,100",
        "28,0 22,30 30,52 60,55 82,48! / 88,2! 82,60 74,100",
    ),
    5: (
        "85,2! 25,4! 18,45 55,38 85,60 75,92 40,100 8,90",
        "30,5! 22,45! 60,38 86,62 70,95 35,100 10,90 / 28,4! 90,2",
        "88,0! 30,2! 15,48! 50,42 82,62 72,95 38,100 5,85",
        "35,10! 25,48! 62,45 80,70 60,97 15,98 / 35,8 60,6 92,0",
        "80,0 45,2 25,15 30,40 65,55 78,80 50,100 10,92",
        "90,5! 35,0! 30,42 72,45 88,68 60,98 8,96",
        "32,8! 22,40! 55,35 82,55 75,90 40,100 12,88 / 42,0! 95,4",
        "85,4 50,0 20,10! 15,50! 60,50 75,75 55,100 0,98",
    ),
    6: (
        "70,0 35,25 12,65 30,98 65,98 85,75 65,55 35,58 15,78",
        "60,0 30,30 15,70 40,100 75,92 80,68 55,55 25,68 18,80",
        "45,0 20,40 15,75 45,100 80,85 75,60 45,52 20,70",
        "80,5 45,8 15,45 12,80 45,100 85,82 78,58 40,52 14,70",
        "30,0! 18,50 22,85 55,100 82,80 72,55 40,55 20,75",
        "55,0 38,40 30,75 45,98 62,90 65,72 50,66 34,78",
        "72,0 40,20 15,60 20,92 60,100 88,78 70,60 38,64 22,84 30,92",
    ),
    7: (
        "8,5! 88,3! 45,100",
        "10,8 50,4 90,2! 55,50 38,100",
        "5,22! 12,4! 90,4! 40,100",
        "8,5! 90,2! 40,100 / 25,52! 85,48",
        "10,4! 85,4! 45,50 35,100 / 20,50! 75,50",
        "5,18 15,2 50,8 92,0! 60,45 45,100 / 30,55! 90,48",
        "12,2! 82,2! 60,50 56,100 / 30,45! 88,45",
        "0,15! 5,0! 95,0! 50,60 40,100 / 20,60! 80,54",
        "15,5! 80,0! 78,40 70,100",
        "18,3 50,10 85,0! 52,48 42,100 / 22,48 50,44 82,50",
    ),
    8: (
        "75,15 50,0 22,15 35,40 70,60 78,88 45,100 18,85 30,58 72,32 72,12",
        "50,0 22,18 50,46 80,22 50,0 / 50,46 15,75 50,100 86,75 50,46",
        "80,10! 50,0 20,20 75,70 60,98 25,90 30,65 82,8",
        "20,5! 80,95! 20,95! 78,5! 22,5",
        "50,0! 22,24! 50,46! 78,70! 50,100! 20,72! 50,46! 76,22! 52,0",
        "48,46 25,25 45,0 72,15 52,44 22,75 45,100 78,80 52,46",
        "85,5 45,2 25,22 50,45 80,72 55,100 20,82 40,50 80,20 84,0",
        "50,2 28,20 60,52 72,80 48,100 28,80 45,52 70,22 52,2",
        "72,8 35,2 22,25 48,48 82,68 70,98 30,98 20,72 55,48 88,15",
        "30,0! 70,0! 30,100! 72,100! 28,2",
    ),
    9: (
        "78,15 45,0 15,22 30,50 65,48 80,15! 75,60 68,100",
        "80,20 50,0 20,18 28,48 60,48 82,15 80,70 55,98 20,90",
        "75,10 35,2 15,30 40,52 75,35 82,5! 62,100",
        "82,5 40,0 15,25 35,50 78,40! 85,2 80,60 60,95 15,98",
        "60,0 25,12 22,40 55,50 78,25 62,2 76,20 78,70 60,100",
        "80,8 45,0 18,25 40,46 76,30! 82,8! 82,100",
        "70,5 35,0 15,28 38,48 72,38 85,10! 70,60 20,100",
        "78,20 55,0 22,10 20,40 50,50 76,30! 72,100 / 60,100 88,100",
    ),
}

SLASHES: tuple[str, ...] = (
    "82,12! 18,88",
    "108,-12! -8,112",
    "98,4! -5,105",
    "95,0! 4,100",
    "118,-5! -10,108",
    "75,22! 25,78",
    "62,-14! 38,114",
    "112,12! -12,90",
    "90,8! 22,82",
    "15,15! 85,85",
)
"""What crosses a zero: over its width and height, or short of it, or beyond."""

LETTERS: tuple[str, ...] = (
    # a
    "70,30 45,15 15,40 15,75 40,95 70,60 72,20! 72,70 82,98 100,88",
    "75,25 40,20 15,55 30,90 60,85 75,30 70,80 90,90",
    "82,10 40,5 10,50 25,92 60,80 85,12 75,60 78,95 100,80",
    "20,25 50,10 75,30 75,95! / 75,50 35,50 15,75 35,98 75,80",
    "75,10 50,0 15,45 20,90 50,95 80,8 75,95 95,85",
    # c, C
    "85,20 50,0 15,30 15,75 50,100 88,80",
    "80,30 55,10 20,35 15,70 45,95 95,85",
    "90,15 60,0 20,40 10,80 40,100 98,95",
    # d
    "75,55 45,45 15,70 30,98 60,92 78,0! 74,80 88,98",
    "70,60 30,50 10,80 35,100 68,80 80,0 72,98",
    "85,0! 60,60 35,45 10,75 30,98 58,85 72,40 68,90 95,95",
    # e
    "15,55 80,45 70,10 35,10 12,50 30,95 90,85",
    "10,60 55,50 75,25 55,5 20,35 20,85 60,98 95,75",
    "0,75 55,45 62,15 40,5 20,45 35,92 98,70",
    "20,50! 82,50 75,15 45,5 15,35 20,80 55,98 90,80",
    "5,65 50,50 70,10 45,0 18,50 30,98 100,80",
    # f, h, k
    "85,10 60,0 45,25 42,100 / 20,45! 75,42",
    "78,5 55,5 50,50 45,100 / 25,50! 80,45",
    "20,0! 20,100! 25,60 50,45 72,60 75,100",
    "40,10 30,0 18,50 10,100! 30,60 60,50 60,85 80,95 100,80",
    "20,0! 18,100 / 75,35! 22,65! 80,100",
    "30,0! 20,98 / 70,30 25,60! 50,70 85,98",
    # m, n
    "5,40! 8,98! 12,50 32,35 42,60 42,98! 48,50 68,38 80,60 85,98 98,95",
    "0,95! 20,35 30,90! 45,35 58,85! 75,35 80,90 100,88",
    "20,30! 22,98! 28,50 55,30 75,50 78,98",
    "5,98! 30,30 35,45 28,95! 55,40 70,35 75,90 100,85",
    "15,20! 15,100! 22,40 60,15 82,40 82,100",
    # p, P
    "22,15! 20,100 / 22,30 55,10 82,30 70,58 24,60",
    "25,0! 22,100 / 5,8 55,0 88,20 70,50 25,52",
    # r, R
    "20,20! 25,98! 30,50 55,25 85,30",
    "10,40 35,20! 45,40 70,35 62,95",
    "15,15! 15,100 / 18,45 50,15 95,22",
    "22,0! 20,100 / 10,5 60,0 78,25 22,50! 85,100",
    # u, v, w
    "12,5! 15,70 45,98 75,70 82,5! 82,80 98,98",
    "10,10 20,75 45,95 72,60 78,10! 80,75 100,85",
    "12,0! 18,70 50,100 80,70 88,0",
    "10,5! 48,98! 90,0",
    "10,20 30,90 50,98 70,60 85,10 98,5",
    "0,10! 25,95! 50,30! 72,95! 100,5",
    "5,20 15,85 40,85 50,40 60,88 85,80 95,15",
    # x, y-less
    "10,5! 90,98 / 88,0! 12,100",
    "5,20 25,10 50,50 75,95 98,85 / 90,8 50,50 8,95",
    # A, E, F, H, K, M, N, U, V, W, X, Y
    "5,100! 48,0! 95,100 / 22,62! 78,60",
    "0,95 40,10 60,5! 82,98 / 15,65! 90,58",
    "80,5! 18,3! 18,98! 85,97 / 18,50! 70,48",
    "85,12 40,0 15,25 45,45! 10,70 30,98 85,90",
    "82,5! 15,5! 12,100 / 14,50! 68,48",
    "15,5! 15,98 / 80,0! 82,100 / 15,52! 82,48",
    "30,0! 20,98 / 85,2! 75,100 / 20,58! 85,45",
    "18,0! 15,100 / 85,2! 18,55! 88,100",
    "8,100! 15,0! 50,60! 85,0! 92,100",
    "12,100! 12,0! 85,100! 85,0",
    "10,0! 50,48! 90,0 / 50,48! 48,100",
    "8,5! 48,52 / 92,0! 25,100",
    # symbols
    "8,50! 92,50 / 50,8! 50,92",
    "10,35! 90,33 / 10,65! 90,66",
    "90,10! 10,50! 90,90",
    "10,10! 90,50! 10,90",
    "30,5! 22,95 / 70,5! 62,95 / 5,35! 95,33 / 5,68! 95,65",
    "50,5! 50,95 / 12,28! 88,72 / 88,28! 12,72",
    "15,25 40,0 80,15 70,45 50,60 50,75! / 49,95! 51,97",
    "75,20 35,8 20,30 75,65 65,90 15,85 / 50,0! 46,100",
    "90,10! 10,95 / 25,5 8,22 25,40 42,22 27,5 / 75,60 58,78 75,95 92,78 77,60",
    "95,98 20,35 30,5 55,10 50,35 10,70 25,98 60,90 90,55",
    "70,40 50,30 32,50 50,70 68,55 70,35! 75,65 95,55 85,15 45,0 8,35 15,85 60,100 90,90",
    # figures
    "50,3! 3,95! 97,95! 51,4",
    "5,5! 95,5! 95,95! 5,95! 5,6",
    "50,0! 80,98! 2,38! 98,38! 20,98! 50,1",
    "50,95! 8,40 10,12 35,5 50,30 65,5 90,12 92,40 50,95",
    "5,50! 95,50! 65,20! / 95,50! 65,80",
    "5,55! 35,92! 95,8",
    "0,60 15,35 30,50 45,70 60,50 75,30 100,55",
    "5,95! 5,5! / 5,95! 95,95",
    "50,0 0,50 50,100 100,50 52,0 / 32,35! 33,37 / 67,35! 68,37 / 28,68 50,82 72,68",
    "10,10! 90,12 / 10,50! 88,50 / 10,90! 92,90",
)
"""Letters and figures in our own hands, beside those of the Hershey fonts."""

HERSHEY_FONTS = ("futural", "rowmans", "scripts", "cursive")
HERSHEY_LETTERS = "ACEFHKMNPRUVWXYacdefhkmnpruvwx#$%&*+<=>?@"

SPACING = 2.5
"""Distance of neighbouring points of a drawn line, on the field of 100: half a pixel of the 20-pixel box."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A line that can be bent: its points are `curve @ controls`, whatever the controls are moved to.

    controls float32 (C, 2) of (x, y) on the field of 100; curve float32 (P, C), its rows summing to 1.
    """

    controls: np.ndarray
    curve: np.ndarray

    @classmethod
    def joined(cls, parts: list[Skeleton]) -> Skeleton:
        """Several lines as one."""
        controls = np.concatenate([part.controls for part in parts])
        curve = np.zeros((sum(len(part.curve) for part in parts), len(controls)), np.float32)
        row = column = 0
        for part in parts:
            rows, columns = part.curve.shape
            curve[row : row + rows, column : column + columns] = part.curve
            row, column = row + rows, column + columns
        return cls(controls, curve)


def skeleton(shape: str) -> Skeleton:
    """The skeleton of a shape as it is written above."""
    return Skeleton.joined([_stroke(stroke) for stroke in shape.split("/")])


@functools.cache
def digits() -> dict[int, list[Skeleton]]:
    """The forms of each digit, a zero's with and without what crosses it."""
    found = {digit: [skeleton(shape) for shape in shapes] for digit, shapes in DIGITS.items()}
    slashes = [skeleton(slash) for slash in SLASHES]
    found[0] = 5 * found[0] + [Skeleton.joined([zero, slash]) for zero in found[0] for slash in slashes]
    return found


@functools.cache
def letters() -> list[Skeleton]:
    """Letters, symbols and figures that no digit looks like."""
    return [skeleton(shape) for shape in LETTERS] + _hershey_letters()


def _hershey_letters() -> list[Skeleton]:
    from HersheyFonts import HersheyFonts

    found = []
    for name in HERSHEY_FONTS:
        font = HersheyFonts()
        font.load_default_font(name)
        for letter in HERSHEY_LETTERS:
            strokes = [np.array(stroke, np.float32) for stroke in font.strokes_for_text(letter)]
            points = np.concatenate(strokes)
            scale = 100 / np.ptp(points, axis=0).max()
            strokes = [(stroke - points.min(0)) * scale for stroke in strokes if len(stroke) > 1]
            found.append(Skeleton.joined([_polyline(stroke) for stroke in strokes]))
    return found


def _stroke(stroke: str) -> Skeleton:
    """A Catmull-Rom spline through the points (Catmull and Rom 1974), broken at the corners."""
    words = stroke.split()
    points = np.array([[float(value) for value in word.rstrip("!").split(",")] for word in words], np.float32)
    breaks = [0, *(i for i in range(1, len(words) - 1) if words[i].endswith("!")), len(words) - 1]
    curve = []
    for first, last in zip(breaks, breaks[1:], strict=False):
        rows = _spline(points[first : last + 1])
        curve.append(np.zeros((len(rows), len(points)), np.float32))
        curve[-1][:, first : last + 1] = rows
    return Skeleton(points, np.concatenate(curve))


def _spline(points: np.ndarray) -> np.ndarray:
    """The rows of the curve through `points`, for `SPACING` between the points that they make."""
    if len(points) == 2:
        return _polyline(points).curve
    # The line goes on straight before its first and after its last point.
    known = np.eye(len(points), dtype=np.float32)
    known = np.concatenate((2 * known[:1] - known[1:2], known, 2 * known[-1:] - known[-2:-1]))
    rows = [known[1:2]]
    for i in range(len(points) - 1):
        a, b, c, d = known[i : i + 4]
        t = _steps(points[i], points[i + 1])
        rows.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate(rows)


def _polyline(points: np.ndarray) -> Skeleton:
    known = np.eye(len(points), dtype=np.float32)
    rows = [known[:1]]
    for i in range(len(points) - 1):
        rows.append(known[i] + (known[i + 1] - known[i]) * _steps(points[i], points[i + 1]))
    return Skeleton(points, np.concatenate(rows))


def _steps(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Where the points after `start` stand on the way to `end`: (n, 1), up to 1."""
    count = max(1, round(float(np.hypot(*(end - start))) / SPACING))
    return (np.arange(1, count + 1, dtype=np.float32) / count)[:, None]
