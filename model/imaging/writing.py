"""From the bytes of a picture file to the ink of its writing: the one way for drawings, scans and photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from model.imaging.decode import PGM_HEADER, PixelBudget, open_picture
from model.imaging.ink import has_even_border, ink_in_place
from model.imaging.normalise import EDGE, from_ink

Fractions = tuple[float, float, float, float]


@dataclass(frozen=True)
class Writing:
    """The writing in a picture.

    `ink` is float32 (H, W), 0 to 1, without rules, frames, specks and shadows, or None where nothing is written.
    `picture` is the picture upright and of the ink's size; None for a drawing of the page. `box` is left, top, right
    and bottom of the writing in fractions of the picture's sides, `size` the width and height in which it came.
    """

    ink: np.ndarray | None
    picture: Image.Image | None
    box: Fractions | None
    size: tuple[int, int]

    def digit_image(self) -> np.ndarray | None:
        """Return the writing as the network sees it, uint8 (28, 28); None where nothing is written."""
        return None if self.ink is None else from_ink(self.ink)


def find_writing(data: bytes, *, crop: Fractions | None = None, budget: PixelBudget | None = None) -> Writing:
    """Find the writing in a picture file; raises PictureError.

    `crop` is the part to look at: left, top, right and bottom in fractions of the upright picture's sides. A drawing of
    the page, a PGM with an even border, is clean and takes a short way.
    """
    picture = open_picture(data, budget=budget)
    clean = PGM_HEADER.match(data) is not None and has_even_border(np.asarray(picture))
    return writing_in(picture, crop=crop, clean=clean)


def writing_in(picture: Image.Image, *, crop: Fractions | None = None, clean: bool = False) -> Writing:
    """Find the writing in an upright picture, `clean` for a drawing of the page; see `find_writing`."""
    box, size = _pixels(crop, picture), picture.size  # find_ink reduces the picture itself
    part = picture if box is None else picture.crop(box)
    if clean:
        ink, shown = ink_in_place(part), None
    else:
        from model.imaging.photo import find_ink  # loads OpenCV

        shown, ink = find_ink(part)
    if box is not None:
        shown, ink = _in_place(picture, box, shown, ink)
    return Writing(ink, shown, None if ink is None else _box(ink), size)


def _pixels(crop: Fractions | None, picture: Image.Image) -> tuple[int, int, int, int] | None:
    """Return a part of a picture in pixels, at least one wide and high."""
    if crop is None:
        return None
    width, height = picture.size
    left, top = min(int(crop[0] * width), width - 1), min(int(crop[1] * height), height - 1)
    return left, top, max(round(crop[2] * width), left + 1), max(round(crop[3] * height), top + 1)


def _in_place(
    picture: Image.Image, box: tuple[int, int, int, int], part: Image.Image | None, ink: np.ndarray | None
) -> tuple[Image.Image | None, np.ndarray | None]:
    """Return the whole picture at the scale of a part, None where `part` is None, and the part's ink in its place."""
    if part is None and ink is None:
        return None, None
    height, width = ink.shape if ink is not None else (part.height, part.width)  # type: ignore[union-attr]
    scale = width / (box[2] - box[0]), height / (box[3] - box[1])
    left, top = round(box[0] * scale[0]), round(box[1] * scale[1])
    size = max(round(picture.width * scale[0]), left + width), max(round(picture.height * scale[1]), top + height)
    if ink is not None:
        whole = np.zeros((size[1], size[0]), np.float32)
        whole[top : top + height, left : left + width] = ink
        ink = whole
    return None if part is None else picture.resize(size), ink


def _box(ink: np.ndarray) -> Fractions:
    """Return left, top, right and bottom of the ink, in fractions."""
    height, width = ink.shape
    inked = ink > EDGE
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return float(left / width), float(top / height), float(right / width), float(bottom / height)
