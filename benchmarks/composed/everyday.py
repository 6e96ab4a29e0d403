"""Pictures that people take every day: other papers, pens, light and cameras."""

from __future__ import annotations

import numpy as np

from benchmarks.composed.chance import Chance
from benchmarks.composed.recipes import BLACK, BLUE, grey
from benchmarks.composed.sheet import Colour, Sheet
from model.data.strokes import Drawing

PENS: tuple[Colour, ...] = (
    BLUE,
    (190, 35, 45),
    (20, 120, 60),
    (120, 40, 130),
    (200, 90, 20),
    (20, 110, 170),
    (215, 45, 120),
    (110, 70, 40),
)
PAPERS: tuple[Colour, ...] = ((236, 234, 228), (214, 210, 202), (198, 196, 198), (244, 240, 222), (206, 214, 222))


def paper(chance: Chance, grain: float = 1.5, width: float = 480, height: float = 480) -> Sheet:
    """Return white paper in some light, about 480 pixels a side."""
    sheet = Sheet(round(chance.near(width)), round(chance.near(height)), chance.tint(chance.one_of(*PAPERS)))
    sheet.pixels += sheet.clouds(chance.random, 90)[..., None]
    sheet.noise(chance.random, grain, coarse=0.7)
    return sheet


def write(sheet: Sheet, drawing: Drawing, chance: Chance, colour: Colour, opacity=1.0, share: float = 0.5) -> None:
    """Write near the middle with a pen a twelfth to a forty-fifth of the drawing wide, a little soft."""
    size = min(sheet.size) * chance.near(share)
    pen, soft = max(size * chance.between(0.022, 0.08), 2.5), chance.between(0.4, 0.9)
    sheet.write(drawing, size, pen, colour, chance.centre(), chance.angle(), opacity, soft)


def white_sheet(drawing: Drawing, chance: Chance) -> bytes:
    """Compose a drawing turned and written as the other kinds are, with nothing around it: what they are to reach."""
    sheet = Sheet(480, 480, (255, 255, 255))
    write(sheet, drawing, chance, BLACK)
    return sheet.png()


def graph_paper(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    spacing, turn = chance.between(14, 60), chance.off(0, 3)
    lines = chance.tint(chance.one_of((150, 190, 225), (240, 170, 130), (165, 205, 150), (200, 175, 215)), 15)
    for degrees in (turn, turn + 90):
        sheet.cover(sheet.rules(spacing, chance.between(1, 2.2), degrees, chance.between(0, spacing)), lines)
        if spacing < 25:  # millimetre paper has a stronger line every five or ten
            sheet.cover(0.5 * sheet.rules(5 * spacing, 2.5, degrees), np.array(lines) * 0.85)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    return sheet.jpeg(92)


def coloured_pen(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    write(sheet, drawing, chance, chance.tint(chance.one_of(*PENS), 20), opacity=chance.between(0.8, 1))
    return sheet.jpeg(92)


def faint_pen(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    uneven = 0.45 + 0.08 * sheet.clouds(chance.random, 25)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLUE, BLACK), 20), opacity=uneven.clip(0.25, 0.8))
    return sheet.jpeg(92)


def pencil(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    grainy = (0.72 + 0.22 * sheet.clouds(chance.random, 1.6)).clip(0.2, 1)
    write(sheet, drawing, chance, grey(chance.between(70, 125)), opacity=grainy)
    return sheet.jpeg(92)


def whiteboard(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(640, round(chance.near(480)), chance.tint((218, 222, 226)))
    x, y = sheet.places()
    wiped = sheet.segment(sheet.at(0.1, 0.7), sheet.at(0.9, chance.between(0.2, 0.9)), sheet.size[1] * 0.3)
    sheet.cover(0.04 * wiped * (1 + sheet.clouds(chance.random, 12)).clip(0, 2), chance.one_of(BLUE, BLACK))
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, *PENS[:3]), 20), opacity=chance.between(0.85, 1))
    lamp = sheet.at(*chance.centre(0.5, 0.2, 0.3))
    glow = np.exp(-((x - lamp[0]) ** 2 + (y - lamp[1]) ** 2) / (2 * (0.3 * sheet.size[0]) ** 2))
    sheet.light(0.86 + 0.14 * glow)
    sheet.noise(chance.random, 1.5)
    return sheet.jpeg(90)


def scan(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(round(chance.near(300)), round(chance.near(300)), grey(chance.between(240, 255)))
    write(sheet, drawing, chance, chance.tint(BLACK, 30))
    sheet.noise(chance.random, chance.between(4, 10))
    dust = chance.random.random(sheet.pixels.shape[:2])
    sheet.pixels[dust < 4e-4] = chance.between(60, 140)
    return sheet.png()


def vignette(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    sheet.vignette(chance.between(0.5, 0.8))
    return sheet.jpeg(92)


def sidelight(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    sheet.gradient(chance.between(0, 360), chance.between(0.45, 0.75))
    return sheet.jpeg(92)


def blocks(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance, width=300, height=300)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    return sheet.jpeg(round(chance.between(8, 30)))


def slight_blur(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance, grain=0)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    sheet.blur(chance.between(1.5, 3.5))
    sheet.noise(chance.random, 2)
    return sheet.jpeg(92)


def slight_perspective(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    sheet.warp([chance.centre(x, y, 0.06) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))])
    return sheet.jpeg(92)


def phone_photo(drawing: Drawing, chance: Chance) -> bytes:
    """Compose a photo that is held any way, with all that a phone adds."""
    sheet = paper(chance, grain=2.5, width=1200, height=1400)
    pen = chance.tint(chance.one_of(BLACK, BLUE, *PENS[1:3]), 20)
    write(sheet, drawing, chance, pen, share=chance.between(0.3, 0.6))
    sheet.warp([chance.centre(x, y, 0.04) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))])
    sheet.gradient(chance.between(0, 360), chance.between(0.7, 0.95))
    sheet.vignette(chance.between(0.8, 0.95))
    sheet.light(1 + 0.02 * sheet.clouds(chance.random, 400))
    sheet.blur(chance.between(0.6, 1.6))
    sheet.noise(chance.random, chance.between(1, 3))
    return sheet.jpeg(round(chance.between(75, 93)), chance.one_of(1, 3, 6, 8))
