"""The page to draw on, and the reading of what was drawn."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
from flask import Blueprint, Response, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge

from model.picture import PictureError, PixelBudget, digit_image_in
from webapp.data_urls import MAX_BODY_BYTES, picture_bytes
from webapp.edge import note
from webapp.exceptions import BadRequest
from webapp.json_body import json_object
from webapp.live import Live
from webapp.reading_json import reading_as_json
from webapp.services import services

# Many pictures at once: as many of the page's as MOST_IMAGES take a quarter of the bytes. The pixels are those of
# as many sheets of 280 x 280.
MOST_IMAGES = 256
MOST_BATCH_BYTES = 4 << 20
MOST_BATCH_PIXELS = MOST_IMAGES * 280 * 280

ADDRESS = "/predict"

blueprint = Blueprint("draw", __name__)
encode = json.JSONEncoder(separators=(",", ":")).encode


@blueprint.get("/")
def page() -> str:
    return render_template("draw.html", page="draw")


@blueprint.post(ADDRESS)
def predict() -> Response:
    """Reads the picture in `{"image": "data:image/png;base64,..."}`, or all of `{"images": [...]}`.

    The README describes the answers.
    """
    request.max_content_length = MOST_BATCH_BYTES
    body = json_object()
    if "images" in body:
        return json_response(_batch(body))
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    answer, told = read_one(*picture_bytes(body.get("image")), services().live)
    note(**told)
    return json_response(answer)


def read_one(image_type: str, data: bytes, live: Live) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer to a picture, and what the log tells of it; raises what `digit_image_in` and `Live` raise."""
    image = digit_image_in(data, (image_type,))
    recognizer = live.recognizer()
    reading = recognizer.read(image)
    answer = reading_as_json(reading) | {"version": recognizer.version}
    return answer, {"version": recognizer.version, "verdict": reading.verdict}


def _batch(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to `{"images": [...]}`: a reading for each, in order; a picture that cannot be read has its error."""
    images = body["images"]
    if "image" in body:
        raise BadRequest(400, "image_and_images", 'The request must have either "image" or "images".')
    if not isinstance(images, list) or not images:
        raise BadRequest(400, "no_image", 'The "images" must be a list of one picture or more, each a data URL.')
    if len(images) > MOST_IMAGES:
        told = f"The request has {len(images):,} pictures; at most {MOST_IMAGES} are read at once."
        raise BadRequest(413, "too_many_images", told)
    budget = PixelBudget(MOST_BATCH_PIXELS)
    seen = [_digit_image_or_error(image, budget) for image in images]
    recognizer = services().live.recognizer()
    readings = recognizer.read_all([image for image in seen if not isinstance(image, Exception)])
    note(version=recognizer.version, verdict=Counter(reading.verdict for reading in readings))
    found = iter(readings)
    answers = [_described(image) if isinstance(image, Exception) else reading_as_json(next(found)) for image in seen]
    return {"version": recognizer.version, "readings": answers}


def _described(error: BadRequest | PictureError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": str(error)}}


def _digit_image_or_error(image: Any, budget: PixelBudget) -> np.ndarray | None | BadRequest | PictureError:
    try:
        image_type, data = picture_bytes(image)
        return digit_image_in(data, (image_type,), budget)
    except (BadRequest, PictureError) as error:
        return error


def json_response(value: Any) -> Response:
    return Response(encode(value), mimetype="application/json")
