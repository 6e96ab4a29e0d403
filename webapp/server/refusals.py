"""Errors that the server answers without the application, as bytes in the form of the application's own errors."""

from __future__ import annotations

import functools
import re
from http import HTTPStatus
from typing import NamedTuple

from flask import Flask
from gunicorn.http import errors as parsing
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from webapp.http import errors
from webapp.middleware.headers import security_headers

RETRY_AFTER_SECONDS = 1
ACCEPT = re.compile(rb"\r\naccept:([^\r\n]{0,300})", re.I)


class Refusal(NamedTuple):
    status: int
    code: str
    message: str


OVERLOADED = Refusal(503, "overloaded", "The server is busy. Please try again in a moment.")
TOO_SLOW = Refusal(408, "too_slow", "The request took too long to arrive.")
INTERNAL = Refusal(500, "internal", "Something went wrong on the server. It has been logged.")
# By the exceptions of gunicorn's parser.
MALFORMED = {
    parsing.LimitRequestLine: Refusal(414, "address_too_long", "The address is too long."),
    parsing.LimitRequestHeaders: Refusal(431, "headers_too_large", "The headers are too large."),
    parsing.UnsupportedTransferCoding: Refusal(501, "unknown_coding", "The body's transfer coding is not known here."),
    parsing.ExpectationFailed: Refusal(417, "expectation_failed", "That expectation cannot be met."),
    parsing.NoMoreData: Refusal(400, "malformed", "This is not a whole HTTP request."),
    parsing.ParseException: Refusal(400, "malformed", "This is not a well-formed HTTP request."),
}


def render(app: Flask, https: bool, refusal: Refusal, as_page: bool) -> tuple[str, bytes]:
    """Return the head, without its last empty line, and the body of a refusal, as a page or in JSON.

    Raises OSError if a template cannot be read.
    """
    with app.test_request_context(headers={"Accept": "text/html" if as_page else "application/json"}):
        response = errors.error_response(*refusal)
    body = response.get_data()
    headers = security_headers(https) | dict(response.headers) | {"Content-Length": len(body), "Connection": "close"}
    if refusal.status == 503:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    first = f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines) + "\r\n", body


def wants_page(head: bytes) -> bool:
    """Tell by a request's head whether it prefers a page to JSON."""
    found = ACCEPT.search(head)
    return found is not None and _prefers_page(found[1].decode("latin-1"))


@functools.lru_cache(maxsize=64)
def _prefers_page(accept: str) -> bool:
    return errors.prefers_page(parse_accept_header(accept, MIMEAccept))
