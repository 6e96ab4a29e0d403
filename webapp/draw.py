"""The page to draw on, and the reading of what was drawn."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from typing import Any

import numpy as np
from flask import Blueprint, Response, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge

from model.ink import grey_png
from model.picture import MAX_BYTES, PictureError, PictureTooLarge, PixelBudget, digit_image_in
from model.recognizer import Reading
from webapp.edge import note
from webapp.exceptions import BadRequest
from webapp.live import Live
from webapp.services import services

# A picture of the greatest size in base64, and room for the JSON around it.
MAX_BODY_BYTES = MAX_BYTES * 4 // 3 + 4096
# Many pictures at once: as many of the page's as MOST_IMAGES take a quarter of the bytes. The pixels are those of
# as many sheets of 280 x 280.
MOST_IMAGES = 256
MOST_BATCH_BYTES = 4 << 20
MOST_BATCH_PIXELS = MOST_IMAGES * 280 * 280
# Of commas and brackets in a body: what is packed full of tiny values takes a second to parse.
MOST_MARKS = 10_000
DATA_URL = re.compile(r"data:image/(png|jpeg|webp|x-portable-graymap);base64,", re.ASCII)
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "x-portable-graymap": "PGM"}

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
    answer = as_json(reading) | {"version": recognizer.version}
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
    answers = [_described(image) if isinstance(image, Exception) else as_json(next(found)) for image in seen]
    return {"version": recognizer.version, "readings": answers}


def _described(error: BadRequest | PictureError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": str(error)}}


def _digit_image_or_error(image: Any, budget: PixelBudget) -> np.ndarray | None | BadRequest | PictureError:
    try:
        image_type, data = picture_bytes(image)
        return digit_image_in(data, (image_type,), budget)
    except (BadRequest, PictureError) as error:
        return error


def json_object() -> dict[str, Any]:
    """The request's body as a JSON object; raises BadRequest with the reason where it is none."""
    if request.mimetype != "application/json":
        raise BadRequest(415, "not_json", "The request must be JSON (Content-Type: application/json).")
    body = request.get_data()
    if sum(map(body.count, b",[{")) > MOST_MARKS:
        raise BadRequest(400, "not_json", "The request has far more JSON values than anything here asks for.")
    try:
        value = json.loads(body, object_pairs_hook=_object, parse_float=_float, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, "not_json", "The request is not valid JSON.") from error
    if not isinstance(value, dict):
        raise BadRequest(400, "not_an_object", "The request must be a JSON object.")
    return value


def json_response(value: Any) -> Response:
    return Response(encode(value), mimetype="application/json")


def picture_bytes(image: Any) -> tuple[str, bytes]:
    """The declared format's name in `open_picture`, and the decoded bytes of a data URL; raises BadRequest."""
    if not isinstance(image, str):
        raise BadRequest(400, "no_image", 'The request must have an "image": a data URL with a picture.')
    prefix = DATA_URL.match(image)
    if prefix is None:
        told = 'The "image" must begin with data:image/png;base64, (or jpeg, webp or x-portable-graymap).'
        raise BadRequest(400, "not_a_data_url", told)
    if len(image) - prefix.end() > -(-MAX_BYTES // 3) * 4:
        raise PictureTooLarge(f"The picture has more than {MAX_BYTES:,} bytes.")
    try:
        data = binascii.a2b_base64(image[prefix.end() :], strict_mode=True)
    except ValueError as error:
        raise BadRequest(400, "not_base64", 'The "image" is not valid base64.') from error
    return FORMATS[prefix[1]], data


def as_json(reading: Reading) -> dict[str, Any]:
    return {
        "verdict": reading.verdict,
        "digits": reading.digits,
        "reason": reading.reason,
        "top": [{"digit": digit, "probability": probability} for digit, probability in reading.top],
        "probabilities": reading.probabilities,
        "not_a_digit": reading.not_a_digit,
        "coverage": reading.coverage,
        "digit_image": None if reading.digit_image is None else png_url(reading.digit_image),
    }


def png_url(image: np.ndarray) -> str:
    """A grey image, uint8 (H, W), as a data URL."""
    return data_url(grey_png(image))


def data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _float(text: str) -> int | float:
    """A number with a point; 7.0 is a whole one, as JSON's own schemas have it."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
