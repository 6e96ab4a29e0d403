"""Ink and digit images as pictures for a page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def png(picture: Image.Image, **options: Any) -> bytes:
    """A picture as PNG; `options` are Pillow's."""
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def ink_png(ink: np.ndarray) -> bytes:
    """A PNG of ink, uint8 (H, W): black throughout, and as opaque as there is ink, so that it lies on any paper."""
    image = Image.fromarray(ink).convert("P")
    image.putpalette(bytes(3 * 256))
    return png(image, transparency=bytes(range(256)))


def grey_png(image: np.ndarray) -> bytes:
    """A PNG of a small grey image, uint8 (H, W), as it is, without packing: every answer carries one."""
    return png(Image.fromarray(image), compress_level=0)
