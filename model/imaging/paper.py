"""Contrast of the writing against its paper, under uneven light and on paper of any colour."""

from __future__ import annotations

import cv2
import numpy as np

# As for numpy in gunicorn.conf.py: threads of one picture would compete with the other workers.
cv2.setNumThreads(1)

# The paper is estimated on a picture reduced to this longer side.
COARSE = 320
# Widest line that is looked for at first, of the picture's shorter side.
WIDEST = 0.25
# Widths of the line over which the paper is estimated once the line's width is known: where lines cross or turn
# sharply, the ink is wider than one of them.
REACH = 4
# Darker paper is not divided by: it would turn the camera's noise into contrast.
DARKEST = 90
# Least share of pixels that have exactly the border's colour in a drawing on even paper.
EVEN = 0.4
# Least contrast of pixels that are surely ink, of the strongest.
STRONG = 0.6
# Smaller pictures are not smoothed.
SMALL = 60
# Of the contrast of strong ink: noise above it calls for smoothing.
CLEAR = 0.4
# Of the contrast of strong ink: ink above it is no noise, however grainy the picture is.
FAINT = 0.25


def is_even(pixels: np.ndarray) -> bool:
    """Return whether uint8 pixels (H, W, 3) are a drawing on paper of one colour, as programs draw it."""
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    if (border != border[0]).any():
        return False
    drawn = strongest_channel(cv2.absdiff(pixels, np.broadcast_to(border[0], pixels.shape))) > 0
    if drawn.mean() > 1 - EVEN:
        return False
    # A photo pasted on an even page is a large area of other colours.
    side = max(3, round(WIDEST * min(drawn.shape)))
    return not cv2.erode(np.pad(drawn.astype(np.uint8), 1), np.ones((side, side), np.uint8)).any()


def contrast(pixels: np.ndarray, widest: float) -> np.ndarray:
    """Return the contrast, float32 (H, W), 0 to 1, of structures darker than their paper and at most so wide.

    The paper is the grey-level closing of the picture, which fills narrow dark structures and leaves the edges of wide
    ones, such as shadows, where they are (Serra, "Image Analysis and Mathematical Morphology", 1982).
    """
    height, width = pixels.shape[:2]
    # Reduced as far as leaves the widest line several pixels wide.
    side = int(min(max(height, width), max(COARSE, max(height, width) * 16 / max(widest, 1))))
    small = reduce(pixels, side)
    scale = max(small.shape[:2]) / max(height, width)
    kernel = _kernel(widest * scale)
    paper = cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel)
    paper[..., _is_lighter(small, paper, kernel)] = 0
    paper = cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR)
    darker = cv2.divide(cv2.subtract(paper, pixels), np.maximum(paper, DARKEST), scale=255)
    return strongest_channel(darker).astype(np.float32) / 255


def _is_lighter(pixels: np.ndarray, paper: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return in which channels, bool (3,), ink is lighter than its paper, as green ink on yellow is in the blue one.

    There, paper between two strokes is a dark structure.
    """
    darker = cv2.subtract(paper, pixels)
    lighter = cv2.subtract(pixels, cv2.morphologyEx(pixels, cv2.MORPH_OPEN, kernel))
    strongest = strongest_channel(darker)
    ink = strongest > STRONG * strongest.max()
    return lighter[ink].mean(axis=0) > darker[ink].mean(axis=0) if ink.any() else np.zeros(3, bool)


def strong_contrast(contrasts: np.ndarray) -> float:
    """Return the contrast of strong ink, which may be little: that of the strongest few pixels, smoothed."""
    smooth = cv2.blur(contrasts, (3, 3)).ravel()
    few = min(max(4, smooth.size // 5000), smooth.size)
    return float(np.partition(smooth, -few)[-few])


def edges(pixels: np.ndarray) -> np.ndarray:
    """Return the largest difference, 0 to 1, within a few pixels."""
    tiny = min(pixels.shape[:2]) <= SMALL
    smooth, side = (pixels, 3) if tiny else (cv2.GaussianBlur(pixels, (3, 3), 0), 5)
    change = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((side, side), np.uint8))
    return strongest_channel(change) / np.float32(255)


def strongest_channel(pixels: np.ndarray) -> np.ndarray:
    """Return the largest of three channels, many times faster than numpy."""
    one, two, three = cv2.split(pixels)
    return cv2.max(cv2.max(one, two), three)


def above_paper(contrasts: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return contrast above that of the paper, the level above which it is no noise, and that of strong ink."""
    sample = contrasts[:: max(1, contrasts.shape[0] // 300), :: max(1, contrasts.shape[1] // 300)]
    middle = float(np.median(sample))
    # From the paler half: in a tight crop, ink and its soft edges are much of the darker one.
    noise = 5 * 1.48 * float(np.median(middle - sample[sample <= middle]))
    strong = strong_contrast(contrasts) - middle
    if noise > CLEAR * strong and min(contrasts.shape) > SMALL:
        contrasts = cv2.GaussianBlur(contrasts, (0, 0), 1.2)
    return np.maximum(contrasts - middle, 0), min(noise, FAINT * strong), strong


def reduce(pixels: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _kernel(width: float) -> np.ndarray:
    side = 2 * int(np.ceil(width / 2)) + 1
    return np.ones((side, side), np.uint8)
