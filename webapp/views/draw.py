"""The drawing page, and predictions for pictures."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Annotated, Any

import numpy as np
from flask import Blueprint, Response, render_template, request
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from model.imaging.decode import MAX_BYTES, MAX_PIXELS, PictureError, PixelBudget
from model.imaging.writing import find_writing
from webapp.exceptions import BadRequest
from webapp.http.json_body import json_object
from webapp.http.messages import Error, RejectWith, Request, SchemaOf, VersionName
from webapp.http.openapi import Operation
from webapp.http.pictures import MAX_BODY_BYTES, SEVEN, Picture, picture_bytes
from webapp.middleware.access_log import annotate_request
from webapp.services import services
from webapp.versions.active import ActiveModel
from webapp.views.readings import Reading, ReadingOfMany, TestAccuracy, exactly, to_answer

# Most pictures of a request. Together they have the pixels of one, which are enough for as many of 280 x 280.
MOST_IMAGES = 256
# Seconds after which no further picture of a request is begun: photos take longer than drawings, and gunicorn ends a
# worker whose request takes 15.
MOST_SECONDS = 6

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
        SchemaOf(Annotated[list[Picture | Any], Field(min_length=1, max_length=MOST_IMAGES)]),
        RejectWith("no_image", 'The "images" must be a list of one picture or more, each a data URL.'),
    ]


@exactly
class Readings(TypedDict):
    """The readings in the order of the pictures, with an error for each picture that cannot be read."""

    version: VersionName
    test_accuracy: TestAccuracy
    readings: list[ReadingOfMany | Error]


@blueprint.get("/")
def page() -> str:
    return render_template("draw/draw.html", page="draw")


@blueprint.get("/how-it-works")
def how_it_works() -> str:
    return render_template("draw/how_it_works.html", page="how it works")


@blueprint.post(ADDRESS)
@Operation(
    "predict",
    {200: Reading | Readings},
    body=OnePicture | ManyPictures,
    errors={400: ["image_and_images"], 413: ["too_many_images"], 503: ["no_version", "database"]},
    limits=f"A picture has at most {MAX_BYTES:,} bytes; one or many together have at most {MAX_PIXELS:,} pixels.",
)
def predict() -> Response:
    """Read a picture, or many.

    A picture among many that cannot be read has an error in its place. Nothing is stored.
    """
    request.max_content_length = MAX_BODY_BYTES
    sent = json_object()
    if "images" in sent:
        return Response(encoded(_read_all(sent)), mimetype="application/json")
    answer, annotations = read_one(OnePicture.model_validate(sent).image, services().active_model)
    annotate_request(**annotations)
    return Response(encoded(answer), mimetype="application/json")


def read_one(data: bytes, active_model: ActiveModel) -> tuple[Reading, dict[str, Any]]:
    """Read a picture file; return the answer and the annotations of the request.

    Raises PictureError, NoChampion or WeightsError.
    """
    image = find_writing(data).digit_image()
    classifier = active_model.classifier()
    reading = classifier.predict_digit_image(image)
    annotations = {"version": classifier.version, "verdict": reading.verdict}
    answer: Reading = {
        **to_answer(reading),
        "version": classifier.version,
        "test_accuracy": classifier.test_accuracy,
    }
    return answer, annotations


def _read_all(sent: dict[str, Any]) -> Readings:
    if "image" in sent:
        raise BadRequest(400, "image_and_images", 'The request must have either "image" or "images".')
    images = ManyPictures.model_validate(sent).images
    if len(images) > MOST_IMAGES:
        message = f"The request has {len(images):,} pictures; at most {MOST_IMAGES} are read at once."
        raise BadRequest(413, "too_many_images", message)
    budget = PixelBudget()
    end = time.monotonic() + MOST_SECONDS
    prepared = [_digit_image_or_error(image, budget, end) for image in images]
    classifier = services().active_model.classifier()
    readings = classifier.predict_digit_images([image for image in prepared if not isinstance(image, dict)])
    annotate_request(version=classifier.version, verdict=Counter(reading.verdict for reading in readings))
    remaining = iter(readings)
    answers = [image if isinstance(image, dict) else to_answer(next(remaining)) for image in prepared]
    return {"version": classifier.version, "test_accuracy": classifier.test_accuracy, "readings": answers}


def _digit_image_or_error(image: Any, budget: PixelBudget, end: float) -> np.ndarray | None | Error:
    """Prepare one of many pictures before the moment `end` of the monotonic clock."""
    if time.monotonic() > end:
        message = f"The pictures before this one took {MOST_SECONDS} seconds; send fewer at once."
        return {"error": {"code": "too_many_images", "message": message}}
    try:
        return find_writing(picture_bytes(image), budget=budget).digit_image()
    except (BadRequest, PictureError) as error:
        return {"error": {"code": error.code, "message": str(error)}}


def encoded(answer: Reading | Readings) -> str:
    """Return an answer as JSON, faster than `jsonify`, and with unsorted members."""
    return encode(answer)
