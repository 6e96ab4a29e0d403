"""Ink and digit images as pictures for a page."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def ink_png(ink: np.ndarray) -> bytes:
    """A PNG of ink, uint8 (H, W): black throughout, and as opaque as there is ink, so that it lies on any paper."""
    image = Image.fromarray(ink).convert("P")
    image.putpalette(bytes(3 * 256))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=bytes(range(256)))
    return out.getvalue()


def grey_png(image: np.ndarray) -> bytes:
    """A PNG of a small grey image, uint8 (H, W), as it is, without packing: every answer carries one."""
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with the number of its filter: none
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", _stored(rows.tobytes())), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _stored(data: bytes) -> bytes:
    """At most 65,535 bytes as zlib writes them at level 0; its own set-up for packing takes ten times as long."""
    length = struct.pack("<HH", len(data), len(data) ^ 0xFFFF)
    return b"\x78\x01\x01" + length + data + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
