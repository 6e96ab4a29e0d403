"""The picture of a correction, redrawn from its ink before it is stored."""

from __future__ import annotations

from PIL import Image, ImageOps

from model.imaging.ink import extract_ink
from model.imaging.png import png

MAX_SIDE = 280
MARGIN = 16


def redraw(picture: Image.Image) -> bytes:
    """Return a picture's ink, dark on white, as a PNG of at most MAX_SIDE pixels a side; the picture must have ink.

    The PNG is encoded from grey values only, so no metadata or hidden data of the upload is stored.
    """
    amount = extract_ink(picture)
    assert amount is not None, "a blank picture is no correction"
    ink = Image.fromarray((amount * 255).round().astype("uint8"))
    ink = ink.crop(ink.getbbox())
    ink.thumbnail((MAX_SIDE - 2 * MARGIN, MAX_SIDE - 2 * MARGIN), Image.Resampling.BOX)
    return png(ImageOps.invert(ImageOps.expand(ink, MARGIN)), optimize=True)
