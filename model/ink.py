"""Ink as a picture for a page."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def ink_png(ink: np.ndarray) -> bytes:
    """A PNG of ink, uint8 (H, W): black throughout, and as opaque as there is ink, so that it lies on any paper."""
    image = Image.fromarray(ink).convert("P")
    image.putpalette(bytes(3 * 256))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=bytes(range(256)))
    return out.getvalue()
