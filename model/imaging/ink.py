"""Find the ink in a picture: how much pen is at each place, whatever the colours."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

# Ink is found on a picture of at most this side; a larger one is reduced first.
WORKING_SIDE = 640
# Less difference from the paper than this, of the full range, is paper: grain, shadow, compression.
MIN_CONTRAST = 0.1
NOISE_FLOOR = 0.08
# So many times the border's median difference from the paper is still grain: five standard deviations of grey noise.
GRAIN = 7.5
# What is strongest is the fourth strongest, so that a speck or two do not decide what full ink is.
_STRONGEST = 4
_GREYS = np.arange(256, dtype=np.float32) / 255


def extract_ink(picture: Image.Image) -> np.ndarray | None:
    """How much ink is at each place: float32 (H, W), 0 to 1; None for a blank picture.

    The paper is what the border shows (or what is transparent), the ink what differs from it, in whatever colour and
    whichever of the two is darker. A picture is blank when nothing differs enough: few dark pixels, as in a thin 1, are
    ink all the same.
    """
    picture = _working_part(_plain_mode(picture))
    pixels = np.asarray(picture)
    if picture.mode == "RGBA":
        return _stretched(_difference_from_nothing(pixels / np.float32(255)))
    if picture.mode == "L" and (_border(pixels) == pixels[0, 0]).all():
        # On even paper, as the drawing page sends it, the ink at a pixel follows from its grey alone: find it for the
        # 256 greys and look it up. How often a grey is seen matters up to the number that decides what is strongest.
        difference = np.abs(_GREYS - _GREYS[pixels[0, 0]])
        seen = np.repeat(difference, np.minimum(picture.histogram(), _STRONGEST))
        inked = _stretched(difference, seen)
        return None if inked is None else inked[pixels]
    return _stretched(_difference_from_paper(pixels / np.float32(255)))


def _plain_mode(picture: Image.Image) -> Image.Image:
    """The picture as L, RGB or RGBA."""
    if picture.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
        return Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return picture if np.asarray(picture.getchannel("A")).min() < 255 else picture.convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def _working_part(picture: Image.Image) -> Image.Image:
    """The part of the picture that may have ink, reduced where it is still larger than WORKING_SIDE.

    The paper goes first, so that a small digit on a large sheet does not fade when the sheet is reduced.
    """
    if picture.mode == "RGBA":
        picture = picture.crop(picture.getchannel("A").getbbox() or (0, 0, 1, 1))
    elif max(picture.size) > WORKING_SIDE:
        picture = _without_margins(picture)
    longer = max(picture.size)
    return picture.reduce(math.ceil(longer / WORKING_SIDE)) if longer > WORKING_SIDE else picture


def _without_margins(picture: Image.Image) -> Image.Image:
    """An L or RGB picture cropped to what differs from the paper, with enough paper left to know it by."""
    paper = np.median(_outermost(picture), axis=0).astype(int)
    differs = np.abs(np.arange(256) - paper[:, None]) > MIN_CONTRAST * 255
    differing = picture.point((255 * differs).ravel().tolist())
    left, top, right, bottom = differing.getbbox() or (0, 0, 1, 1)
    margin = 8 + (right - left + bottom - top) // 8
    return picture.crop(
        (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, picture.width),
            min(bottom + margin, picture.height),
        )
    )


def _outermost(picture: Image.Image) -> np.ndarray:
    """The outermost pixels (M, C) of a picture, without a copy of the whole."""
    width, height = picture.size
    sides = (0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)
    bands = len(picture.getbands())
    return np.concatenate([np.asarray(picture.crop(side)).reshape(-1, bands) for side in sides])


def _difference_from_nothing(pixels: np.ndarray) -> np.ndarray:
    """Ink of an RGBA picture (H, W, 4): what is opaque is ink, unless it is a sheet with something drawn on it."""
    alpha = pixels[..., 3]
    opaque = alpha > 0.5
    if opaque.any():
        rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
        sheet = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        colours = pixels[..., :3][opaque]
        if opaque[sheet].mean() > 0.8 and np.ptp(colours, axis=0).max() > MIN_CONTRAST:
            # pixels that the sheet's own corners leave open count as paper
            paper = np.median(_border(pixels[sheet][..., :3]), axis=0)
            shown = pixels[sheet][..., :3] * alpha[sheet][..., None] + paper * (1 - alpha[sheet][..., None])
            return _difference_from_paper(shown)
    return alpha


def _difference_from_paper(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from the paper's colour, (H, W) or (H, W, 3) to (H, W).

    The paper's colour may change evenly across the picture, as light does across a sheet: it is a curved surface fitted
    to the border, without what lies far from the border's median, since ink may reach it. What differs no more than
    the border's own grain does is paper.
    """
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    border = _border(pixels)
    paper = np.median(border, axis=0)
    if np.ptp(border, axis=0).max() > NOISE_FLOOR / 4 and min(pixels.shape[:2]) > 2:
        paper = _paper_surface(pixels.shape[:2], border, paper)
    difference = np.abs(pixels - paper).max(axis=2)
    grain = GRAIN * np.median(_border(difference[..., None]))
    marked = difference > grain
    if grain > NOISE_FLOOR / 4:
        marked = _without_specks(marked)
    return np.where(marked, difference, 0)


def _without_specks(marked: np.ndarray) -> np.ndarray:
    """What is at least three pixels together: of so many pixels of paper a few are always above the grain."""
    in_company = Image.fromarray(marked.astype(np.uint8)).filter(ImageFilter.RankFilter(3, 6))
    return marked & np.asarray(in_company, dtype=bool)


def _border(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels (M, C) of (H, W, C)."""
    return np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def _paper_surface(shape: tuple[int, int], border: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """The surface of second degree through the paper's colour on the border: (H, W, C)."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    places = np.stack((np.ones_like(x), x, y, x * x, y * y), axis=2)
    terms = _border(places)
    # A plane first: what lies near the median may be too little of the border to tell a curve from it.
    for degree in (3, 5):
        near = np.abs(border - paper).max(axis=1) <= 2 * MIN_CONTRAST
        surface = np.linalg.lstsq(terms[near, :degree], border[near], rcond=None)[0]
        paper = terms[:, :degree] @ surface
    return places @ surface


def _stretched(difference: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray | None:
    """Differences to ink between 0 and 1, the strongest of those `seen` (default: all) being 1; None where even that is
    too faint to be ink."""
    strongest = _strongest(difference if seen is None else seen)
    if strongest < MIN_CONTRAST:
        return None
    relative = np.minimum(difference / strongest, 1)
    return np.where(relative > NOISE_FLOOR, relative, 0).astype(np.float32)


def _strongest(difference: np.ndarray) -> float:
    if difference.size <= _STRONGEST:
        return float(difference.max())
    return float(np.partition(difference, -_STRONGEST, axis=None)[-_STRONGEST])
