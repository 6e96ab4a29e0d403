"""A picture that is being composed: paper or screen, ink, print, light, and what a camera adds."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data import strokes
from model.data.strokes import Drawing, Look

Colour = Sequence[float]
Point = tuple[float, float]
WHITE: Colour = (255, 255, 255)
ORIENTATION = 0x0112
"""EXIF tag of the orientation."""


class Sheet:
    """Pixels float32 (H, W, 3), 0 to 255. Lengths are in pixels, positions (x, y) from the left upper corner."""

    def __init__(self, width: int, height: int, colour: Colour = WHITE):
        self.pixels: np.ndarray = np.full((height, width, 3), colour, np.float32)

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def at(self, x: float, y: float) -> Point:
        """Return the position at these fractions of width and height."""
        return x * self.size[0], y * self.size[1]

    # Marks

    def cover(self, mask: np.ndarray, colour: Colour | np.ndarray) -> None:
        """Blend a colour, or pixels (H, W, 3), in where the mask (H, W), 0 to 1, says so."""
        self.pixels += mask[..., None] * (np.asarray(colour, np.float32) - self.pixels)

    def darken(self, mask: np.ndarray, by: float) -> None:
        """Take greys off where the mask (H, W), 0 to 1, says so."""
        self.pixels -= by * mask[..., None]

    def write(
        self,
        drawing: Drawing,
        size: float,
        pen: float,
        colour: Colour,
        centre: Point = (0.5, 0.5),
        angle: float = 0.0,
        opacity: float | np.ndarray = 1.0,
        soft: float = 0.0,
    ) -> None:
        """Write a drawing whose longer side is `size`, centred on fractions of the sheet, turned by degrees.

        `opacity` may be a field (H, W), as a pencil's or chalk's, `soft` is the deviation of a blur.
        """
        side = math.ceil(size + 2 * pen + 6 * soft) + 2
        ink = 1 - np.asarray(strokes.draw(drawing, Look(size / side, pen, angle), side), np.float32) / 255
        mask = np.zeros(self.pixels.shape[:2], np.float32)
        x, y = self.at(*centre)
        _paste(mask, blurred(ink, soft), round(x - side / 2), round(y - side / 2))
        self.cover(mask * np.float32(opacity), colour)

    def text(self, words: str, size: float, colour: Colour, place: Point) -> None:
        """Print words with their left upper corner at a position."""
        self.cover(_shape(self.size, lambda brush: brush.text(place, words, 255, ImageFont.load_default(size))), colour)

    def rectangle(self, corner: Point, opposite: Point, colour: Colour) -> None:
        self.cover(_shape(self.size, lambda brush: brush.rectangle((*corner, *opposite), 255)), colour)

    def outline(self, corner: Point, opposite: Point, colour: Colour, width: float) -> None:
        (left, top), (right, bottom) = corner, opposite
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            self.cover(self.segment(start, end, width), colour)

    # Masks and fields over the sheet

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x (1, W) and y (H, 1) of the pixels' centres."""
        width, height = self.size
        x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5
        return x[None], y[:, None]

    def along(self, degrees: float, through: Point = (0.5, 0.5)) -> np.ndarray:
        """Return how far each pixel lies in a direction, clockwise from the right, from a point in fractions."""
        (x, y), (across, down) = self.places(), self.at(*through)
        return (x - across) * math.cos(math.radians(degrees)) + (y - down) * math.sin(math.radians(degrees))

    def rules(self, spacing: float, width: float, degrees: float = 90.0, offset: float = 0.0) -> np.ndarray:
        """Return parallel lines whose normal has this direction: 90 for horizontal lines."""
        distance = (self.along(degrees, (0, 0)) - offset + spacing / 2) % spacing - spacing / 2
        return np.clip(width / 2 + 0.5 - np.abs(distance), 0, 1)

    def segment(self, start: Point, end: Point, width: float) -> np.ndarray:
        """Return a line from one position to another, with round ends."""
        x, y = self.places()
        (ax, ay), (bx, by) = start, end
        length = max(math.hypot(bx - ax, by - ay), 1e-6)
        ux, uy = (bx - ax) / length, (by - ay) / length
        along = np.clip((x - ax) * ux + (y - ay) * uy, 0, length)
        distance = np.hypot(x - ax - along * ux, y - ay - along * uy)
        return np.clip(width / 2 + 0.5 - distance, 0, 1)

    def disc(self, centre: Point, radius: float, soft: float = 1.0) -> np.ndarray:
        x, y = self.places()
        return np.clip((radius - np.hypot(x - centre[0], y - centre[1])) / soft + 0.5, 0, 1)

    def clouds(self, random: np.random.Generator, scale: float) -> np.ndarray:
        """Return smooth noise (H, W) of mean 0 and deviation 1 whose waves are about `scale` long."""
        width, height = self.size
        coarse = random.standard_normal((math.ceil(height / scale) + 3, math.ceil(width / scale) + 3), np.float32)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    # Light and camera

    def light(self, factor: np.ndarray) -> None:
        self.pixels *= factor[..., None]

    def gradient(self, degrees: float, least: float) -> None:
        """Let the light fall evenly from 1 to `least` in a direction."""
        way = self.along(degrees)
        self.light(1 - (1 - least) * (way - way.min()) / np.ptp(way))

    def vignette(self, least: float) -> None:
        """Let the light fall to `least` in the corners."""
        (x, y), (width, height) = self.places(), self.size
        self.light(1 - (1 - least) * ((x / width * 2 - 1) ** 2 + (y / height * 2 - 1) ** 2) / 2)

    def shadow(self, degrees: float, least: float, edge: float, through: Point = (0.5, 0.5)) -> None:
        """Let the light fall to `least` beyond a straight edge through a point, over `edge` pixels."""
        self.light(1 - (1 - least) * np.clip(self.along(degrees, through) / edge + 0.5, 0, 1))

    def noise(self, random: np.random.Generator, deviation: float, coarse: float = 0.0) -> None:
        """Add grain, the same in all colours; `coarse` is its blur, as of paper or of a small sensor."""
        width, height = self.size
        tile = random.standard_normal((min(height, 1024), min(width, 1024)), np.float32)
        if coarse:
            tile = blurred(tile, coarse)
            tile /= tile.std()
        repeats = -(-height // len(tile)), -(-width // tile.shape[1])
        self.pixels += deviation * np.tile(tile, repeats)[:height, :width, None]

    def blur(self, deviation: float) -> None:
        self.pixels = blurred(self.pixels, deviation)

    def warp(self, corners: Sequence[Point], onto: Sheet | None = None) -> None:
        """Move the four corners (left upper, then clockwise) to fractions of the sheet, or of the one below it."""
        width, height = self.size
        below = onto or self
        start = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        matrix = cv2.getPerspectiveTransform(start, np.array([below.at(*corner) for corner in corners], np.float32))
        border = cv2.BORDER_CONSTANT if onto else cv2.BORDER_REPLICATE
        moved = cv2.warpPerspective(self.pixels, matrix, below.size, flags=cv2.INTER_AREA, borderMode=border)
        if onto:
            mask = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, below.size)
            lit = blurred(np.maximum(mask, 0), 6) * 0.35  # the sheet's soft shadow on the table
            onto.light(1 - lit * (1 - mask))
            onto.cover(mask, moved / np.maximum(mask, 1e-3)[..., None])
            moved = onto.pixels
        self.pixels = moved

    # Files

    def image(self) -> Image.Image:
        return Image.fromarray(self.pixels.round().clip(0, 255).astype(np.uint8))

    def png(self) -> bytes:
        return _saved(self.image(), "PNG", compress_level=1)

    def jpeg(self, quality: int = 90, orientation: int = 1) -> bytes:
        """Return a JPEG; of another orientation, held so that EXIF turns it upright."""
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        held = self.image() if orientation == 1 else self.image().transpose(undo[orientation])
        return _saved(held, "JPEG", quality=quality, exif=exif)


def blurred(field: np.ndarray, deviation: float) -> np.ndarray:
    return cv2.GaussianBlur(field, (0, 0), deviation) if deviation else field


def _paste(mask: np.ndarray, part: np.ndarray, left: int, top: int) -> None:
    """Put a part into the mask, without what lies outside."""
    height, width = mask.shape
    rows = slice(max(top, 0), min(top + part.shape[0], height))
    columns = slice(max(left, 0), min(left + part.shape[1], width))
    mask[rows, columns] = part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _shape(size: tuple[int, int], draw) -> np.ndarray:
    mask = Image.new("L", size)
    draw(ImageDraw.Draw(mask))
    return np.asarray(mask, np.float32) / 255


def _saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
