"""Numbers of several digits in pictures, and in drawings with their strokes."""

from __future__ import annotations

import base64
import io
from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Len
from flask import Blueprint, Response
from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from model.imaging.decode import MAX_BYTES, MAX_PIXELS
from model.imaging.png import ink_png
from model.imaging.writing import Writing, find_writing
from model.inference.decision import Verdict
from model.inference.number import Number, Sign, read_numbers
from webapp.exceptions import BadRequest
from webapp.http.json_body import json_object
from webapp.http.messages import Digit, PngUrl, RejectWith, Request, Share, VersionName
from webapp.http.openapi import Operation
from webapp.http.pictures import SEVEN, Picture
from webapp.middleware.access_log import annotate_request
from webapp.presentation.data_urls import data_url, png_url
from webapp.services import services
from webapp.views.draw import encode
from webapp.views.readings import Ranked, Reading, exactly, to_answer

MOST_STROKES, MOST_POINTS, FARTHEST = 500, 10_000, 100_000
# A point of a stroke has three: "[x,y],".
MOST_DELIMITERS = 3 * MOST_POINTS + 10_000
# Longer side in pixels of the picture in the answer.
SHOWN_SIDE = 640

blueprint = Blueprint("read", __name__)

Coordinate = Annotated[int | float, Field(ge=-FARTHEST, le=FARTHEST)]
Point = Annotated[list[Coordinate], Len(2, 2)]


def _limited(strokes: list[Any] | None) -> list[Any] | None:
    """Refuse more points together than MOST_POINTS."""
    points = sum(map(len, strokes or ()))
    if points > MOST_POINTS:
        message = f"The strokes have {points:,} points; at most {MOST_POINTS:,} are read."
        raise BadRequest(413, "too_many_points", message)
    return strokes


def _ordered(crop: list[float] | None) -> list[float] | None:
    if crop and not (crop[0] < crop[2] and crop[1] < crop[3]):
        raise ValueError
    return crop


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
        AfterValidator(_ordered),
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
    limits=f"A picture has at most {MAX_BYTES:,} bytes and {MAX_PIXELS:,} pixels, the strokes {MOST_POINTS:,} points.",
)
def read() -> Response:
    """Read the numbers in a picture.

    Nothing is stored.
    """
    sent = NumberPicture.model_validate(json_object(MOST_DELIMITERS))
    writing = find_writing(sent.image[1], crop=tuple(sent.crop) if sent.crop else None)  # type: ignore[arg-type]
    classifier = services().active_model.classifier()
    reading = classifier.predict_digit_image(writing.digit_image())
    numbers: list[Number] = []
    if writing.ink is not None:
        numbers = read_numbers(classifier, writing.ink, _in_ink(sent.strokes, writing))
    whole: Reading = {
        **to_answer(reading), "version": classifier.version, "test_accuracy": classifier.test_accuracy,
    }  # fmt: skip
    answer = _answer(numbers, writing, whole)
    verdicts = Counter(digit["verdict"] for digit in answer["digits"])
    annotate_request(version=classifier.version, verdict=verdicts or reading.verdict)
    return Response(encode(answer), mimetype="application/json")


def _in_ink(strokes: list[list[list[float]]] | None, writing: Writing) -> list[np.ndarray]:
    """Return strokes in pixels of the ink, which may be smaller than the picture."""
    assert writing.ink is not None
    scale = np.divide(writing.ink.shape[::-1], writing.size)
    return [np.array(stroke, float) * scale for stroke in strokes or ()]


def _answer(numbers: list[Number], writing: Writing, reading: Reading) -> NumbersRead:
    digits: list[DigitRead] = []
    symbols: list[SymbolRead] = []
    lines: list[LineRead] = []
    sides = () if writing.ink is None else writing.ink.shape[::-1] * 2
    for line, number in enumerate(numbers):
        lines.append({"text": number.text, "box": _shares(number.box, sides), "confidence": number.confidence})
        for sign in number.signs:
            box = _shares(sign.box, sides)
            if sign.prediction is None:
                symbols.append({"symbol": sign.text, "box": box, "line": line})  # type: ignore[typeddict-item]
            else:
                digits.append(_digit(sign, box, line))
    return {
        "text": "\n".join(number.text for number in numbers),
        "confidence": float(np.prod([number.confidence for number in numbers])) if numbers else 0.0,
        "digits": digits,
        "symbols": symbols,
        "lines": lines,
        "reading": reading,
        "picture": _picture(writing),
        "version": reading["version"],
    }


def _digit(sign: Sign, box: list[float], line: int) -> DigitRead:
    prediction = sign.prediction
    assert prediction is not None and prediction.digit_image is not None
    return {
        "digit": prediction.top[0][0],
        "box": box,
        "top": [{"digit": digit, "probability": probability} for digit, probability in prediction.top],
        "verdict": prediction.verdict,
        "line": line,
        "digit_image": png_url(prediction.digit_image),
    }


def _shares(box: tuple[float, ...], sides: tuple[int, ...]) -> list[float]:
    return [round(min(max(at / side, 0.0), 1.0), 5) for at, side in zip(box, sides, strict=True)]


def _picture(writing: Writing) -> PictureRead | None:
    if writing.picture is None:
        return None
    shown = writing.picture.convert("RGB")
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    jpeg = io.BytesIO()
    shown.save(jpeg, "JPEG", quality=80)
    ink = None if writing.ink is None else data_url(ink_png((writing.ink * 255).round().astype(np.uint8)))
    return {
        "image": "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode(),
        "ink": ink,
        "box": None if writing.box is None else list(map(float, writing.box)),
    }
