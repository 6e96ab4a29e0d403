"""Pen strokes of real writers, to measure with: read a folder of them, draw one as the page's canvas would.

A folder holds `*.jsonl.gz` files of one JSON object a line, `{"label": "7", "strokes": [[x0, y0, x1, y1, ...], ...]}`
with y growing downwards, in any unit. A label of "0" to "9" is a digit, every other one is none. A text `writer` may
name the person.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 280
FINER = 2


class StrokesError(Exception):
    """The folder holds no readable strokes; the message names the file, and the line where there is one."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """The digit meant, None for a non-digit, its strokes, float64 (n, 2) each, n at least 1, and who wrote it."""

    digit: int | None
    strokes: tuple[np.ndarray, ...]
    writer: str | None = None


@dataclass(frozen=True)
class Look:
    """How to draw a drawing: its longer side as a share of the canvas, the pen's width in pixels of the canvas, the
    angle in degrees clockwise, the position in the remaining room, -1 (left, top) to 1 (right, bottom)."""

    size: float = 0.7
    pen: float = 18.0
    angle: float = 0.0
    x: float = 0.0
    y: float = 0.0


USUAL = Look()


def read_folder(folder: Path | str) -> list[Drawing]:
    """Read the drawings of all files, in the order of their names; raises StrokesError for a bad one, or none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise StrokesError(f"{folder} is not a folder")
    files = sorted(folder.glob("*.jsonl.gz"))
    drawings = [drawing for file in files for drawing in _read(file)]
    if not drawings:
        raise StrokesError(f"{folder} holds no drawings (files that end in .jsonl.gz)")
    return drawings


def draw(drawing: Drawing, look: Look = USUAL, canvas: int = CANVAS) -> Image.Image:
    """Draw dark ink on white paper, inside the canvas where it fits: an L picture, `canvas` pixels a side."""
    turned = [_rotate(stroke, look.angle) for stroke in drawing.strokes]
    everything = np.concatenate(turned)
    low, high = everything.min(0), everything.max(0)
    scale = look.size * canvas / max((high - low).max(), 1e-9)
    if not (high - low).any():  # a dot has no longer side
        scale = 1.0
    room = np.maximum(canvas - scale * (high - low) - look.pen, 0) / 2
    centre = canvas / 2 + room * (look.x, look.y)
    places = [centre + scale * (stroke - (low + high) / 2) for stroke in turned]
    return rasterize(places, look.pen, canvas)


def rasterize(strokes: Sequence[np.ndarray], pen: float, canvas: int) -> Image.Image:
    """Draw strokes in pixels of the canvas as dark ink on white paper: an L picture, `canvas` pixels a side."""
    paper, pen = Image.new("L", (FINER * canvas, FINER * canvas), 255), FINER * pen
    brush = ImageDraw.Draw(paper)
    for stroke in (FINER * stroke for stroke in strokes):
        for x, y in stroke.tolist():  # discs at the points make ends and joints round
            brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 0)
        if len(stroke) > 1:
            brush.line(stroke.ravel().tolist(), 0, round(pen))
    return paper.reduce(FINER)


def _rotate(stroke: np.ndarray, degrees: float) -> np.ndarray:
    if not degrees:
        return stroke
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return stroke @ np.array([[cos, sin], [-sin, cos]])


def _read(path: Path) -> Iterator[Drawing]:
    number = 0
    try:
        with gzip.open(path) as lines:
            for line in lines:
                number += 1
                yield _parse(line)
    except ValueError as error:
        raise StrokesError(f"{path}, line {number}: {error}") from error
    except OSError as error:  # BadGzipFile has no strerror
        raise StrokesError(f"{path} cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise StrokesError(f"{path} is damaged or cut short after line {number}") from error


def _parse(line: bytes) -> Drawing:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("label"), str):
        raise ValueError("not an object with a label")
    strokes = value.get("strokes")
    if not isinstance(strokes, list) or not strokes:
        raise ValueError("no strokes")
    label = value["label"]
    digit = int(label) if len(label) == 1 and label in "0123456789" else None
    writer = value.get("writer")
    if not isinstance(writer, str | None):
        raise ValueError("a writer that is not text")
    return Drawing(digit, tuple(_parse_stroke(numbers) for numbers in strokes), writer)


def _parse_stroke(numbers: Any) -> np.ndarray:
    if not isinstance(numbers, list) or not numbers or len(numbers) % 2:
        raise ValueError("a stroke must be pairs of numbers")
    if any(type(number) not in (int, float) or not abs(number) < 1e6 for number in numbers):
        raise ValueError("a stroke must be pairs of numbers below a million")
    return np.array(numbers, float).reshape(-1, 2)
