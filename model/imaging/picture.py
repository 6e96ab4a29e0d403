"""The one road from a picture to the 28 x 28 digit image that the network sees.

A picture becomes ink (how much pen is at each place, whatever the colours), and ink becomes a digit image as MNIST's
were made (LeCun et al., "Gradient-based learning applied to document recognition", 1998, section III-A): scaled with
its aspect kept into a 20 x 20 box with anti-aliasing, then placed so that its centre of mass is the centre of the
28 x 28 field, which in MNIST's own files is pixel 14 of each axis, counted from 0.

Torch is imported only by `to_tensor`, so that a web page can use this module without waiting for it.
"""

from __future__ import annotations

import io
import math
import re
import threading
import warnings
from collections.abc import Callable

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    ImageFilter,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from model.task import BOX, SIDE

MAX_BYTES = 1 << 20
MAX_PIXELS = 4_000_000
MAX_SIDE = 1 << 14
# How a file of each format begins, and what reads it. Image.open would import every plugin of Pillow, for a fifth of a
# second, at the first file that it does not know.
PARSERS: dict[str, tuple[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "JPEG": (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    "WEBP": (b"RIFF", WebPImagePlugin.WebPImageFile),
    "BMP": (b"BM", BmpImagePlugin.BmpImageFile),
}
# Binary PGM of 8 bits without comments, the one format that is its pixels: what the drawing page sends.
GREY = re.compile(rb"P5\s(\d{1,5})\s(\d{1,5})\s255\s", re.ASCII)
FORMATS = (*PARSERS, "PGM")
# Parts that cost time each and may be repeated without end: scans of the whole JPEG (real ones have about ten),
# compressed colour profiles in a PNG (real ones have one at most).
MOST_PARTS = {"JPEG": (b"\xff\xda", 16), "PNG": (b"iCCP", 4)}

# Working size of the ink's longer side: four pixels to one of the box are enough to thicken a line smoothly.
FINE = 4 * BOX
# Ink is found on a picture of at most this side; a larger one is reduced first.
WORKING_SIDE = 640
# Less difference from the paper than this, of the full range, is paper: grain, shadow, compression.
MIN_CONTRAST = 0.1
NOISE_FLOOR = 0.08
# So many times the border's median difference from the paper is still grain: five standard deviations of grey noise.
GRAIN = 7.5
# What is strongest is the fourth strongest, so that a speck or two do not decide what full ink is.
_STRONGEST = 4
_GREYS = np.arange(256, dtype=np.float32) / 255
# Ink that counts when the ink's box is measured.
EDGE = 0.25
# Ink, of 255, that is line when the line's width is measured.
LINE = 96
# MNIST's lines are about two to three pixels wide in the 20-pixel box; a finer pen is widened to the lower end.
MIN_LINE = 1.7

# Text chunks are of no use here and must not be unpacked by the megabyte.
PngImagePlugin.MAX_TEXT_MEMORY = PngImagePlugin.MAX_TEXT_CHUNK

_catching_warnings = threading.Lock()


class PictureError(ValueError):
    """The bytes are not a picture that can be read; the message says why in one sentence."""

    code = "not_a_picture"


class PictureTooLarge(PictureError):
    """More bytes or more pixels than are read."""

    code = "picture_too_large"


class PixelBudget:
    """How many pixels may be unpacked from now on, in one picture or in several together."""

    def __init__(self, left: int = MAX_PIXELS):
        self._left = left

    def spend(self, size: tuple[int, int]) -> None:
        """Raises PictureTooLarge where a picture of this size has more pixels than are left."""
        width, height = size
        most = min(self._left, MAX_PIXELS)
        if width * height > most or max(size) > MAX_SIDE:
            raise PictureTooLarge(
                f"The picture has {width} x {height} pixels; at most {most:,} and {MAX_SIDE:,} a side are read."
            )
        self._left -= width * height


def open_picture(
    data: bytes, formats: tuple[str, ...] = FORMATS, budget: PixelBudget | None = None
) -> Image.Image:
    """Decodes a picture of at most 1 MB and 4 million pixels in one of `formats` (Pillow's names).

    Only the parsers of these formats run, and the size is checked, and taken off `budget`, before any pixel is
    unpacked. Of an animation the first frame is taken, and a photo is turned the way it was held. Raises PictureError,
    or PictureTooLarge.
    """
    if len(data) > MAX_BYTES:
        raise PictureTooLarge(f"The picture has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    budget = budget or PixelBudget()
    if "PGM" in formats and (header := GREY.match(data)):
        return _grey(data, header, budget)
    name = next((name for name in formats if name in PARSERS and data.startswith(PARSERS[name][0])), "")
    part, most = MOST_PARTS.get(name, (b"", len(data) + 1))
    try:
        if not name or data.count(part) > most:
            raise ValueError("no real picture")
        # Pillow warns of harmless oddities, in the metadata for instance; the lock is there because catching warnings
        # changes the state of the process.
        with _catching_warnings, warnings.catch_warnings(action="ignore"):
            return _parsed(data, PARSERS[name][1], budget)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureTooLarge(f"The picture has too many pixels; at most {MAX_PIXELS:,} are read.") from error
    except Exception as error:
        # Whatever a decoder raises on damaged or hostile bytes means the same here.
        raise PictureError(f"The data is not a whole {' or '.join(formats)} picture.") from error


def _grey(data: bytes, header: re.Match[bytes], budget: PixelBudget) -> Image.Image:
    """The picture in a PGM; raises PictureError."""
    size = int(header[1]), int(header[2])
    budget.spend(size)
    pixels = data[header.end() :]
    if not size[0] * size[1] == len(pixels) > 0:
        raise PictureError("The data is not a whole PGM picture.")
    return Image.frombytes("L", size, pixels)


def _parsed(data: bytes, parser: Callable[[io.BytesIO], ImageFile.ImageFile], budget: PixelBudget) -> Image.Image:
    image = parser(io.BytesIO(data))
    budget.spend(image.size)
    if any(tile.codec_name == "bmp_rle" for tile in image.tile):
        raise ValueError("Pillow unpacks these in Python, for a quarter of a second")
    image.load()
    return ImageOps.exif_transpose(image)


def digit_image(picture: Image.Image) -> np.ndarray | None:
    """A picture of one digit as the network sees it: uint8 (28, 28), ink bright on black; None without ink."""
    inked = ink(picture)
    return None if inked is None else from_ink(inked)


def ink(picture: Image.Image) -> np.ndarray | None:
    """How much ink is at each place: float32 (H, W), 0 to 1; None for a blank picture.

    The paper is what the border shows (or what is transparent), the ink what differs from it, in whatever colour and
    whichever of the two is darker. A picture is blank when nothing differs enough: few dark pixels, as in a thin 1, are
    ink all the same.
    """
    picture = _working_part(_plain_mode(picture))
    pixels = np.asarray(picture)
    if picture.mode == "RGBA":
        return _stretched(_difference_from_nothing(pixels / np.float32(255)))
    if picture.mode == "L" and (_border(pixels) == pixels[0, 0]).all():
        # On even paper, as the drawing page sends it, the ink at a pixel follows from its grey alone: find it for the
        # 256 greys and look it up. How often a grey is seen matters up to the number that decides what is strongest.
        difference = np.abs(_GREYS - _GREYS[pixels[0, 0]])
        seen = np.repeat(difference, np.minimum(picture.histogram(), _STRONGEST))
        inked = _stretched(difference, seen)
        return None if inked is None else inked[pixels]
    return _stretched(_difference_from_paper(pixels / np.float32(255)))


def from_ink(inked: np.ndarray) -> np.ndarray:
    """Ink, float32 (H, W), 0 to 1 and not all of it 0, to a digit image, uint8 (28, 28)."""
    left, top, right, bottom = Image.fromarray(inked > EDGE).getbbox() or (0, 0, 1, 1)
    part = Image.fromarray((inked[top:bottom, left:right] * 255).round().astype(np.uint8))
    if max(part.size) > FINE:
        part = _fitted(part, FINE)
    if _line_width(part) * BOX / max(part.size) < MIN_LINE:
        part = _widened(_fitted(part, FINE))
    return _centred(np.asarray(_fitted(part, BOX)))


def to_tensor(images):
    """Digit images, uint8 ndarray or tensor (N, 28, 28), to the network's input: float32 tensor (N, 784), 0 to 1."""
    import torch

    return torch.as_tensor(images).flatten(1).to(torch.float32).div_(255)


def _plain_mode(picture: Image.Image) -> Image.Image:
    """The picture as L, RGB or RGBA."""
    if picture.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
        return Image.fromarray((np.asarray(picture) // 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return picture if np.asarray(picture.getchannel("A")).min() < 255 else picture.convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def _working_part(picture: Image.Image) -> Image.Image:
    """The part of the picture that may have ink, reduced where it is still larger than WORKING_SIDE.

    The paper goes first, so that a small digit on a large sheet does not fade when the sheet is reduced.
    """
    if picture.mode == "RGBA":
        picture = picture.crop(picture.getchannel("A").getbbox() or (0, 0, 1, 1))
    elif max(picture.size) > WORKING_SIDE:
        picture = _without_margins(picture)
    longer = max(picture.size)
    return picture.reduce(math.ceil(longer / WORKING_SIDE)) if longer > WORKING_SIDE else picture


def _without_margins(picture: Image.Image) -> Image.Image:
    """An L or RGB picture cropped to what differs from the paper, with enough paper left to know it by."""
    paper = np.median(_outermost(picture), axis=0).astype(int)
    differs = np.abs(np.arange(256) - paper[:, None]) > MIN_CONTRAST * 255
    differing = picture.point((255 * differs).ravel().tolist())
    left, top, right, bottom = differing.getbbox() or (0, 0, 1, 1)
    margin = 8 + (right - left + bottom - top) // 8
    return picture.crop(
        (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, picture.width),
            min(bottom + margin, picture.height),
        )
    )


def _outermost(picture: Image.Image) -> np.ndarray:
    """The outermost pixels (M, C) of a picture, without a copy of the whole."""
    width, height = picture.size
    sides = (0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)
    bands = len(picture.getbands())
    return np.concatenate([np.asarray(picture.crop(side)).reshape(-1, bands) for side in sides])


def _difference_from_nothing(pixels: np.ndarray) -> np.ndarray:
    """Ink of an RGBA picture (H, W, 4): what is opaque is ink, unless it is a sheet with something drawn on it."""
    alpha = pixels[..., 3]
    opaque = alpha > 0.5
    if opaque.any():
        rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
        sheet = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        colours = pixels[..., :3][opaque]
        if opaque[sheet].mean() > 0.8 and np.ptp(colours, axis=0).max() > MIN_CONTRAST:
            # pixels that the sheet's own corners leave open count as paper
            paper = np.median(_border(pixels[sheet][..., :3]), axis=0)
            shown = pixels[sheet][..., :3] * alpha[sheet][..., None] + paper * (1 - alpha[sheet][..., None])
            return _difference_from_paper(shown)
    return alpha


def _difference_from_paper(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from the paper's colour, (H, W) or (H, W, 3) to (H, W).

    The paper's colour may change evenly across the picture, as light does across a sheet: it is a curved surface fitted
    to the border, without what lies far from the border's median, since ink may reach it. What differs no more than
    the border's own grain does is paper.
    """
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    border = _border(pixels)
    paper = np.median(border, axis=0)
    if np.ptp(border, axis=0).max() > NOISE_FLOOR / 4 and min(pixels.shape[:2]) > 2:
        paper = _paper_surface(pixels.shape[:2], border, paper)
    difference = np.abs(pixels - paper).max(axis=2)
    grain = GRAIN * np.median(_border(difference[..., None]))
    marked = difference > grain
    if grain > NOISE_FLOOR / 4:
        marked = _without_specks(marked)
    return np.where(marked, difference, 0)


def _without_specks(marked: np.ndarray) -> np.ndarray:
    """What is at least three pixels together: of so many pixels of paper a few are always above the grain."""
    in_company = Image.fromarray(marked.astype(np.uint8)).filter(ImageFilter.RankFilter(3, 6))
    return marked & np.asarray(in_company, dtype=bool)


def _border(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels (M, C) of (H, W, C)."""
    return np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def _paper_surface(shape: tuple[int, int], border: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """The surface of second degree through the paper's colour on the border: (H, W, C)."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    places = np.stack((np.ones_like(x), x, y, x * x, y * y), axis=2)
    terms = _border(places)
    # A plane first: what lies near the median may be too little of the border to tell a curve from it.
    for degree in (3, 5):
        near = np.abs(border - paper).max(axis=1) <= 2 * MIN_CONTRAST
        surface = np.linalg.lstsq(terms[near, :degree], border[near], rcond=None)[0]
        paper = terms[:, :degree] @ surface
    return places @ surface


def _stretched(difference: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray | None:
    """Differences to ink between 0 and 1, the strongest of those `seen` (default: all) being 1; None where even that is
    too faint to be ink."""
    strongest = _strongest(difference if seen is None else seen)
    if strongest < MIN_CONTRAST:
        return None
    relative = np.minimum(difference / strongest, 1)
    return np.where(relative > NOISE_FLOOR, relative, 0).astype(np.float32)


def _strongest(difference: np.ndarray) -> float:
    if difference.size <= _STRONGEST:
        return float(difference.max())
    return float(np.partition(difference, -_STRONGEST, axis=None)[-_STRONGEST])


def _line_width(part: Image.Image) -> float:
    """Mean width in pixels of the line in L ink: twice its area over its outline, where a pixel differs from its
    neighbour."""
    line = np.asarray(ImageOps.expand(part, 1)) > LINE
    edges = np.count_nonzero(line[1:] != line[:-1]) + np.count_nonzero(line[:, 1:] != line[:, :-1])
    # The steps of a pixel outline are longer than the outline, by 4 / pi on average over all directions.
    return 2 * np.count_nonzero(line) / max(edges * math.pi / 4, 1)


def _widened(fine: Image.Image) -> Image.Image:
    """The same ink with its line widened, since the pen was so fine that it would fade in the box."""
    missing = MIN_LINE * FINE / BOX - _line_width(fine)
    steps = max(1, round(missing / 2))
    fine = ImageOps.expand(fine, steps)
    fine = fine.point(lambda value: min(255, value * 2))
    for _ in range(steps):
        fine = fine.filter(ImageFilter.MaxFilter(3))
    return fine


def _fitted(part: Image.Image, side: int) -> Image.Image:
    """Scaled, aspect kept, so that the longer side is `side` pixels; anti-aliased."""
    scale = side / max(part.size)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    return part if size == part.size else part.resize(size, Image.Resampling.BILINEAR)


def _centred(box: np.ndarray) -> np.ndarray:
    """On the 28 x 28 field with the centre of mass at its centre, as far as the box stays inside."""
    rows, columns = box.sum(1), box.sum(0)
    top, left = _start(rows), _start(columns)
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[top : top + len(rows), left : left + len(columns)] = box
    return field


def _start(masses: np.ndarray) -> int:
    """Where a box begins on an axis, along which its ink is distributed so."""
    centre = float(masses @ np.arange(len(masses)) / masses.sum())
    return min(max(round(SIDE / 2 - centre), 0), SIDE - len(masses))
