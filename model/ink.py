"""Ink and digit images as pictures for a page."""

from __future__ import annotations

import functools
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
    data = rows.tobytes()
    data += struct.pack(">I", zlib.adler32(data))
    before, check, after = _frame(height, width)
    return b"".join((before, data, struct.pack(">I", zlib.crc32(data, check)), after))


@functools.lru_cache(8)
def _frame(height: int, width: int) -> tuple[bytes, int, bytes]:
    """What stands before and after the rows in a PNG whose data is as zlib writes it at level 0, at most 65,535 bytes;
    between them the checksum of what of the data stands before."""
    length = height * (width + 1)
    start = b"IDAT\x78\x01\x01" + struct.pack("<HH", length, length ^ 0xFFFF)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    before = b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 7 + length + 4) + start
    return before, zlib.crc32(start), _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
