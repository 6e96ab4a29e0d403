"""Numbers of several digits in pictures, and in drawings with their strokes."""

from __future__ import annotations

import base64
import io
import itertools
from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Len
from flask import Blueprint, Response, request
from PIL import Image
from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from model.imaging.decode import MAX_BYTES, MAX_PIXELS
from model.imaging.png import data_url, ink_png
from model.imaging.writing import Fractions, Writing, find_writing
from model.inference.decision import Verdict
from model.inference.number import Number, read_numbers
from model.inference.number_json import as_dict
from webapp.exceptions import BadRequest
from webapp.http.json_body import json_object
from webapp.http.messages import Digit, PngUrl, RejectWith, Request, Share, VersionName
from webapp.http.openapi import Operation
from webapp.http.pictures import MAX_BODY_BYTES, SEVEN, Picture
from webapp.middleware.access_log import annotate_request
from webapp.services import services
from webapp.views.draw import encode
from webapp.views.readings import Ranked, Reading, exactly, to_answer

MOST_STROKES, MOST_POINTS, FARTHEST = 500, 10_000, 100_000
# A point of a stroke has three: "[x,y],".
MOST_DELIMITERS = 3 * MOST_POINTS + 10_000
# Longer side in pixels of the picture in the answer.
SHOWN_SIDE = 640

blueprint = Blueprint("read", __name__)

Coordinate = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Point = Annotated[list[Coordinate], Len(2, 2)]


def _limited(strokes: list[Any] | None) -> list[Any] | None:
    """Refuse more points together than MOST_POINTS."""
    points = sum(map(len, strokes or ()))
    if points > MOST_POINTS:
        message = f"The strokes have {points:,} points; at most {MOST_POINTS:,} are read."
        raise BadRequest(413, "too_many_points", message)
    return strokes


def _ordered(crop: list[float] | None) -> Fractions | None:
    """Return a rectangle whose corners may have been named in any order."""
    if crop is None:
        return None
    (left, right), (top, bottom) = sorted(crop[::2]), sorted(crop[1::2])
    return left, top, right, bottom


class NumberPicture(Request):
    """A picture with one or more numbers."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SEVEN, "strokes": [[[4, 5], [23, 5], [12, 24]]]}]}
    )

    image: Picture
    strokes: Annotated[
        Annotated[list[Annotated[list[Point], Len(1)]], Len(1, MOST_STROKES)] | None,
        AfterValidator(_limited),
        RejectWith(
            "bad_strokes",
            f'The "strokes" must be a list of 1 to {MOST_STROKES} strokes, each a list of points [x, y] '
            f"in pixels of the picture.",
        ),
        Field(description="The strokes of a drawing, each a list of points [x, y] in pixels of the picture."),
    ] = None
    crop: Annotated[
        Annotated[list[Share], Len(4, 4)] | None,
        RejectWith("bad_crop", 'The "crop" must be left, top, right and bottom as fractions of the picture, 0 to 1.'),
        Field(description="The part to read: left, top, right and bottom, 0 to 1, of the upright picture."),
    ] = None


BoxShares = Annotated[
    list[Share], Len(4, 4), Field(description="Left, top, right and bottom, 0 to 1, of the upright picture.")
]


@exactly
class DigitRead(TypedDict):
    digit: Digit
    box: BoxShares
    top: list[Ranked]
    verdict: Verdict
    line: int
    digit_image: PngUrl


@exactly
class SymbolRead(TypedDict):
    symbol: Literal["-", ".", ",", "/", ":", "+", "="]
    box: BoxShares
    line: int


@exactly
class LineRead(TypedDict):
    text: str
    box: BoxShares
    confidence: Share


@exactly
class PictureRead(TypedDict):
    """How a picture that is no drawing of the page was read: upright, and its ink."""

    image: Annotated[str, Field(pattern="^data:image/jpeg;base64,")]
    ink: PngUrl | None
    box: BoxShares | None


@exactly
class NumbersRead(TypedDict):
    """The numbers in a picture, a line each; `?` stands for what is no digit. `reading` is the whole as one digit."""

    text: str
    confidence: Share
    digits: list[DigitRead]
    symbols: list[SymbolRead]
    lines: list[LineRead]
    reading: Reading
    picture: PictureRead | None
    version: VersionName


@blueprint.post("/read")
@Operation(
    "read",
    {200: NumbersRead},
    body=NumberPicture,
    errors={413: ["too_many_points"], 503: ["no_version", "database"]},
    limits=f"A picture has at most {MAX_BYTES:,} bytes and {MAX_PIXELS:,} pixels, its strokes {MOST_POINTS:,} points.",
)
def read() -> Response:
    """Read the numbers in a picture.

    Nothing is stored.
    """
    request.max_content_length = MAX_BODY_BYTES
    sent = NumberPicture.model_validate(json_object(MOST_DELIMITERS))
    crop = _ordered(sent.crop)
    writing = find_writing(sent.image, crop=crop)
    classifier = services().active_model.classifier()
    reading = classifier.predict_digit_image(writing.digit_image())
    numbers: list[Number] = []
    if writing.ink is not None:
        numbers = read_numbers(classifier, writing.ink, _in_ink(sent.strokes, crop, writing))
    whole: Reading = {
        **to_answer(reading), "version": classifier.version, "test_accuracy": classifier.test_accuracy,
    }  # fmt: skip
    size = (1, 1) if writing.ink is None else writing.ink.shape[::-1]
    answer = as_dict(numbers, size) | {
        "reading": whole, "picture": _picture(writing), "version": classifier.version,
    }  # fmt: skip
    verdicts = Counter(digit["verdict"] for digit in answer["digits"])
    annotate_request(version=classifier.version, verdict=verdicts or reading.verdict)
    return Response(encode(answer), mimetype="application/json")


def _in_ink(sent: list[list[list[float]]] | None, crop: Fractions | None, writing: Writing) -> list[np.ndarray]:
    """Return the strokes inside the crop in pixels of the ink, which may be smaller than the picture."""
    assert writing.ink is not None
    strokes = [np.array(stroke, float) / writing.size for stroke in sent or ()]
    if crop:
        centres = [(stroke.min(0) + stroke.max(0)) / 2 for stroke in strokes]
        inside = [bool((crop[:2] <= centre).all() and (centre <= crop[2:]).all()) for centre in centres]
        strokes = list(itertools.compress(strokes, inside))
    return [stroke * writing.ink.shape[::-1] for stroke in strokes]


def _picture(writing: Writing) -> PictureRead | None:
    if writing.picture is None:
        return None
    shown = writing.picture.convert("RGB")
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    jpeg = io.BytesIO()
    shown.save(jpeg, "JPEG", quality=80)
    return {
        "image": "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode(),
        "ink": None if writing.ink is None else data_url(_shown_ink(writing.ink)),
        "box": None if writing.box is None else list(map(float, writing.box)),
    }


def _shown_ink(ink: np.ndarray) -> bytes:
    shown = Image.fromarray((ink * 255).round().astype(np.uint8))
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return ink_png(np.asarray(shown))
