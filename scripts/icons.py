"""Draw the icons that cannot be SVG, and the picture of link previews, from static/icon.svg: python scripts/icons.py"""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

STATIC = Path(__file__).parents[1] / "static"
SVG = (STATIC / "icon.svg").read_text()
SIDE = 64  # of the SVG's view box
OVERSAMPLING = 8
STEPS = 200  # points of a Bézier curve
INK, PAPER, SHEET, SOFT = "#1d1a16", "#f7f4ee", "#fffefb", "#575148"  # as in static/css/base.css


def attribute(name: str) -> str:
    return re.search(rf' {name}="([^"]+)"', SVG)[1]


def stroke() -> list[complex]:
    """Return points along the path: "Mx y", then cubic Bézier curves relative to their starts."""
    x, y, *rest = map(float, re.findall(r"-?[\d.]+", re.search(r' d="([^"]+)"', SVG)[1]))
    at, points = complex(x, y), []
    for a, b, c, d, e, f in zip(*[iter(rest)] * 6, strict=True):
        ends = at, at + complex(a, b), at + complex(c, d), at + complex(e, f)
        for step in range(STEPS + 1):
            t = step / STEPS
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            points.append(sum(weight * end for weight, end in zip(weights, ends, strict=True)))
        at = ends[3]
    return points


def digit(draw: ImageDraw.ImageDraw, scale: float, left: float, top: float, colour: str) -> None:
    radius = float(attribute("stroke-width")) * scale / 2
    places = [(left + point.real * scale, top + point.imag * scale) for point in stroke()]
    draw.line(places, colour, round(2 * radius), joint="curve")
    for x, y in places:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def icon(side: int) -> Image.Image:
    """Return the icon without round corners, which the systems that show it cut themselves."""
    large = Image.new("RGB", (side * OVERSAMPLING,) * 2, attribute("fill"))
    digit(ImageDraw.Draw(large), large.width / SIDE, 0, 0, attribute("stroke"))
    return large.resize((side, side), Image.Resampling.LANCZOS)


def preview() -> Image.Image:
    """Return the picture of link previews: a sheet with the digit, and what the page is."""
    width, height = 1200, 630
    large = Image.new("RGB", (width * 4, height * 4), PAPER)
    draw = ImageDraw.Draw(large)
    draw.rounded_rectangle((280, 380, 2040, 2140), 96, SHEET, "#dfd9cd", 8)
    digit(draw, 1760 / SIDE, 280, 380, INK)
    draw.text((2280, 800), "Inkling", INK, ImageFont.load_default(400))
    for line, text in enumerate(("Draw a digit. A small neural", "network reads it while you draw.")):
        draw.text((2290, 1360 + 200 * line), text, SOFT, ImageFont.load_default(136))
    return large.resize((width, height), Image.Resampling.LANCZOS)


def save(image: Image.Image, name: str) -> None:
    image.quantize(32, dither=Image.Dither.NONE).save(STATIC / name, optimize=True)


if __name__ == "__main__":
    for side in (180, 192, 512):
        save(icon(side), f"icon-{side}.png")
    save(preview(), "preview.png")
    icon(48).save(STATIC / "favicon.ico", sizes=[(16, 16), (32, 32), (48, 48)])
