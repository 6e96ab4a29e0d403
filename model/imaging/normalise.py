"""Normalise ink to digit images as MNIST's were made.

Scale the ink, aspect kept, into a 20 x 20 box with anti-aliasing, then place its centre of mass on the centre of the
28 x 28 field, which in MNIST's own files is pixel 14 of each axis, counted from 0 (LeCun et al., "Gradient-based
learning applied to document recognition", 1998, section III-A).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from model.imaging.ink import extract_ink
from model.task import BOX, SIDE

# Size of the ink's longer side at which lines are widened: four pixels to one of the box.
FINE = 4 * BOX
# Ink above which a pixel belongs to the ink's bounding box, 0 to 1.
EDGE = 0.25
# Ink above which a pixel belongs to the line when its width is measured, 0 to 255.
LINE = 96
# Minimum line width in pixels of the 20-pixel box, where MNIST's lines are about two to three wide.
MIN_LINE = 1.7


def digit_image(picture: Image.Image) -> np.ndarray | None:
    """Return a picture of one digit as the network sees it, uint8 (28, 28), ink bright on black; None without ink."""
    ink = extract_ink(picture)
    return None if ink is None else from_ink(ink)


def from_ink(ink: np.ndarray) -> np.ndarray:
    """Normalise ink, float32 (H, W), 0 to 1 and not all 0, to a digit image, uint8 (28, 28)."""
    left, top, right, bottom = Image.fromarray(ink > EDGE).getbbox() or (0, 0, 1, 1)
    part = Image.fromarray((ink[top:bottom, left:right] * 255).round().astype(np.uint8))
    if max(part.size) > FINE:
        part = _fit(part, FINE)
    if _line_width(part) * BOX / max(part.size) < MIN_LINE:
        part = _widen(_fit(part, FINE))
    return _centre(np.asarray(_fit(part, BOX)))


def _line_width(part: Image.Image) -> float:
    """Return the mean width in pixels of the line in L ink: twice its area over the length of its outline."""
    line = np.asarray(ImageOps.expand(part, 1)) > LINE
    edges = np.count_nonzero(line[1:] != line[:-1]) + np.count_nonzero(line[:, 1:] != line[:, :-1])
    # An outline in pixel steps is longer than the outline by 4 / pi, averaged over all directions.
    return 2 * np.count_nonzero(line) / max(edges * math.pi / 4, 1)


def _widen(fine: Image.Image) -> Image.Image:
    """Widen the line to MIN_LINE: a finer one would fade in the box."""
    missing = MIN_LINE * FINE / BOX - _line_width(fine)
    steps = max(1, round(missing / 2))
    fine = ImageOps.expand(fine, steps)
    fine = fine.point(lambda value: min(255, value * 2))
    for _ in range(steps):
        fine = fine.filter(ImageFilter.MaxFilter(3))
    return fine


def _fit(part: Image.Image, side: int) -> Image.Image:
    """Scale ink, aspect kept and anti-aliased, so that its longer side is `side` pixels."""
    scale = side / max(part.size)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    return part if size == part.size else part.resize(size, Image.Resampling.BILINEAR)


def _centre(box: np.ndarray) -> np.ndarray:
    """Place the box on the 28 x 28 field, centre of mass on its centre as far as the box stays inside."""
    rows, columns = box.sum(1), box.sum(0)
    top, left = _start(rows), _start(columns)
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[top : top + len(rows), left : left + len(columns)] = box
    return field


def _start(masses: np.ndarray) -> int:
    """Return where a box begins on an axis, given the sums of its ink along that axis."""
    centre = float(masses @ np.arange(len(masses)) / masses.sum())
    return min(max(round(SIDE / 2 - centre), 0), SIDE - len(masses))
