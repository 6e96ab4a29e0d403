"""A fast path for the drawing page's most frequent request: one grey drawing, in JSON exactly as the page writes it.

It is answered before Flask matches a route and opens a session, which takes as long as the prediction: the network's
weights have just evicted Flask's code and data from the core's cache. Any other request, and any error, is passed on to
Flask with its body; both paths give the same answers.
"""

from __future__ import annotations

import binascii
import io
from collections.abc import Callable, Iterable
from typing import Any

from webapp.middleware.access_log import ANNOTATIONS
from webapp.versions.active import ActiveModel
from webapp.views import draw
from webapp.views.readings import Reading

MOST_BYTES = 1 << 14
# A JSON object with one value, in base64 between these. Strict decoding excludes quotes, so there are no others.
BEGINNING = b'{"image":"data:image/x-portable-graymap;base64,'
END = b'"}'


class Shortcut:
    """WSGI middleware around the Flask application."""

    def __init__(self, application: Callable, active_model: ActiveModel):
        self._application, self._active_model = application, active_model

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if not _is_candidate(environ):
            return self._application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        result = self._predict(body)
        if result is None:
            environ["wsgi.input"] = io.BytesIO(body)
            return self._application(environ, start_response)
        answer, annotations = result
        environ[ANNOTATIONS].update(annotations, route=draw.ADDRESS)
        data = draw.encoded(answer).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    def _predict(self, body: bytes) -> tuple[Reading, dict[str, Any]] | None:
        if not body.startswith(BEGINNING) or not body.endswith(END):
            return None
        try:
            data = binascii.a2b_base64(body[len(BEGINNING) : -len(END)], strict_mode=True)
            return draw.read_one(data, self._active_model)
        except Exception:  # Flask's path raises it too, and answers it
            return None


def _is_candidate(environ: dict[str, Any]) -> bool:
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
