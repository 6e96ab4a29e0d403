"""The kinds of composed pictures: recipes as written and varied, everyday pictures, harsh ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from benchmarks.composed import everyday, harsh, recipes
from benchmarks.composed.chance import Chance
from model.data.strokes import Drawing

Group = Literal["recipes", "everyday", "harsh"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Kind:
    """A kind of picture; `compose` returns the bytes of its file. A recipe is composed exactly as written."""

    name: str
    group: Group
    compose: Callable[[Drawing, Chance], bytes]


def _recipe(name: str, varied: Group, compose: Callable[..., bytes], **figures: float) -> tuple[Kind, Kind]:
    """Return a recipe as written, and varied as a kind of a group."""
    composed = partial(compose, **figures)
    return Kind(name, "recipes", composed), Kind(f"{name}, varied", varied, composed)


KINDS: tuple[Kind, ...] = (
    *_recipe("5 specks", "everyday", recipes.specks, count=5),
    *_recipe("25 specks", "everyday", recipes.specks, count=25),
    *_recipe("squared paper, lines 45 darker", "everyday", recipes.squared, darker=45),
    *_recipe("squared paper, lines 75 darker", "everyday", recipes.squared, darker=75),
    *_recipe("ruled paper, lines 60 darker", "everyday", recipes.ruled, darker=60),
    *_recipe("ruled paper, lines 90 darker", "everyday", recipes.ruled, darker=90),
    *_recipe("box of a form", "everyday", recipes.box),
    *_recipe("table cell", "everyday", recipes.cell),
    *_recipe("black frame of 1 px", "everyday", recipes.frame, width=1),
    *_recipe("black frame of 2 px", "everyday", recipes.frame, width=2),
    *_recipe("black frame of 3 px", "everyday", recipes.frame, width=3),
    *_recipe("black frame of 6 px", "everyday", recipes.frame, width=6),
    *_recipe("dark strip along an edge", "everyday", recipes.strip),
    *_recipe("crop of grey 229 on white", "everyday", recipes.pasted, level=229),
    *_recipe("crop of grey 210 on white", "everyday", recipes.pasted, level=210),
    *_recipe("crop of grey 195 on white", "everyday", recipes.pasted, level=195),
    *_recipe("underline", "everyday", recipes.underline),
    *_recipe("neighbour's stroke", "everyday", recipes.neighbour),
    *_recipe("drawing program's screenshot", "everyday", recipes.screenshot),
    *_recipe("hard shadow to 60 %", "harsh", recipes.shadow, light=0.6),
    *_recipe("hard shadow to 50 %", "harsh", recipes.shadow, light=0.5),
    *_recipe("sheet on a brown table", "harsh", recipes.table),
    *_recipe("finger in a corner", "harsh", recipes.finger),
    *_recipe("JPEG of 2041 x 2041", "everyday", recipes.large_photo, width=2041, height=2041, quality=94),
    _recipe("JPEG of 3024 x 4032", "everyday", recipes.large_photo, width=3024, height=4032, quality=95)[0],
    Kind("white sheet", "everyday", everyday.white_sheet),
    Kind("coloured graph paper", "everyday", everyday.graph_paper),
    Kind("coloured pen", "everyday", everyday.coloured_pen),
    Kind("faint pen", "everyday", everyday.faint_pen),
    Kind("pencil", "everyday", everyday.pencil),
    Kind("whiteboard", "everyday", everyday.whiteboard),
    Kind("noisy scan", "everyday", everyday.scan),
    Kind("vignette", "everyday", everyday.vignette),
    Kind("light from one side", "everyday", everyday.sidelight),
    Kind("JPEG blocks", "everyday", everyday.blocks),
    Kind("slight blur", "everyday", everyday.slight_blur),
    Kind("slight perspective", "everyday", everyday.slight_perspective),
    Kind("phone photo of white paper", "everyday", everyday.phone_photo),
    Kind("blackboard", "harsh", harsh.blackboard),
    Kind("wrinkles", "harsh", harsh.wrinkles),
    Kind("print that shows through", "harsh", harsh.see_through),
    Kind("strong perspective", "harsh", harsh.strong_perspective),
    Kind("strong blur", "harsh", harsh.strong_blur),
    Kind("low contrast", "harsh", harsh.low_contrast),
)
