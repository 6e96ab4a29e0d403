"""Extract the ink of a picture: how much pen is at each pixel, whatever the colours."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

# Ink is found on a picture of at most this side; a larger one is reduced first.
WORKING_SIDE = 640
# Differences from the paper, of the full range. A picture whose strongest ink is below MIN_CONTRAST is blank; relative
# to the strongest, less than NOISE_FLOOR is paper: grain, shadow, compression.
MIN_CONTRAST = 0.1
NOISE_FLOOR = 0.08
# Up to GRAIN times the border's median difference from the paper is grain: five standard deviations of grey noise.
GRAIN = 7.5
# Full ink is the value of the fourth strongest pixel, so that a speck or two do not decide it.
_STRONGEST = 4
_GREYS = np.arange(256, dtype=np.float32) / 255


def extract_ink(picture: Image.Image) -> np.ndarray | None:
    """Return how much ink is at each pixel, float32 (H, W), 0 to 1; None for a blank picture.

    Paper is the colour of the border (or transparency), ink any colour that differs from it, darker or lighter. A
    picture is blank when nothing differs enough; the number of pixels that differ does not matter.
    """
    picture = to_plain_mode(picture)
    return _ink_of_part(_reduce(_crop(picture, part_with_ink(picture))))


def ink_in_place(picture: Image.Image) -> np.ndarray | None:
    """Return the ink of `extract_ink` in its place on the whole picture, which is reduced as the ink was."""
    picture = to_plain_mode(picture)
    box = part_with_ink(picture)
    ink = _ink_of_part(_reduce(_crop(picture, box)))
    if ink is None or box == (0, 0, *picture.size):
        return ink
    step = _reduction(max(box[2] - box[0], box[3] - box[1]))
    whole = np.zeros((math.ceil(picture.height / step), math.ceil(picture.width / step)), np.float32)
    top, left = min(box[1] // step, whole.shape[0] - ink.shape[0]), min(box[0] // step, whole.shape[1] - ink.shape[1])
    whole[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return whole


def _ink_of_part(picture: Image.Image) -> np.ndarray | None:
    pixels = np.asarray(picture)
    if picture.mode == "RGBA":
        return _to_full_contrast(_ink_by_opacity(pixels / np.float32(255)))
    if picture.mode == "L" and has_even_border(pixels):
        # On even paper, as the drawing page sends it, the ink of a pixel follows from its grey alone: compute it for
        # the 256 greys and look it up. Repeat each grey as often as it occurs, up to the count that defines full ink.
        difference = np.abs(_GREYS - _GREYS[pixels[0, 0]])
        seen = np.repeat(difference, np.minimum(picture.histogram(), _STRONGEST))
        inked = _to_full_contrast(difference, seen)
        return None if inked is None else inked[pixels]
    return _to_full_contrast(_difference_from_paper(pixels / np.float32(255)))


def has_even_border(pixels: np.ndarray) -> bool:
    """Return whether the outermost pixels of a grey picture (H, W) are all alike."""
    return bool((_border(pixels) == pixels[0, 0]).all())


def to_plain_mode(picture: Image.Image) -> Image.Image:
    """Convert a picture to L, RGB or RGBA."""
    if picture.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
        return Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return picture if np.asarray(picture.getchannel("A")).min() < 255 else picture.convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def part_with_ink(picture: Image.Image) -> tuple[int, int, int, int]:
    """Return the part of a plain picture that may have ink, with a margin to estimate the paper from.

    It is cut out before the picture is reduced, so that a small digit on a large sheet does not fade.
    """
    if picture.mode == "RGBA":
        return picture.getchannel("A").getbbox() or (0, 0, 1, 1)
    if max(picture.size) <= WORKING_SIDE:
        return 0, 0, *picture.size
    paper = np.median(_border_of_picture(picture), axis=0).astype(int)
    differs = np.abs(np.arange(256) - paper[:, None]) > MIN_CONTRAST * 255
    differing = picture.point((255 * differs).ravel().tolist())
    left, top, right, bottom = differing.getbbox() or (0, 0, 1, 1)
    margin = 8 + (right - left + bottom - top) // 8
    return (
        max(left - margin, 0),
        max(top - margin, 0),
        min(right + margin, picture.width),
        min(bottom + margin, picture.height),
    )


def _crop(picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    return picture if box == (0, 0, *picture.size) else picture.crop(box)


def _reduction(side: int) -> int:
    """Return by how much a picture with this longer side is reduced."""
    return math.ceil(side / WORKING_SIDE)


def _reduce(picture: Image.Image) -> Image.Image:
    step = _reduction(max(picture.size))
    return picture.reduce(step) if step > 1 else picture


def _border_of_picture(picture: Image.Image) -> np.ndarray:
    """Return the outermost pixels (M, C) of a picture, without a copy of the whole."""
    width, height = picture.size
    sides = (0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)
    bands = len(picture.getbands())
    return np.concatenate([np.asarray(picture.crop(side)).reshape(-1, bands) for side in sides])


def _ink_by_opacity(pixels: np.ndarray) -> np.ndarray:
    """Return the ink of an RGBA picture (H, W, 4): its opacity, unless it is an opaque sheet with a drawing on it."""
    alpha = pixels[..., 3]
    opaque = alpha > 0.5
    if opaque.any():
        rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
        sheet = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        colours = pixels[..., :3][opaque]
        if opaque[sheet].mean() > 0.8 and np.ptp(colours, axis=0).max() > MIN_CONTRAST:
            # transparent pixels inside the sheet count as paper
            paper = np.median(_border(pixels[sheet][..., :3]), axis=0)
            shown = pixels[sheet][..., :3] * alpha[sheet][..., None] + paper * (1 - alpha[sheet][..., None])
            return _difference_from_paper(shown)
    return alpha


def _difference_from_paper(pixels: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from the paper's colour, (H, W) or (H, W, 3) to (H, W).

    The paper's colour may change evenly across the picture, as light does across a sheet: fit a curved surface to the
    border, without the pixels far from its median, since ink may reach the border. Differences no larger than the
    border's own grain are 0.
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
        marked = _remove_specks(marked)
    return np.where(marked, difference, 0)


def _remove_specks(marked: np.ndarray) -> np.ndarray:
    """Keep marked pixels, bool (H, W), with two marked neighbours: single pixels of paper exceed the grain."""
    in_company = Image.fromarray(marked.astype(np.uint8)).filter(ImageFilter.RankFilter(3, 6))
    return marked & np.asarray(in_company, dtype=bool)


def _border(pixels: np.ndarray) -> np.ndarray:
    """Return the outermost pixels (M, C) of (H, W, C)."""
    return np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def _paper_surface(shape: tuple[int, int], border: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Fit a surface of second degree to the paper's colour on the border: (H, W, C)."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    places = np.stack((np.ones_like(x), x, y, x * x, y * y), axis=2)
    terms = _border(places)
    # A plane first: too few pixels may lie near the median to fit a curve to.
    for degree in (3, 5):
        near = np.abs(border - paper).max(axis=1) <= 2 * MIN_CONTRAST
        surface = np.linalg.lstsq(terms[near, :degree], border[near], rcond=None)[0]
        paper = terms[:, :degree] @ surface
    return places @ surface


def _to_full_contrast(difference: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray | None:
    """Scale differences to ink, 0 to 1, by the strongest of those `seen` (default: all); None where that is below
    MIN_CONTRAST."""
    strongest = _strongest(difference if seen is None else seen)
    if strongest < MIN_CONTRAST:
        return None
    relative = np.minimum(difference / strongest, 1)
    return np.where(relative > NOISE_FLOOR, relative, 0).astype(np.float32)


def _strongest(difference: np.ndarray) -> float:
    if difference.size <= _STRONGEST:
        return float(difference.max())
    return float(np.partition(difference, -_STRONGEST, axis=None)[-_STRONGEST])
