"""The page to draw on, and the reading of what was drawn."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request
from PIL import Image

from model.picture import MAX_BYTES, PictureTooLarge, open_picture
from model.recognizer import Reading
from webapp.errors import BadRequest
from webapp.services import services

# A picture of the greatest size in base64, and room for the JSON around it.
MAX_BODY_BYTES = MAX_BYTES * 4 // 3 + 4096
DATA_URL = re.compile(r"data:image/(png|jpeg|webp);base64,", re.ASCII)

blueprint = Blueprint("draw", __name__)


@blueprint.get("/")
def page() -> str:
    return render_template("draw.html", page="draw")


@blueprint.post("/predict")
def predict() -> Response:
    """Reads the picture in `{"image": "data:image/png;base64,..."}`; the README describes the answer."""
    image_type, data = picture_bytes(json_object().get("image"))
    picture = open_picture(data, formats=(image_type,))
    recognizer = services().live.recognizer()
    return jsonify(as_json(recognizer.recognize(picture), recognizer.version))


def json_object() -> dict[str, Any]:
    """The body as a JSON object; raises BadRequest with the reason where it is none."""
    if request.mimetype != "application/json":
        raise BadRequest(415, "not_json", "The request must be JSON (Content-Type: application/json).")
    try:
        value = json.loads(request.get_data(), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, "not_json", "The request is not valid JSON.") from error
    if not isinstance(value, dict):
        raise BadRequest(400, "not_an_object", "The request must be a JSON object.")
    return value


def picture_bytes(image: Any) -> tuple[str, bytes]:
    """Pillow's name of the declared format and the decoded bytes of a data URL; raises BadRequest."""
    if not isinstance(image, str):
        raise BadRequest(400, "no_image", 'The request must have an "image": a data URL with a picture.')
    prefix = DATA_URL.match(image)
    if prefix is None:
        raise BadRequest(
            400, "not_a_data_url", 'The "image" must begin with data:image/png;base64, (or jpeg, or webp).'
        )
    if len(image) - prefix.end() > -(-MAX_BYTES // 3) * 4:
        raise PictureTooLarge(f"The picture has more than {MAX_BYTES:,} bytes.")
    try:
        data = base64.b64decode(image[prefix.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(400, "not_base64", 'The "image" is not valid base64.') from error
    return prefix[1].upper(), data


def as_json(reading: Reading, version: str) -> dict[str, Any]:
    return {
        "verdict": reading.verdict,
        "digits": reading.digits,
        "reason": reading.reason,
        "top": [{"digit": digit, "probability": probability} for digit, probability in reading.top],
        "probabilities": reading.probabilities,
        "not_a_digit": reading.not_a_digit,
        "coverage": reading.coverage,
        "digit_image": None if reading.digit_image is None else png_url(reading.digit_image),
        "version": version,
    }


def png_url(image) -> str:
    """A grey image, uint8 (H, W), as a data URL."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return data_url(out.getvalue())


def data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
