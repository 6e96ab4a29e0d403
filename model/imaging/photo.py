"""Find the writing in scans, screenshots and photos."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from PIL import Image

from model.imaging.grouping import Components, choose, components, main_component
from model.imaging.ink import MIN_CONTRAST, NOISE_FLOOR, ink_in_place, to_plain_mode
from model.imaging.paper import (
    REACH,
    WIDEST,
    above_paper,
    contrast,
    edges,
    is_even,
    reduce,
    strong_contrast,
    strongest_channel,
)
from model.imaging.rules import remove_lines

# Writing is found on a picture of at most this side.
WORKING_SIDE = 1000
# The width of its line is measured on one of this side.
FIRST_SIDE = 320
# Least share of opaque pixels in the picture of a sheet.
LEAST_OPAQUE = 0.8
# By how much writing darker than its paper is preferred.
DARK = 1.25
# Least share of the outline of writing that is sharp: light that changes over the paper has no outline.
LEAST_OUTLINED = 0.4
# Contrast, of the strongest, that a stroke has somewhere, and everywhere; and where printed lines are looked for, which
# may be paler.
SURE, LEAST, PALE = 0.4, 0.2, 0.15
# Least contrast of the strongest ink: less than in a drawing of the page, since a photo's is smoothed. Least of any.
FAINTEST, NO_NOISE = 0.7 * MIN_CONTRAST, 0.03


def find_ink(picture: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return a picture at the size at which its ink was found, and the ink, float32 (H, W), or None for a blank one."""
    picture = to_plain_mode(picture)
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    if picture.mode == "RGBA":
        sheet = _opaque_sheet(picture)
        if sheet is None:
            ink = ink_in_place(picture)
            return (picture if ink is None else picture.resize(ink.shape[::-1])), ink
        picture = sheet
    pixels = np.asarray(picture.convert("RGB"))
    return picture, _ink(pixels)


def _opaque_sheet(picture: Image.Image) -> Image.Image | None:
    """Return an RGBA picture that is mostly opaque, such as a window with round corners, on paper of its usual colour.

    Return None for a drawing on a transparent sheet, whose ink is its opacity.
    """
    pixels = np.asarray(picture)
    opaque = pixels[..., 3] > 127
    colours = pixels[opaque][:, :3]
    if opaque.mean() < LEAST_OPAQUE or np.ptp(colours, axis=0).max() < MIN_CONTRAST * 255:
        return None
    paper = Image.new("RGBA", picture.size, (*np.median(colours, axis=0).astype(int).tolist(), 255))
    return Image.alpha_composite(paper, picture).convert("RGB")


def _ink(pixels: np.ndarray) -> np.ndarray | None:
    if is_even(pixels):
        apart = cv2.absdiff(pixels, np.broadcast_to(pixels[0, 0], pixels.shape))
        return _writing(strongest_channel(apart).astype(np.float32) / 255, edges(apart))
    light, width = _line(pixels)
    if width is None:
        return None
    widest = min(REACH * width + 2, 1.5 * WIDEST * min(pixels.shape[:2]))
    return _writing(contrast(255 - pixels if light else pixels, widest), edges(pixels))


def _line(pixels: np.ndarray) -> tuple[bool, float | None]:
    """Return whether the writing is lighter than its paper, and the width of its line in pixels, None if blank.

    Look for both kinds: between the strokes of dark writing, paper is a light structure too, but not like writing.
    """
    small = reduce(pixels, FIRST_SIDE)
    changes, side = edges(small), min(small.shape[:2])
    found = []
    for light, widest in itertools.product((False, True), (WIDEST * side, WIDEST * side / 3)):
        first = _components(contrast(255 - small if light else small, widest), changes)
        if first is not None:
            main, score = main_component(first)
            if first.outlined[main] > LEAST_OUTLINED:
                # Most writing is dark, and a sheet on a dark table is light.
                width = float(first.line[main]) * max(pixels.shape) / max(small.shape)
                found.append((score if light else DARK * score, light, width))
    return max(found)[1:] if found else (False, None)


def _writing(contrasts: np.ndarray, changes: np.ndarray) -> np.ndarray | None:
    """Return the ink of the writing, given the contrast with the paper; None where there is none."""
    found = _components(contrasts, changes)
    return None if found is None else _scaled(found, choose(found, main_component(found)[0]))


def _components(contrasts: np.ndarray, changes: np.ndarray) -> Components | None:
    """Return the components of ink without printed lines; None where there is none."""
    contrasts, noise, strong = above_paper(contrasts)
    if strong < FAINTEST:
        return None
    noise = max(noise, NO_NOISE)
    mask = remove_lines(contrasts > max(noise, PALE * strong), contrasts)
    strong = strong_contrast(contrasts * mask)
    if strong < FAINTEST:
        return None
    mask = _hysteresis(contrasts * mask, max(noise, LEAST * strong), max(noise, SURE * strong))
    return components(mask, contrasts, changes) if mask.any() else None


def _hysteresis(dark: np.ndarray, least: float, sure: float) -> np.ndarray:
    """Return pixels above `least` that are connected to one above `sure` (Canny, 1986)."""
    mask = dark > least
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    keep = np.zeros(count, bool)
    keep[labels[dark > sure]] = True
    keep[0] = False
    return keep[labels]


def _scaled(found: Components, chosen: np.ndarray) -> np.ndarray:
    kept = np.zeros(len(found.area) + 1, bool)
    kept[chosen] = True
    kept = kept[found.labels]
    strong = float(np.percentile(found.contrast[kept], 80))
    around = cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    other = (found.labels > 0) & ~kept
    ink = np.minimum(found.contrast / strong, 1)
    return np.where(around & ~other & (ink > NOISE_FLOOR), ink, 0).astype(np.float32)
