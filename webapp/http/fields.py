"""The fields of a request, from a form or a JSON object; unknown ones are refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from webapp.exceptions import BadRequest
from webapp.http.json_body import json_object

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
CSRF_TOKEN = "csrf_token"


def fields(*known: str) -> dict[str, Any]:
    """Return the fields by name: text from a form, any value from JSON; an empty body has no fields.

    Raises BadRequest for a body of another type, a name that is not `known`, or one that occurs twice.
    """
    if request.is_json:
        sent = json_object()
        _refuse_unknown(sent, known)
        return sent
    form = form_fields(*known)
    if name := next((name for name, values in form.lists() if len(values) > 1), None):
        raise BadRequest(400, "bad_form", f"The field {_quoted(name)} occurs more than once.")
    return form.to_dict()


def form_fields(*known: str) -> MultiDict[str, str]:
    """Return a form's fields, which may occur several times, without the CSRF token.

    Raises BadRequest as `any_form` does, and for a name that is not `known`.
    """
    form = any_form().copy()
    form.poplist(CSRF_TOKEN)
    _refuse_unknown((*form, *request.files), known)
    return form


def any_form() -> MultiDict[str, str]:
    """Return a form's fields, with any names. Raises BadRequest if the body is not a form."""
    if request.mimetype not in FORMS and (request.mimetype or request.content_length):
        message = f"The request must be a form (Content-Type: {FORMS[0]}), or JSON where that is described."
        raise BadRequest(415, "unsupported_media_type", message)
    # Werkzeug returns an empty form for a multipart body that it cannot parse.
    if request.content_length and not request.form and not request.files:
        raise BadRequest(400, "bad_form", "The request is not a valid form.")
    return request.form


def _refuse_unknown(names: Iterable[str], known: Collection[str]) -> None:
    if unknown := next((name for name in names if name not in known), None):
        taken = f"it may be {', '.join(known)}" if known else "none is taken here"
        raise BadRequest(400, "unknown_field", f"There is no field {_quoted(unknown)}: {taken}.")


def _quoted(name: str) -> str:
    return ascii(name[:40])
