"""A short way for what the drawing page asks all the time: one drawing in grey, in JSON as the page writes it.

It is answered before Flask looks for a route, a session and a token, which takes as long as reading the digit: the
weights that a digit touches have just driven all that out of the core's cache. Whatever is out of the ordinary, errors
included, goes Flask's way, its body as it came; where both can answer, they say the same.
"""

from __future__ import annotations

import binascii
import io
from collections.abc import Callable, Iterable
from typing import Any

from webapp.middleware.access_log import NOTES
from webapp.versions.active import ActiveModel
from webapp.views import draw
from webapp.views.readings import Reading

MOST_BYTES = 1 << 14
# What is between these in base64, and nothing else, is the one value of a JSON object.
BEGINNING = b'{"image":"data:image/x-portable-graymap;base64,'
END = b'"}'


class Shortcut:
    def __init__(self, application: Callable, live: ActiveModel):
        self._application, self._live = application, live

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if not _is_usual(environ):
            return self._application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        answered = self._answered(body)
        if answered is None:
            environ["wsgi.input"] = io.BytesIO(body)
            return self._application(environ, start_response)
        answer, told = answered
        environ[NOTES].update(told, route=draw.ADDRESS)
        data = draw.encoded(answer).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    def _answered(self, body: bytes) -> tuple[Reading, dict[str, Any]] | None:
        if not body.startswith(BEGINNING) or not body.endswith(END):
            return None
        try:
            data = binascii.a2b_base64(body[len(BEGINNING) : -len(END)], strict_mode=True)
            return draw.read_one("PGM", data, self._live)
        except Exception:  # whatever it is, the other way meets it too, and says it
            return None


def _is_usual(environ: dict[str, Any]) -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    return (
        environ["PATH_INFO"] == draw.ADDRESS
        and environ["REQUEST_METHOD"] == "POST"
        and environ.get("CONTENT_TYPE") == "application/json"
        and "HTTP_TRANSFER_ENCODING" not in environ
        and length.isascii()
        and length.isdecimal()
        and int(length) <= MOST_BYTES
    )
