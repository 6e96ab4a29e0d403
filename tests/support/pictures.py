"""Pictures of digits as people have them, drawn by the tests: a pen on paper, in the formats of cameras."""

import math
from pathlib import Path

from PIL import Image, ImageDraw

from tests.support.strokes import DIGITS

PAPER, PEN = (221, 216, 205), (38, 42, 84)
ORIENTATION = 0x0112  # the EXIF tag: 6 is turned by 90 degrees
HEIGHT = 0.4  # of a line of digits, as a share of the picture's height


def number(text, top=0.3, height=HEIGHT, left=0.05, width=0.9):
    """The strokes of a number side by side, as points between 0 and 1; `-` is a minus, a space a gap."""
    strokes = []
    pitch = width / len(text)
    for place, sign in enumerate(text):
        start = left + place * pitch
        if sign == "-":
            y = top + height / 2
            strokes.append([(start + share * pitch, y) for share in (0.15, 0.45, 0.75)])
        elif sign != " ":
            strokes += [
                [(start + pitch * (0.1 + 1.25 * (x - 0.2)), top + height * (y - 0.15) / 0.7) for x, y in stroke]
                for stroke in DIGITS[int(sign)]
            ]
    return strokes


def photo(strokes, size=(900, 1200)):
    """A sheet of paper with strokes of a pen."""
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    width = max(4, min(size) // 50)
    for stroke in strokes:
        points = [(x * size[0], y * size[1]) for x, y in stroke]
        pen.line(points, PEN, width, joint="curve")
        for x, y in points:
            reach = width / 2 - 0.5
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), PEN)
    return picture


def grainy(picture):
    """The picture with the noise of a sensor, which makes its file as large as a camera's."""
    grain = Image.effect_noise(picture.size, 24).convert("RGB")
    return Image.blend(picture, grain, 0.2)


def save(picture, path: Path, turned=False, **options) -> str:
    """Write the file, and return its path; `turned`: as a camera held on its side does, with a note which way is up."""
    if turned:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        picture, options["exif"] = picture.transpose(Image.Transpose.ROTATE_90), exif
    picture.save(path, **options)
    return str(path)


def near(box, expected, within):
    """Whether each side of a box is close to the one expected."""
    return all(math.isclose(a, b, abs_tol=within) for a, b in zip(box, expected, strict=True))
