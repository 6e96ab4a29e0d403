"""The body of a request as a JSON object, parsed strictly."""

from __future__ import annotations

import json
from typing import Any

from flask import request

from webapp.exceptions import BadRequest

# Of commas and brackets in a body: what is packed full of tiny values takes a second to parse.
MOST_MARKS = 10_000


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
