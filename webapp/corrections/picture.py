"""The picture of a correction: drawn again from its ink alone, before it is kept."""

from __future__ import annotations

from PIL import Image, ImageOps

from model.imaging.ink import extract_ink
from model.imaging.png import png

LONGEST_SIDE = 280
MARGIN = 16


def redraw(picture: Image.Image) -> bytes:
    """The picture's ink alone, dark on white, as a PNG of at most LONGEST_SIDE a side; the picture must have ink.

    Made from nothing but grey values: whatever else was in the bytes that came in is not in these.
    """
    amount = extract_ink(picture)
    assert amount is not None, "a blank picture is no correction"
    ink = Image.fromarray((amount * 255).round().astype("uint8"))
    ink = ink.crop(ink.getbbox())
    ink.thumbnail((LONGEST_SIDE - 2 * MARGIN, LONGEST_SIDE - 2 * MARGIN), Image.Resampling.BOX)
    return png(ImageOps.invert(ImageOps.expand(ink, MARGIN)), optimize=True)
