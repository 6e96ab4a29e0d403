"""Pictures that are hard to read: other grounds, wrinkles, print, strong perspective and blur."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.composed.chance import Chance
from benchmarks.composed.everyday import paper, write
from benchmarks.composed.recipes import BLACK, BLUE, grey
from benchmarks.composed.sheet import Sheet, blurred
from model.data.strokes import Drawing

WORDS = "the of and to in is that it was for on are as with his they be at one have this from or had by hot word but"


def blackboard(drawing: Drawing, chance: Chance) -> bytes:
    colour = chance.tint(chance.one_of((42, 66, 54), (48, 50, 52), (36, 56, 62)), 12)
    sheet = Sheet(640, round(chance.near(480)), colour)
    smear = np.clip(sheet.clouds(chance.random, 70) + 0.5 * sheet.clouds(chance.random, 9), 0, 3)
    sheet.cover(chance.between(0.03, 0.1) * smear, (215, 215, 210))
    chalk = (0.8 + 0.25 * sheet.clouds(chance.random, 2.2)).clip(0.15, 1)
    size = min(sheet.size) * chance.near(0.5)
    pen = size * chance.between(0.04, 0.08)
    white = chance.tint(chance.one_of((232, 232, 226), (236, 226, 150)), 10)
    sheet.write(drawing, size, pen, white, chance.centre(), chance.angle(), chalk, soft=1)
    sheet.gradient(chance.between(0, 360), 0.75)
    sheet.noise(chance.random, 3)
    return sheet.jpeg(90)


def wrinkles(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance, width=600, height=600)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    shading = np.ones(sheet.pixels.shape[:2], np.float32)
    wander = 14 * sheet.clouds(chance.random, 110)
    for _ in range(chance.random.integers(4, 9)):
        degrees, through = chance.between(0, 360), tuple(chance.random.uniform(0, 1, 2))
        distance = sheet.along(degrees, through) + wander
        width = chance.between(2, 6)
        ridge = distance / width * np.exp(0.5 - (distance / width) ** 2 / 2)
        reach = np.exp(-((sheet.along(degrees + 90, through) / (sheet.size[0] * chance.between(0.2, 0.7))) ** 2))
        shading += reach * (chance.between(0.05, 0.14) * ridge + chance.off(0, 0.05) * np.tanh(distance / 30))
    sheet.light(shading)
    return sheet.jpeg(92)


def see_through(drawing: Drawing, chance: Chance) -> bytes:
    """Compose writing on paper whose other side is printed: the print shows mirrored, faint and soft."""
    sheet, size = paper(chance), chance.between(18, 34)
    behind, line = Sheet(*sheet.size, grey(0)), chance.between(1.2, 1.6) * size
    words = WORDS.split()
    for row in range(math.ceil(sheet.size[1] / line)):
        text = " ".join(chance.random.permutation(words)[:14])
        behind.text(text, size, grey(255), (-chance.between(0, 40), row * line))
    print_ = blurred(behind.pixels[:, ::-1, 0] / 255, chance.between(0.8, 2))
    sheet.darken(print_, chance.between(18, 40))
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    return sheet.jpeg(92)


def strong_perspective(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance, width=640, height=640)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    far = chance.between(0.18, 0.3)
    sheet.gradient(-90, 0.85)
    sheet.warp([(far, chance.between(0.1, 0.3)), (1 - far, chance.between(0.1, 0.3)), (1.1, 1), (-0.1, 1)])
    return sheet.jpeg(92)


def strong_blur(drawing: Drawing, chance: Chance) -> bytes:
    sheet = paper(chance, grain=0)
    write(sheet, drawing, chance, chance.tint(chance.one_of(BLACK, BLUE), 20))
    sheet.blur(min(sheet.size) * chance.between(0.011, 0.02))
    sheet.noise(chance.random, 2)
    return sheet.jpeg(90)


def low_contrast(drawing: Drawing, chance: Chance) -> bytes:
    """Compose writing 25 to 50 greys darker than its paper."""
    sheet = paper(chance, grain=1)
    ink = np.mean(sheet.pixels, (0, 1)) - chance.between(25, 50)
    write(sheet, drawing, chance, ink.tolist())
    sheet.gradient(chance.between(0, 360), 0.9)
    return sheet.jpeg(92)
