"""Decode the bytes of a picture file, within limits on bytes, pixels, memory and time.

The kind of file is told by its first bytes. A picture much larger than NEEDED_SIDE is reduced while it is decoded or
right after.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# These are imported at the start, once for all workers; the parsers of rarer formats with their first file.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000
MAX_SIDE = 1 << 14
# A picture is reduced by a whole factor as far as its longer side keeps so many pixels.
NEEDED_SIDE = 1_600
# First bytes and parser of each format. Image.open would import every plugin of Pillow, for a fifth of a second, at the
# first file of an unknown format. HEIC and AVIF are told by the brands of their first box.
PARSERS = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin", "PngImageFile"),
    "JPEG": (rb"\xff\xd8\xff", "PIL.JpegImagePlugin", "JpegImageFile"),
    "WEBP": (rb"RIFF....WEBP", "PIL.WebPImagePlugin", "WebPImageFile"),
    "BMP": (rb"BM", "PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": (rb"GIF8[79]a", "PIL.GifImagePlugin", "GifImageFile"),
    "TIFF": (rb"II\*\0|MM\0\*", "PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": (rb"\0...ftyp(?:.{4}){0,16}?avi[fs]", "PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": (rb"\0...ftyp(?:.{4}){0,16}?(?:he[iv][cmsx]|mif1|msf1)", "pi_heif.as_plugin", "HeifImageFile"),
}
# Binary PGM of 8 bits without comments: uncompressed pixels, as the drawing page sends them.
PGM_HEADER = re.compile(rb"P5\s(\d{1,5})\s(\d{1,5})\s255\s", re.ASCII)
FORMATS = (*PARSERS, "PGM")
# Parts that each cost time and may be repeated without end: scans of a JPEG (real ones have about ten, in CMYK 18) and
# all of its parts, compressed colour profiles of a PNG (real ones have at most one).
MAX_SCANS, MAX_SEGMENTS, MAX_PROFILES = 20, 1_000, 4
# A marker between the parts of a JPEG; within a scan 0xFF is followed by 0 or by one of the restart markers.
JPEG_MARKER = re.compile(rb"\xff+([^\0\xff\xd0-\xd7])", re.S)
JPEG_END, JPEG_SCAN = b"\xd9", b"\xda"
# Reads of one file by a parser in Python, which takes about a microsecond for each: a PNG has four in each chunk.
MAX_READS = 60_000
# Formats whose codecs trust what the file says of its parts: hostile files crash them, take more memory and time than
# the picture's size tells, or write to standard error. Each picture is decoded in a process of its own, whose start
# takes as long as START_PIXELS.
DECODED_APART = ("TIFF", "AVIF", "HEIC")
START_PIXELS = 1_000_000
# On a busy machine; gunicorn ends a worker whose request takes 15.
MAX_APART_SECONDS = 8
# A WebP of more pixels is decoded by OpenCV: Pillow keeps four copies of it.
MAX_WEBP_PIXELS_OF_PILLOW = 4_000_000
# Rows of the reduced picture that are made at once.
STRIP = 64
# Unpackers of Pillow that take the other byte of each 16-bit value; N is the machine's order, in which libtiff answers.
SWAPPED_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}

# Text chunks are not used, so limit what they may unpack to.
PngImagePlugin.MAX_TEXT_MEMORY = PngImagePlugin.MAX_TEXT_CHUNK

_one_at_a_time = threading.Lock()


class PictureError(ValueError):
    """The bytes are not a picture that can be decoded; the message says why in one sentence."""

    code = "not_a_picture"


class PictureTooLarge(PictureError):
    """The picture has more bytes or more pixels than are allowed."""

    code = "picture_too_large"


class PixelBudget:
    """Number of pixels that may still be decoded, in one picture or in several together."""

    def __init__(self, left: int = MAX_PIXELS):
        self.left = left

    def spend(self, size: tuple[int, int]) -> None:
        """Take a picture of this size (width, height) off the budget; raises PictureTooLarge where it does not fit."""
        width, height = size
        most = min(self.left, MAX_PIXELS)
        if width * height > most or max(size) > MAX_SIDE:
            raise PictureTooLarge(
                f"The picture has {width} x {height} pixels; at most {most:,} and {MAX_SIDE:,} a side are read."
            )
        self.left -= width * height


def check_bytes(count: int) -> None:
    """Raise PictureTooLarge where a file of so many bytes is not read."""
    if count > MAX_BYTES:
        raise PictureTooLarge(f"The picture has {count:,} bytes; at most {MAX_BYTES:,} are read.")


def format_of(data: bytes) -> str | None:
    """Return the format that the first bytes of a file tell; None for any that is not read."""
    if PGM_HEADER.match(data):
        return "PGM"
    return next((name for name, (beginning, *_) in PARSERS.items() if re.match(beginning, data, re.S)), None)


def open_picture(data: bytes, formats: tuple[str, ...] = FORMATS, budget: PixelBudget | None = None) -> Image.Image:
    """Decode a picture of at most MAX_BYTES and MAX_PIXELS in one of `formats`, upright.

    Only the parser of the format that the first bytes tell runs. The size is checked, and taken off `budget`, before
    any pixel is decoded. A picture whose longer side is at least twice NEEDED_SIDE comes back reduced. Of an animation,
    decode the first frame, of a TIFF the first page. Raises PictureError or PictureTooLarge.
    """
    check_bytes(len(data))
    budget = budget or PixelBudget()
    name = format_of(data)
    if name not in formats:
        raise PictureError(f"The data is not a whole {_listed(formats)} picture.")
    if name == "PGM":
        return _decode_pgm(data, budget)
    try:
        # Several threads would need the memory of several large pictures. Pillow warns of harmless faults, in metadata
        # for instance; catching warnings changes the state of the process, another reason for the lock.
        with _one_at_a_time, warnings.catch_warnings(action="ignore"):
            return _decode_apart(name, data, budget) if name in DECODED_APART else decode_here(name, data, budget)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureTooLarge(f"The picture has too many pixels; at most {MAX_PIXELS:,} are read.") from error
    except Exception as error:
        # Decoders raise many kinds of errors on damaged or hostile bytes.
        raise PictureError(f"The data is not a whole {name} picture.") from error


def _listed(formats: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(formats[:-1]), formats[-1])))


def _decode_pgm(data: bytes, budget: PixelBudget) -> Image.Image:
    """Decode a PGM; raises PictureError."""
    header = PGM_HEADER.match(data)
    assert header is not None
    size = int(header[1]), int(header[2])
    budget.spend(size)
    pixels = data[header.end() :]
    if not size[0] * size[1] == len(pixels) > 0:
        raise PictureError("The data is not a whole PGM picture.")
    return _reduced(Image.frombytes("L", size, pixels))


class _Reader(io.BytesIO):
    """A file that cannot be read in far more pieces, or far more often, than a real picture is."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self._reads, self._bytes = MAX_READS, 4 * len(data) + MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._reads -= 1
        self._bytes -= len(data)
        if min(self._reads, self._bytes) < 0:
            raise ValueError("far more parts than a real picture has")
        return data


def _decode_apart(name: str, data: bytes, budget: PixelBudget) -> Image.Image:
    """Decode a picture in a process of its own; one that crashes it, or takes too long, spends the whole budget."""
    if budget.left < START_PIXELS:
        raise PictureTooLarge(f"The pictures have more than {MAX_PIXELS:,} pixels together.")
    command = [sys.executable, "-P", "-m", "model.imaging.decoder_process", name, str(budget.left)]
    folders = os.pathsep.join((str(Path(__file__).parents[2]), *filter(None, sys.path)))
    budget.left = 0
    try:
        done = subprocess.run(
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": folders},  # the environment may have secrets
            timeout=MAX_APART_SECONDS,
        )
        is_late = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    except subprocess.TimeoutExpired:
        is_late = True
    if is_late:
        raise PictureError("The picture takes too long to decode.")
    done.check_returncode()
    answer, _, pixels = done.stdout.partition(b"\n")
    left, mode, size, too_large = json.loads(answer)
    budget.left = left - START_PIXELS
    if too_large:
        raise PictureTooLarge(too_large)
    if mode is None:
        raise ValueError("damaged")
    return Image.frombytes(mode, size, pixels)


def decode_here(name: str, data: bytes, budget: PixelBudget) -> Image.Image:
    """Decode a picture in this process; raises PictureTooLarge, or any error where it is damaged."""
    if name == "JPEG" and _has_many_scans(data) or name == "PNG" and data.count(b"iCCP") > MAX_PROFILES:
        raise ValueError("far more parts than a real picture has")
    if name == "WEBP":
        PixelBudget().spend(_webp_size(data))  # Pillow's parser allocates the pixels
    image = _parse(name, data)
    budget.spend(image.size)
    if name == "WEBP" and image.width * image.height > MAX_WEBP_PIXELS_OF_PILLOW:
        size, metadata = image.size, image.info
        del image
        picture = _decode_with_opencv(data, size)
        picture.info = metadata
        return ImageOps.exif_transpose(picture)
    factor = _factor(image.size)
    image.draft(None, (image.width // factor, image.height // factor))  # only a JPEG takes notice
    rawmode = _rawmode(image.tile[0]) if image.tile else ""
    image.load()
    if rawmode in SWAPPED_BYTES and _highest(image) < 128:
        _add_low_bytes(image, _parse(name, data))
    return ImageOps.exif_transpose(_reduced(image))


def _parse(name: str, data: bytes) -> ImageFile.ImageFile:
    """Read the header of a picture; raises ValueError where the pixels would take too long."""
    _, module, parser = PARSERS[name]
    plugin: Any = importlib.import_module(module)
    if name == "AVIF":
        plugin.DEFAULT_MAX_THREADS = 1
    elif name == "HEIC":
        plugin.options.DECODE_THREADS = 1
    image = getattr(plugin, parser)(_Reader(data))
    if any(tile.codec_name == "bmp_rle" for tile in image.tile):
        raise ValueError("Pillow unpacks these in Python, for a quarter of a second")
    return image


def _has_many_scans(data: bytes) -> bool:
    """Return whether a JPEG has more scans or segments than a real one, up to its end; phones append a film to it."""
    place, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker = JPEG_MARKER.search(data, place)
        if marker is None or marker[1] == JPEG_END:
            return scans > MAX_SCANS
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        scans += marker[1] == JPEG_SCAN
    return True


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read the size in a WebP's first chunk: VP8X, VP8L or VP8 (RFC 9649)."""
    kind, fields = data[12:16], int.from_bytes(data[20:30], "little")
    if kind == b"VP8X":
        return (fields >> 32 & 0xFFFFFF) + 1, (fields >> 56) + 1
    if kind == b"VP8L":
        return (fields >> 8 & 0x3FFF) + 1, (fields >> 22 & 0x3FFF) + 1
    return fields >> 48 & 0x3FFF, fields >> 64 & 0x3FFF


def _highest(picture: Image.Image) -> float:
    """Return the highest value of a picture, without its opacity."""
    extrema: Any = picture.getextrema()
    return extrema[1] if len(picture.getbands()) == 1 else max(high for _, high in extrema[:3])


def _factor(size: tuple[int, int]) -> int:
    return max(1, max(size) // NEEDED_SIDE)


def _reduced(picture: Image.Image) -> Image.Image:
    """Return a picture with 8 bits a channel, reduced where it is larger than needed."""
    if _factor(picture.size) == 1 and picture.mode[0] not in "IF":
        return picture
    used = 255.0
    if picture.mode[0] in "IF":
        highest = _highest(picture)
        # As many bits as are used: cameras and scanners store 10 or 12 bits in 16.
        used = 2.0 ** max(8, int(highest).bit_length()) - 1 if highest > 1 or picture.mode[0] == "I" else 1.0

    def strip(top: int, bottom: int) -> Image.Image:
        part = picture.crop((0, top, picture.width, bottom))
        if part.mode[0] not in "IF":
            return plain(part)
        part = part if part.mode == "F" else part.convert("I").convert("F")
        return part.point(lambda value: value * (255 / used)).convert("L")

    reduced = _from_strips(picture.size, strip)
    reduced.info = {name: value for name, value in picture.info.items() if name != "transparency"}
    return reduced


def plain(picture: Image.Image) -> Image.Image:
    """Convert a picture with 8 bits a channel to L, RGB or RGBA."""
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def _from_strips(size: tuple[int, int], strip: Callable[[int, int], Image.Image]) -> Image.Image:
    """Reduce a picture of a size, given as strips of rows from `top` to `bottom`, so that only they are ever copied."""
    width, height = size
    factor = _factor(size)
    first = strip(0, 1)
    reduced = Image.new(first.mode, (math.ceil(width / factor), math.ceil(height / factor)))
    for top in range(0, height, STRIP * factor):
        part = strip(top, min(top + STRIP * factor, height))
        reduced.paste(part.reduce(factor) if factor > 1 else part, (0, top // factor))
    return reduced


def _decode_with_opencv(data: bytes, size: tuple[int, int]) -> Image.Image:
    import cv2
    import numpy as np

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of damaged files
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[1::-1] != size:
        raise ValueError("OpenCV cannot decode it")
    channels = [2, 1, 0, 3][: pixels.shape[2]]  # from BGR or BGRA
    return _from_strips(size, lambda top, bottom: Image.fromarray(pixels[top:bottom][..., channels]))


def _rawmode(tile: ImageFile._Tile) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _add_low_bytes(high: Image.Image, again: ImageFile.ImageFile) -> None:
    """Shift the low byte of each 16-bit value into an RGB or RGBA picture of the high bytes, as far as these have room.

    Pillow decodes colours of 16 bits to their high bytes, which are nearly all 0 where only 10 or 12 bits are used.
    """
    for i, tile in enumerate(again.tile):
        rawmode = SWAPPED_BYTES[_rawmode(tile)]
        again.tile[i] = tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
    again.load()
    shift = 8 - int(_highest(high)).bit_length()
    up, down = [value << shift & 255 for value in range(256)], [value >> 8 - shift for value in range(256)]
    for top in range(0, high.height, STRIP):
        box = 0, top, high.width, min(top + STRIP, high.height)
        bands, low = high.crop(box).split(), again.crop(box).split()
        colours = [ImageChops.add(bands[i].point(up), low[i].point(down)) for i in range(3)]
        high.paste(Image.merge(high.mode, (*colours, *bands[3:])), box)
