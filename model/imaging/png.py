"""Ink and digit images as pictures for a page."""

from __future__ import annotations

import io
import struct
import zlib
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
    """A PNG of a small grey image, uint8 (H, W), unpacked (W3C, "Portable Network Graphics", sections 5 and 10).

    Each answer to a drawing carries one: Pillow's encoder would take a fifth of the time of the whole answer.
    """
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with the number of its filter: none
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = _chunk(b"IHDR" + header) + _chunk(b"IDAT" + zlib.compress(rows.tobytes(), 0)) + _chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(content: bytes) -> bytes:
    """A chunk of this type, four letters, and data."""
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
