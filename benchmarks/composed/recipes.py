"""Pictures with one fault each whose figures are known from real pictures; varied, they stand for the whole kind."""

from __future__ import annotations

from benchmarks.composed.chance import Chance
from benchmarks.composed.sheet import WHITE, Sheet
from model.data.strokes import Drawing

BLUE, BLACK, GREEN = (35, 45, 150), (38, 36, 40), (25, 95, 85)


def grey(value: float) -> tuple[float, float, float]:
    return value, value, value


def specks(drawing: Drawing, chance: Chance, count: int) -> bytes:
    side = round(chance.near(518))
    sheet = Sheet(side, side, chance.tint((196, 190, 182)))
    sheet.write(drawing, chance.near(215), chance.near(4), chance.tint(BLUE, 30), chance.centre(), chance.angle())
    darker = chance.off(70, 25)
    for _ in range(round(chance.near(count))):
        speck = chance.random.integers(1, 3)
        left, top = chance.random.integers(side - speck, size=2)
        sheet.pixels[top : top + speck, left : left + speck] -= darker
    return sheet.png()


def squared(drawing: Drawing, chance: Chance, darker: float) -> bytes:
    side = round(chance.near(420))
    sheet = Sheet(side, side, grey(chance.off(184, 30)))
    spacing, turn, by = chance.near(128, 0.5), chance.off(1.5, 4), chance.near(darker)
    for degrees in (turn, turn + 90):
        sheet.darken(sheet.rules(spacing, chance.near(4, 0.4), degrees, chance.between(0, spacing)), by)
    sheet.write(drawing, chance.near(190), chance.near(9), chance.tint(BLACK, 25), chance.centre(), chance.angle())
    return sheet.png()


def ruled(drawing: Drawing, chance: Chance, darker: float) -> bytes:
    side = round(chance.near(420))
    sheet = Sheet(side, side, grey(chance.off(225, 20)))
    spacing = chance.near(100, 0.4)
    rules = sheet.rules(spacing, chance.near(3, 0.4), chance.off(90, 4), chance.between(0, spacing))
    sheet.darken(rules, chance.near(darker))
    sheet.write(drawing, chance.near(190), chance.near(9), chance.tint(BLACK, 25), chance.centre(), chance.angle())
    return sheet.png()


def box(drawing: Drawing, chance: Chance) -> bytes:
    side = round(chance.near(114))
    sheet = Sheet(side, side, WHITE)
    edge = chance.near(9, 0.5)
    sheet.outline((edge, edge), (side - edge, side - edge), grey(chance.off(105, 40)), chance.near(3, 0.4))
    size, pencil = chance.near(55) * side / 114, grey(chance.off(110, 25))
    sheet.write(drawing, size, chance.near(4), pencil, chance.centre(), chance.angle(), soft=0.5)
    return sheet.png()


def cell(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(round(chance.near(213, 0.15)), round(chance.near(171, 0.15)), WHITE)
    width, line = chance.near(4, 0.4), grey(chance.off(20, 20))
    for x in (0.07, 0.93):
        place = chance.off(x, 0.04)
        sheet.cover(sheet.segment(sheet.at(place, -0.1), sheet.at(chance.off(place, 0.01), 1.1), width), line)
    for y in (0.08, 0.9):
        place = chance.off(y, 0.04)
        sheet.cover(sheet.segment(sheet.at(-0.1, place), sheet.at(1.1, chance.off(place, 0.01)), width), line)
    size, pencil = min(chance.near(80), 0.52 * sheet.size[1]), grey(chance.off(70, 30))
    sheet.write(drawing, size, chance.near(6), pencil, chance.centre(), chance.angle(), soft=0.7)
    return sheet.png()


def frame(drawing: Drawing, chance: Chance, width: int) -> bytes:
    sheet = Sheet(round(chance.near(280)), round(chance.near(280) if chance.varied else 280), WHITE)
    size = min(chance.near(170), 0.64 * min(sheet.size))
    sheet.write(drawing, size, chance.near(14, 0.4), BLACK, chance.centre(), chance.angle())
    right, bottom = sheet.size
    dark = grey(chance.random.uniform(0, 60) if chance.varied else 0)
    for corner, opposite in (
        ((0, 0), (right, width - 1)),
        ((0, bottom - width), (right, bottom)),
        ((0, 0), (width - 1, bottom)),
        ((right - width, 0), (right, bottom)),
    ):
        sheet.rectangle(corner, opposite, dark)
    return sheet.png()


def strip(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(round(chance.near(280)), round(chance.near(280)) if chance.varied else 280, WHITE)
    size = min(chance.near(170), 0.64 * min(sheet.size))
    sheet.write(drawing, size, chance.near(14, 0.4), BLACK, chance.centre(), chance.angle())
    right, bottom = sheet.size
    width, dark = round(chance.near(8, 0.6)), grey(chance.off(40, 40))
    corner, opposite = chance.one_of(
        ((right - width, 0), (right, bottom)),
        ((0, 0), (width - 1, bottom)),
        ((0, 0), (right, width - 1)),
        ((0, bottom - width), (right, bottom)),
    )
    sheet.rectangle(corner, opposite, dark)
    return sheet.png()


def pasted(drawing: Drawing, chance: Chance, level: float) -> bytes:
    crop = Sheet(round(chance.near(240)), round(chance.near(330)), chance.tint(grey(level), 6))
    size = min(chance.near(170), 0.75 * crop.size[0])
    crop.write(drawing, size, chance.near(8, 0.4), chance.tint(BLACK, 30), chance.centre(), chance.angle(), soft=0.6)
    crop.noise(chance.random, chance.near(3, 0.5))
    side = round(max(470, *crop.size))
    sheet = Sheet(side, side, WHITE)
    left, top = (side - crop.size[0]) // 2, (side - crop.size[1]) // 2
    sheet.pixels[top : top + crop.size[1], left : left + crop.size[0]] = crop.pixels
    return sheet.png()


def underline(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(round(chance.near(140)), round(chance.near(170)), chance.tint((180, 180, 70), 25))
    green, size = chance.tint(GREEN, 20), min(chance.near(115), 0.75 * sheet.size[0], 0.68 * sheet.size[1])
    sheet.write(drawing, size, chance.near(12), green, chance.centre(0.5, 0.45, 0.04), chance.angle(), soft=0.8)
    below = sheet.size[1] - chance.near(13, 0.4)
    start, end = (sheet.at(chance.off(x, 0.1), 0)[0] for x in (0.0, 1.0))
    sheet.cover(sheet.segment((start, below), (end, chance.off(below, 4)), chance.near(5, 0.4)), green)
    sheet.noise(chance.random, chance.near(5, 0.5))
    return sheet.png()


def neighbour(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(round(chance.near(183)), round(chance.near(269)), chance.tint((165, 150, 148)))
    ink, size = chance.tint(BLACK, 25), min(chance.near(150), 0.8 * sheet.size[0])
    sheet.write(drawing, size, chance.near(4, 0.4), ink, chance.centre(0.5, 0.47, 0.04), chance.angle(), soft=0.5)
    (x, y), wide, high = sheet.at(chance.off(0.7, 0.25), 1), chance.near(10, 0.5), chance.near(6, 0.5)
    if chance.one_of(False, True):  # at the left edge
        x, y = 0, sheet.at(0, chance.off(0.6, 0.35))[1]
        sheet.cover(sheet.segment((x, y), (x + wide / 2, y + high), 4), ink)
    else:
        sheet.cover(sheet.segment((x, y), (x + wide, y - high / 2), high), ink)
    return sheet.png()


def screenshot(drawing: Drawing, chance: Chance) -> bytes:
    sheet = Sheet(round(chance.near(204)), round(chance.near(192)), WHITE)
    across, down = sheet.size
    size = min(chance.near(100), 0.6 * down)
    sheet.write(drawing, size, chance.near(8, 0.4), BLACK, chance.centre(0.5, 0.36, 0.04), chance.angle())
    row, button = down - chance.near(46, 0.1), grey(chance.off(200, 25))
    for x in (0.12, 0.6):
        left = across * chance.off(x, 0.05)
        sheet.rectangle((left, row), (left + chance.near(38), row + chance.near(10)), button)
    left, top = across * 0.4, row + 16
    sheet.outline((left, top), (left + across * 0.2, top + 22), grey(160), 1)
    sheet.text(str(2 if not chance.varied else chance.random.integers(10)), 14, BLACK, (left + 6, top + 2))
    return sheet.png()


def shadow(drawing: Drawing, chance: Chance, light: float) -> bytes:
    side = round(chance.near(480))
    sheet = Sheet(side, side, chance.tint((226, 222, 214)))
    sheet.write(drawing, chance.near(230), chance.near(10, 0.4), chance.tint(BLUE, 30), chance.centre(), chance.angle())
    sheet.noise(chance.random, 1.5)
    degrees = chance.one_of(20, *range(0, 360, 15))
    sheet.shadow(degrees, chance.off(light, 0.05), chance.near(8, 0.6), chance.centre(0.45, 0.5, 0.2))
    return sheet.png()


def table(drawing: Drawing, chance: Chance) -> bytes:
    paper = Sheet(420, 420, chance.tint((228, 226, 220)))
    size = chance.near(200)
    paper.write(drawing, size, chance.near(9, 0.4), chance.tint(BLUE, 30), chance.centre(), chance.angle(), soft=0.6)
    wood = Sheet(round(chance.near(560, 0.1)), round(chance.near(600, 0.1)), chance.tint((128, 88, 58), 25))
    wood.pixels += 9 * wood.clouds(chance.random, 40)[..., None]
    wood.light(1 + 0.05 * wood.clouds(chance.random, 6).mean(1, keepdims=True) * 4)
    corners = [(0.14, 0.12), (0.86, 0.13), (0.88, 0.89), (0.12, 0.87)]
    paper.warp([chance.centre(x, y, 0.05) for x, y in corners], wood)
    wood.noise(chance.random, 2)
    wood.blur(0.6)
    return wood.png()


def finger(drawing: Drawing, chance: Chance) -> bytes:
    side = round(chance.near(480))
    sheet = Sheet(side, side, chance.tint((214, 210, 202)))
    sheet.write(drawing, chance.near(210), chance.near(9, 0.4), chance.tint(BLACK, 25), chance.centre(), chance.angle())
    sheet.gradient(chance.off(40, 180), 0.85)
    reach, skin = chance.near(0.3, 0.3) * side, chance.tint((205, 150, 122), 25)
    corner = chance.one_of((1, 1), (0, 1), (0, 0), (1, 0))
    x, y = sheet.at(*corner)
    into = (x + (1 - 2 * corner[0]) * reach * 0.6, y + (1 - 2 * corner[1]) * reach * chance.near(0.6, 0.5))
    tip = sheet.segment((x, y), into, chance.near(0.24) * side)
    shade = Sheet(side, side, grey(0))
    shade.cover(tip, WHITE)
    shade.blur(0.02 * side)
    sheet.light(1 - 0.2 * shade.pixels[..., 0] / 255)
    sheet.cover(tip, skin)
    sheet.noise(chance.random, 2)
    sheet.blur(0.6)
    return sheet.jpeg(92)


def large_photo(drawing: Drawing, chance: Chance, width: int, height: int, quality: int) -> bytes:
    """Compose a photo of a camera's full size, with so much grain that it takes a fifth of a byte a pixel or more."""
    sheet = Sheet(round(chance.near(width)), round(chance.near(height)), chance.tint((178, 176, 160)))
    size = chance.near(0.5) * min(sheet.size)
    sheet.write(drawing, size, size * chance.near(0.1, 0.4), BLACK, chance.centre(), chance.angle(), soft=4)
    sheet.vignette(0.9)
    sheet.pixels += 2 * sheet.clouds(chance.random, 300)[..., None]
    sheet.noise(chance.random, 3, coarse=0.8)
    return sheet.jpeg(quality)
