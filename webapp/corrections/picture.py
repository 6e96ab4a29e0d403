"""The picture of a correction, redrawn from its ink before it is stored."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from model.imaging.png import png

MAX_SIDE = 280
MARGIN = 16


def redraw(amount: np.ndarray) -> bytes:
    """Return ink, float32 (H, W), 0 to 1, dark on white, as a PNG of at most MAX_SIDE pixels a side.

    The PNG is encoded from grey values only, so no metadata or hidden data of the upload is stored.
    """
    ink = Image.fromarray((amount * 255).round().astype("uint8"))
    ink = ink.crop(ink.getbbox())
    ink.thumbnail((MAX_SIDE - 2 * MARGIN, MAX_SIDE - 2 * MARGIN), Image.Resampling.BOX)
    return png(ImageOps.invert(ImageOps.expand(ink, MARGIN)), optimize=True)
