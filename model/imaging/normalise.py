"""Make digit images of ink, as MNIST's were made.

The ink is scaled, aspect kept, into a 20 x 20 box with anti-aliasing, then placed so that its centre of mass is the
centre of the 28 x 28 field, which in MNIST's own files is pixel 14 of each axis, counted from 0 (LeCun et al.,
"Gradient-based learning applied to document recognition", 1998, section III-A).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from model.imaging.ink import extract_ink
from model.task import BOX, SIDE

# Working size of the ink's longer side: four pixels to one of the box are enough to thicken a line smoothly.
FINE = 4 * BOX
# Ink that counts when the ink's box is measured.
EDGE = 0.25
# Ink, of 255, that is line when the line's width is measured.
LINE = 96
# MNIST's lines are about two to three pixels wide in the 20-pixel box; a finer pen is widened to the lower end.
MIN_LINE = 1.7


def digit_image(picture: Image.Image) -> np.ndarray | None:
    """A picture of one digit as the network sees it: uint8 (28, 28), ink bright on black; None without ink."""
    ink = extract_ink(picture)
    return None if ink is None else from_ink(ink)


def from_ink(ink: np.ndarray) -> np.ndarray:
    """Ink, float32 (H, W), 0 to 1 and not all of it 0, to a digit image, uint8 (28, 28)."""
    left, top, right, bottom = Image.fromarray(ink > EDGE).getbbox() or (0, 0, 1, 1)
    part = Image.fromarray((ink[top:bottom, left:right] * 255).round().astype(np.uint8))
    if max(part.size) > FINE:
        part = _fitted(part, FINE)
    if _line_width(part) * BOX / max(part.size) < MIN_LINE:
        part = _widened(_fitted(part, FINE))
    return _centred(np.asarray(_fitted(part, BOX)))


def _line_width(part: Image.Image) -> float:
    """Mean width in pixels of the line in L ink: twice its area over its outline, where a pixel differs from its
    neighbour."""
    line = np.asarray(ImageOps.expand(part, 1)) > LINE
    edges = np.count_nonzero(line[1:] != line[:-1]) + np.count_nonzero(line[:, 1:] != line[:, :-1])
    # The steps of a pixel outline are longer than the outline, by 4 / pi on average over all directions.
    return 2 * np.count_nonzero(line) / max(edges * math.pi / 4, 1)


def _widened(fine: Image.Image) -> Image.Image:
    """The same ink with its line widened, since the pen was so fine that it would fade in the box."""
    missing = MIN_LINE * FINE / BOX - _line_width(fine)
    steps = max(1, round(missing / 2))
    fine = ImageOps.expand(fine, steps)
    fine = fine.point(lambda value: min(255, value * 2))
    for _ in range(steps):
        fine = fine.filter(ImageFilter.MaxFilter(3))
    return fine


def _fitted(part: Image.Image, side: int) -> Image.Image:
    """Scaled, aspect kept, so that the longer side is `side` pixels; anti-aliased."""
    scale = side / max(part.size)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    return part if size == part.size else part.resize(size, Image.Resampling.BILINEAR)


def _centred(box: np.ndarray) -> np.ndarray:
    """On the 28 x 28 field with the centre of mass at its centre, as far as the box stays inside."""
    rows, columns = box.sum(1), box.sum(0)
    top, left = _start(rows), _start(columns)
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[top : top + len(rows), left : left + len(columns)] = box
    return field


def _start(masses: np.ndarray) -> int:
    """Where a box begins on an axis, along which its ink is distributed so."""
    centre = float(masses @ np.arange(len(masses)) / masses.sum())
    return min(max(round(SIDE / 2 - centre), 0), SIDE - len(masses))
