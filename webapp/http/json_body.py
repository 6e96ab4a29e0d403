"""The body of a request as a JSON object, parsed strictly."""

from __future__ import annotations

import json
from typing import Any

from flask import request

from webapp.exceptions import BadRequest

# Maximum count of `,` `[` `{`: a body of many tiny values takes a second to parse.
MOST_DELIMITERS = 10_000


def json_object(most_delimiters: int = MOST_DELIMITERS) -> dict[str, Any]:
    """Return the request's body, parsed. Raises BadRequest, with the reason, if it is not a JSON object."""
    if request.mimetype != "application/json":
        raise BadRequest(415, "not_json", "The request must be JSON (Content-Type: application/json).")
    body = request.get_data()
    if sum(map(body.count, b",[{")) > most_delimiters:
        raise BadRequest(400, "not_json", "The request has far more JSON values than anything here asks for.")
    try:
        value = json.loads(body, object_pairs_hook=_members, parse_float=_number, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, "not_json", "The request is not valid JSON.") from error
    if not isinstance(value, dict):
        raise BadRequest(400, "not_an_object", "The request must be a JSON object.")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _number(text: str) -> int | float:
    """Parse a number with a point or exponent; 7.0 is an integer, as in JSON Schema."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
