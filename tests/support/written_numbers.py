"""Numbers composed of the project's own skeletons."""

import numpy as np

from model.data import hands
from model.data.strokes import rasterize

SYMBOLS = {
    "-": [[(20, 55), (70, 53)]],
    ".": [[(20, 97), (22, 99)]],
    ",": [[(24, 90), (25, 100), (18, 114)]],
    ":": [[(20, 30), (22, 32)], [(20, 84), (22, 86)]],
    "/": [[(5, 112), (85, -12)]],
    "+": [[(15, 52), (75, 52)], [(45, 22), (45, 82)]],
    "=": [[(15, 40), (70, 39)], [(16, 65), (71, 66)]],
}


def strokes_of(sign, hand):
    """The strokes of a digit in a hand, or of a symbol, about 100 high."""
    if sign in SYMBOLS:
        return [np.array(stroke, float) for stroke in SYMBOLS[sign]]
    shape = hand.shapes[int(sign)]
    parts = [hands.glyphs.skeleton(part) for part in shape.split("/")]
    return [part.curve @ part.controls for part in parts]


def written(text, hand=hands.HANDS[0], gap=30.0, height=100.0, at=(40.0, 40.0), slope=0.0, leading=1.8):
    """The strokes of a text of one or more lines: `gap` is between the digits' boxes, in pixels."""
    strokes = []
    for number, line in enumerate(text.split("\n")):
        x = at[0]
        for sign in line:
            parts = [part * height / 100 for part in strokes_of(sign, hand)]
            left = min(part[:, 0].min() for part in parts)
            parts = [part + (x - left, at[1] + number * leading * height + slope * x) for part in parts]
            strokes += parts
            x = max(part[:, 0].max() for part in parts) + gap
    return strokes


def picture_of(strokes, pen=9, side=None):
    """Strokes as dark ink on white, L."""
    low = np.concatenate(strokes).max(0) + 40
    return rasterize(strokes, pen, side or int(low.max()))
