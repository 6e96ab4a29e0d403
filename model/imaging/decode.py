"""Decode the bytes of a picture file, within limits on bytes, pixels and time."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable

from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

MAX_BYTES = 1 << 20
MAX_PIXELS = 4_000_000
MAX_SIDE = 1 << 14
# First bytes and parser of each format. Image.open would import every plugin of Pillow, for a fifth of a second, at the
# first file of an unknown format.
PARSERS: dict[str, tuple[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "JPEG": (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    "WEBP": (b"RIFF", WebPImagePlugin.WebPImageFile),
    "BMP": (b"BM", BmpImagePlugin.BmpImageFile),
}
# Binary PGM of 8 bits without comments: uncompressed pixels, as the drawing page sends them.
PGM_HEADER = re.compile(rb"P5\s(\d{1,5})\s(\d{1,5})\s255\s", re.ASCII)
FORMATS = (*PARSERS, "PGM")
# Marker and maximum count of parts that each cost time and may be repeated without end: scans of a JPEG (real ones have
# about ten), compressed colour profiles of a PNG (real ones have at most one).
MAX_PARTS = {"JPEG": (b"\xff\xda", 16), "PNG": (b"iCCP", 4)}

# Text chunks are not used, so limit what they may unpack to.
PngImagePlugin.MAX_TEXT_MEMORY = PngImagePlugin.MAX_TEXT_CHUNK

_catching_warnings = threading.Lock()


class PictureError(ValueError):
    """The bytes are not a picture that can be decoded; the message says why in one sentence."""

    code = "not_a_picture"


class PictureTooLarge(PictureError):
    """The picture has more bytes or more pixels than are allowed."""

    code = "picture_too_large"


class PixelBudget:
    """Number of pixels that may still be decoded, in one picture or in several together."""

    def __init__(self, left: int = MAX_PIXELS):
        self._left = left

    def spend(self, size: tuple[int, int]) -> None:
        """Take a picture of this size (width, height) off the budget; raises PictureTooLarge where it does not fit."""
        width, height = size
        most = min(self._left, MAX_PIXELS)
        if width * height > most or max(size) > MAX_SIDE:
            raise PictureTooLarge(
                f"The picture has {width} x {height} pixels; at most {most:,} and {MAX_SIDE:,} a side are read."
            )
        self._left -= width * height


def open_picture(data: bytes, formats: tuple[str, ...] = FORMATS, budget: PixelBudget | None = None) -> Image.Image:
    """Decode a picture of at most 1 MB and 4 million pixels in one of `formats` (Pillow's names).

    Only the parsers of these formats run. The size is checked, and taken off `budget`, before any pixel is decoded. Of
    an animation, decode the first frame; turn a photo by its EXIF orientation. Raises PictureError or PictureTooLarge.
    """
    if len(data) > MAX_BYTES:
        raise PictureTooLarge(f"The picture has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    budget = budget or PixelBudget()
    if "PGM" in formats and (header := PGM_HEADER.match(data)):
        return _decode_pgm(data, header, budget)
    name = next((name for name in formats if name in PARSERS and data.startswith(PARSERS[name][0])), "")
    part, most = MAX_PARTS.get(name, (b"", len(data) + 1))
    try:
        if not name or data.count(part) > most:
            raise ValueError("no real picture")
        # Pillow warns of harmless faults, in metadata for instance. Catching warnings changes the state of the process,
        # hence the lock.
        with _catching_warnings, warnings.catch_warnings(action="ignore"):
            return _decode_with(data, PARSERS[name][1], budget)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureTooLarge(f"The picture has too many pixels; at most {MAX_PIXELS:,} are read.") from error
    except Exception as error:
        # Decoders raise many kinds of errors on damaged or hostile bytes.
        raise PictureError(f"The data is not a whole {' or '.join(formats)} picture.") from error


def _decode_pgm(data: bytes, header: re.Match[bytes], budget: PixelBudget) -> Image.Image:
    """Decode a PGM; raises PictureError."""
    size = int(header[1]), int(header[2])
    budget.spend(size)
    pixels = data[header.end() :]
    if not size[0] * size[1] == len(pixels) > 0:
        raise PictureError("The data is not a whole PGM picture.")
    return Image.frombytes("L", size, pixels)


def _decode_with(data: bytes, parser: Callable[[io.BytesIO], ImageFile.ImageFile], budget: PixelBudget) -> Image.Image:
    image = parser(io.BytesIO(data))
    budget.spend(image.size)
    if any(tile.codec_name == "bmp_rle" for tile in image.tile):
        raise ValueError("Pillow unpacks these in Python, for a quarter of a second")
    image.load()
    return ImageOps.exif_transpose(image)
