"""Pictures in requests, as data URLs."""

from __future__ import annotations

import binascii
import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from model.imaging.decode import MAX_BYTES, PictureTooLarge
from webapp.exceptions import BadRequest
from webapp.http.messages import ErrorCodes

MAX_BASE64 = -(-MAX_BYTES // 3) * 4
# The largest picture in base64, and 4 kB for the JSON around it.
MAX_BODY_BYTES = MAX_BYTES * 4 // 3 + 4096
DATA_URL = re.compile(r"data:image/(png|jpeg|webp|x-portable-graymap);base64,", re.ASCII)
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "x-portable-graymap": "PGM"}


def picture_bytes(image: Any) -> tuple[str, bytes]:
    """Return the format that a data URL declares, as `open_picture` names it, and its decoded bytes.

    Raises BadRequest, or PictureTooLarge over MAX_BYTES.
    """
    if not isinstance(image, str):
        raise BadRequest(400, "no_image", 'The request must have an "image": a data URL with a picture.')
    prefix = DATA_URL.match(image)
    if prefix is None:
        message = 'The "image" must begin with data:image/png;base64, (or jpeg, webp or x-portable-graymap).'
        raise BadRequest(400, "not_a_data_url", message)
    if len(image) - prefix.end() > MAX_BASE64:
        raise PictureTooLarge(f"The picture has more than {MAX_BYTES:,} bytes.")
    try:
        data = binascii.a2b_base64(image[prefix.end() :], strict_mode=True)
    except ValueError as error:
        raise BadRequest(400, "not_base64", 'The "image" is not valid base64.') from error
    return FORMATS[prefix[1]], data


Picture = Annotated[
    tuple[str, bytes],
    PlainValidator(picture_bytes),
    ErrorCodes({400: ["no_image", "not_a_data_url", "not_base64", "not_a_picture"], 413: ["picture_too_large"]}),
    WithJsonSchema(
        {
            "type": "string",
            "format": "picture",
            "description": "A picture as a data URL: PNG, JPEG, WebP, or binary PGM of 8 bits without comments.",
            "pattern": "^data:image/(png|jpeg|webp|x-portable-graymap);base64,[A-Za-z0-9+/]+={0,2}$",
            "maxLength": len("data:image/x-portable-graymap;base64,") + MAX_BASE64,
        }
    ),
]
# A 7 of 28 x 28 black and white pixels.
SEVEN = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAARklEQVR42nXNsRFAQBQFwL03AqEOKEXpQuWcTHDjK8BINt1W"
    "XIEPbRaGMJnUKczCISxUrT1sogi7eFCjegyiETcRotP+yhdqghP4TsB8/AAAAABJRU5ErkJggg=="
)
