"""Hand-like strokes, as points between 0 and 1 across the canvas, and how to draw them.

The ten digits in their plainest form, digits in other hands, and what is no digit.
"""

import math

from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By

STEP_MILLISECONDS = 8


def arc(x, y, rx, ry, start, end, points=14):
    """Points on an ellipse from one angle to another, in degrees clockwise from three o'clock."""
    angles = [math.radians(start + (end - start) * i / (points - 1)) for i in range(points)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


DIGITS = {
    0: [arc(0.5, 0.5, 0.2, 0.3, -100, 262, 20)],
    1: [[(0.52, 0.2), (0.51, 0.4), (0.5, 0.6), (0.49, 0.8)]],
    2: [[*arc(0.5, 0.36, 0.18, 0.16, -170, 40), (0.45, 0.65), (0.31, 0.79), (0.5, 0.78), (0.71, 0.79)]],
    3: [[*arc(0.48, 0.34, 0.17, 0.14, -150, 80), *arc(0.48, 0.64, 0.2, 0.16, -80, 150)]],
    4: [[(0.4, 0.2), (0.35, 0.38), (0.3, 0.55), (0.5, 0.55), (0.72, 0.54)], [(0.6, 0.2), (0.59, 0.5), (0.58, 0.82)]],
    5: [[(0.38, 0.2), (0.36, 0.33), (0.34, 0.46), *arc(0.47, 0.61, 0.2, 0.18, -115, 140)], [(0.38, 0.2), (0.68, 0.19)]],
    6: [[(0.6, 0.18), (0.47, 0.3), (0.37, 0.47), *arc(0.5, 0.65, 0.16, 0.15, 180, -180, 18)]],
    7: [[(0.3, 0.22), (0.5, 0.21), (0.7, 0.22), (0.6, 0.42), (0.51, 0.62), (0.45, 0.82)]],
    8: [[*arc(0.5, 0.35, 0.14, 0.14, 60, -240, 16), *arc(0.5, 0.65, 0.17, 0.16, -110, 250, 18)]],
    9: [[*arc(0.48, 0.36, 0.16, 0.15, 0, -350, 18), (0.64, 0.38), (0.62, 0.6), (0.58, 0.82)]],
}

OTHER_HANDS = {
    "a slashed zero": (0, [arc(0.5, 0.5, 0.2, 0.3, -100, 262, 20), [(0.66, 0.24), (0.5, 0.5), (0.34, 0.76)]]),
    "a crossed seven": (7, [*DIGITS[7], [(0.4, 0.52), (0.53, 0.51), (0.66, 0.52)]]),
    "a one with flag and foot": (
        1,
        [
            [(0.36, 0.36), (0.45, 0.28), (0.54, 0.18), (0.53, 0.5), (0.52, 0.8)],
            [(0.37, 0.81), (0.52, 0.8), (0.67, 0.81)],
        ],
    ),
    "an open four": (
        4,
        [
            [(0.33, 0.2), (0.32, 0.38), (0.33, 0.52), (0.5, 0.53), (0.66, 0.5)],
            [(0.66, 0.2), (0.65, 0.5), (0.64, 0.8)],
        ],
    ),
}
"""Name -> the digit meant and its strokes."""

NO_DIGITS = {
    "letter A": [[(0.28, 0.8), (0.39, 0.5), (0.5, 0.2), (0.61, 0.5), (0.72, 0.8)], [(0.37, 0.58), (0.63, 0.58)]],
    "letter e": [[(0.31, 0.52), (0.5, 0.53), (0.69, 0.5), *arc(0.5, 0.5, 0.19, 0.22, -5, -320, 18)]],
    "scribble": [[(0.5 + 0.3 * math.sin(0.5 * i), 0.5 + 0.28 * math.cos(0.37 * i)) for i in range(70)]],
    "dot": [[(0.5, 0.5)]],
    "dash": [[(0.3, 0.51), (0.5, 0.5), (0.7, 0.51)]],
    "two digits": [
        [(0.26 + (x - 0.5) * 0.7, y) for x, y in DIGITS[3][0]],
        [(0.74 + (x - 0.5) * 0.7, y) for x, y in DIGITS[7][0]],
    ],
}


def draw(driver, strokes, kind="mouse"):
    """Draws strokes on the page's canvas with a pointer of a kind (mouse, pen or touch)."""
    canvas = driver.find_element(By.ID, "canvas")
    box = canvas.rect
    pointer = PointerInput(kind, kind)
    actions = ActionBuilder(driver, mouse=pointer, duration=STEP_MILLISECONDS)
    for stroke in strokes:
        # offsets are counted from the middle of the element
        places = [(round((x - 0.5) * box["width"]), round((y - 0.5) * box["height"])) for x, y in stroke]
        actions.pointer_action.move_to(canvas, *places[0])
        actions.pointer_action.pointer_down()
        for place in places[1:]:
            actions.pointer_action.move_to(canvas, *place)
        actions.pointer_action.pointer_up()
    actions.perform()
