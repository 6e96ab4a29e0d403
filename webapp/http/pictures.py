"""Pictures in requests, as data URLs."""

from __future__ import annotations

import binascii
import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from model.imaging.decode import FORMATS, MAX_BYTES, PictureTooLarge, check_bytes
from webapp.exceptions import BadRequest
from webapp.http.messages import ErrorCodes

MAX_BASE64 = -(-MAX_BYTES // 3) * 4
# The limit of a request with a picture: the largest picture in base64, and 4 kB for the JSON around it.
MAX_BODY_BYTES = MAX_BASE64 + 4096
# The announced type is not used: browsers derive it from the file's name, and leave it out for types unknown to them.
LONGEST_TYPE = 64
DATA_URL = re.compile(rf"data:(image/[\w.+-]{{1,{LONGEST_TYPE}}}|application/octet-stream)?;base64,", re.ASCII)


def picture_bytes(image: Any) -> bytes:
    """Return the decoded bytes of a data URL; raises BadRequest."""
    if not isinstance(image, str):
        raise BadRequest(400, "no_image", 'The request must have an "image": a data URL with a picture.')
    prefix = DATA_URL.match(image)
    if prefix is None:
        message = 'The "image" must begin with data:image/png;base64, (or jpeg, webp or another type of picture).'
        raise BadRequest(400, "not_a_data_url", message)
    try:
        check_bytes((len(image) - prefix.end()) * 3 // 4 - image.count("=", -2))
        return binascii.a2b_base64(image[prefix.end() :], strict_mode=True)
    except PictureTooLarge as error:
        raise BadRequest(413, error.code, str(error)) from error
    except ValueError as error:
        raise BadRequest(400, "not_base64", 'The "image" is not valid base64.') from error


Picture = Annotated[
    bytes,
    PlainValidator(picture_bytes),
    ErrorCodes({400: ["no_image", "not_a_data_url", "not_base64", "not_a_picture"], 413: ["picture_too_large"]}),
    WithJsonSchema(
        {
            "type": "string",
            "format": "picture",
            "description": f"A picture as a data URL: {', '.join(FORMATS[:-1])}, or binary PGM of 8 bits without "
            "comments. The type that it announces is not used.",
            "pattern": "^data:(image/[A-Za-z0-9_.+-]+|application/octet-stream)?;base64,[A-Za-z0-9+/]+={0,2}$",
            "maxLength": len("data:image/;base64,") + LONGEST_TYPE + MAX_BASE64,
        }
    ),
]
# A 7 of 28 x 28 black and white pixels.
SEVEN = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAARklEQVR42nXNsRFAQBQFwL03AqEOKEXpQuWcTHDjK8BINt1W"
    "XIEPbRaGMJnUKczCISxUrT1sogi7eFCjegyiETcRotP+yhdqghP4TsB8/AAAAABJRU5ErkJggg=="
)
