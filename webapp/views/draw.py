"""The page to draw on, and the reading of what was drawn."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

import numpy as np
from flask import Blueprint, Response, render_template, request
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict
from werkzeug.exceptions import RequestEntityTooLarge

from model.imaging.decode import MAX_BYTES, MAX_PIXELS, PictureError, PixelBudget, open_picture
from model.imaging.normalise import digit_image
from webapp.exceptions import BadRequest
from webapp.http.data_urls import MAX_BODY_BYTES, SEVEN, Picture, picture_bytes
from webapp.http.json_body import json_object
from webapp.http.messages import DescribedAs, Error, Otherwise, Request, VersionName
from webapp.http.openapi import Operation
from webapp.middleware.access_log import note
from webapp.services import services
from webapp.versions.active import Live
from webapp.views.readings import Reading, ReadingOfMany, exactly, to_answer

# Many pictures at once: as many of the page's as MOST_IMAGES take a quarter of the bytes. The pixels are those of
# as many sheets of 280 x 280.
MOST_IMAGES = 256
MOST_BATCH_BYTES = 4 << 20
MOST_BATCH_PIXELS = MOST_IMAGES * 280 * 280

ADDRESS = "/predict"

blueprint = Blueprint("draw", __name__)
encode = json.JSONEncoder(separators=(",", ":")).encode


class OnePicture(Request):
    model_config = ConfigDict(
        json_schema_extra={"not": {"required": ["images"]}, "examples": [{"image": SEVEN}]},
    )

    image: Picture


class ManyPictures(Request):
    model_config = ConfigDict(
        json_schema_extra={"not": {"required": ["image"]}, "examples": [{"images": [SEVEN, SEVEN]}]},
    )

    images: Annotated[
        list[Any],
        Field(min_length=1),
        DescribedAs(Annotated[list[Picture | Any], Field(min_length=1, max_length=MOST_IMAGES)]),
        Otherwise("no_image", 'The "images" must be a list of one picture or more, each a data URL.'),
    ]


@exactly
class Readings(TypedDict):
    """All readings, in the order of the pictures; in place of a picture's that cannot be read, its error."""

    version: VersionName
    readings: list[ReadingOfMany | Error]


@blueprint.get("/")
def page() -> str:
    return render_template("draw.html", page="draw")


@blueprint.post(ADDRESS)
@Operation(
    "predict",
    {200: Reading | Readings},
    takes=OnePicture | ManyPictures,
    refuses={400: ["image_and_images"], 413: ["too_many_images"], 503: ["no_version", "database"]},
    limits=f"A picture has at most {MAX_BYTES:,} bytes and {MAX_PIXELS:,} pixels, "
    f"a request of many {MOST_BATCH_BYTES:,} bytes.",
)
def predict() -> Response:
    """Read a picture, or many.

    Each of many is answered by itself, with its own error where it cannot be read. Nothing is kept.
    """
    request.max_content_length = MOST_BATCH_BYTES
    sent = json_object()
    if "images" in sent:
        return Response(encoded(_read_all(sent)), mimetype="application/json")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    answer, told = read_one(*OnePicture.model_validate(sent).image, services().live)
    note(**told)
    return Response(encoded(answer), mimetype="application/json")


def read_one(image_type: str, data: bytes, live: Live) -> tuple[Reading, dict[str, Any]]:
    """Read a picture of this type; return the answer, and what the log and the counters are told of it."""
    image = digit_image(open_picture(data, (image_type,)))
    recognizer = live.recognizer()
    reading = recognizer.predict_digit_image(image)
    told = {"version": recognizer.version, "verdict": reading.verdict}
    return {**to_answer(reading), "version": recognizer.version}, told


def _read_all(sent: dict[str, Any]) -> Readings:
    if "image" in sent:
        raise BadRequest(400, "image_and_images", 'The request must have either "image" or "images".')
    images = ManyPictures.model_validate(sent).images
    if len(images) > MOST_IMAGES:
        told = f"The request has {len(images):,} pictures; at most {MOST_IMAGES} are read at once."
        raise BadRequest(413, "too_many_images", told)
    budget = PixelBudget(MOST_BATCH_PIXELS)
    seen = [_digit_image_or_error(image, budget) for image in images]
    recognizer = services().live.recognizer()
    readings = recognizer.predict_digit_images([image for image in seen if not isinstance(image, dict)])
    note(version=recognizer.version, verdict=Counter(reading.verdict for reading in readings))
    found = iter(readings)
    answers = [image if isinstance(image, dict) else to_answer(next(found)) for image in seen]
    return {"version": recognizer.version, "readings": answers}


def _digit_image_or_error(image: Any, budget: PixelBudget) -> np.ndarray | None | Error:
    try:
        image_type, data = picture_bytes(image)
        return digit_image(open_picture(data, (image_type,), budget))
    except (BadRequest, PictureError) as error:
        return {"error": {"code": error.code, "message": str(error)}}


def encoded(answer: Reading | Readings) -> str:
    """An answer as JSON, without sorting the members and without asking Flask's provider, which takes its time."""
    return encode(answer)
