"""What the JSON routes take and answer, as an OpenAPI 3.1 description at /openapi.json.

Limits and choices come from where they are enforced. Of an address that answers people with a page and programs with
JSON, the JSON is described. An object of an answer has exactly the members named, and so has one that an administrator
sends; other requests may have others besides.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from model.picture import MAX_BYTES, MAX_PIXELS
from model.presets import PRESETS
from webapp import exchange, review, versions
from webapp.admin import MOST_PROCESSES
from webapp.corrections import NOT_A_DIGIT
from webapp.database import ACTIVE, BIGGEST_ROW_ID, ENDED, NO_DIGIT, REVIEW_STATES
from webapp.draw import MOST_BATCH_BYTES, MOST_IMAGES
from webapp.predictions import ORDERS, OUTCOMES

Schema = dict[str, Any]

# A 7 of 28 x 28 black and white pixels.
SEVEN = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAARklEQVR42nXNsRFAQBQFwL03AqEOKEXpQuWcTHDjK8BINt1W"
    "XIEPbRaGMJnUKczCISxUrT1sogi7eFCjegyiETcRotP+yhdqghP4TsB8/AAAAABJRU5ErkJggg=="
)

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def show() -> Response:
    return jsonify(description(current_app.config["SESSION_COOKIE_NAME"]))


@functools.cache
def description(cookie: str) -> dict[str, Any]:
    """The OpenAPI document of an installation whose administrators' sessions have a cookie of this name."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inkling",
            "version": "1",
            "description": "Reads drawn digits, learns from its users' corrections, retrains by request. A refusal is "
            '`{"error": {"code": "...", "message": "..."}}`: a code for programs and a sentence for people. '
            "What is no well-formed HTTP request has one too, of status 400, 414, 417, 431 or 501.",
        },
        "paths": _reading() | _feedback() | _gallery() | _runs() | _versions() | _review() | _watching(),
        "components": {"schemas": _schemas(), "securitySchemes": _doors(cookie)},
    }


# The words that descriptions are made of


def _object(members: dict[str, Schema], **more: Any) -> Schema:
    """An answer's object: all of these members and no others."""
    return {
        "type": "object", "properties": members, "required": list(members), "additionalProperties": False, **more,
    }  # fmt: skip


def _some_of(members: dict[str, Schema], **more: Any) -> Schema:
    """An administrator's request: any of these members and no others."""
    return {"type": "object", "properties": members, "additionalProperties": False, **more}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _of(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(values) -> Schema:
    return {"enum": list(values)}


TEXT = {"type": "string"}
TRUTH = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
ROW = {"type": "integer", "minimum": 1, "maximum": BIGGEST_ROW_ID}
NUMBER = {"type": "number"}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
SECONDS = {"type": "number", "minimum": 0}
MOMENT = {"type": "number", "description": "Seconds since 1970, UTC."}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
MEANING = {"anyOf": [DIGIT, {"const": NOT_A_DIGIT}]}
VERSION = {"type": "string", "pattern": "^v[1-9][0-9]*$"}
ADDRESS = {"type": "string", "format": "uri-reference"}
PNG_URL = {"type": "string", "pattern": "^data:image/png;base64,"}
OPEN = {"type": "object"}

Errors = dict[int, tuple[str, ...]]
# What can be wrong with any body, a picture, the administrator's door, and what the answer comes from.
BODY: Errors = {400: ("not_json", "not_an_object"), 411: ("length_required",), 413: ("body_too_large",)}
JSON_ONLY: Errors = {415: ("not_json",)}
FIELDS: Errors = BODY | {
    400: (*BODY[400], "bad_form", "unknown_field"), 415: ("not_json", "unsupported_media_type"),
}  # fmt: skip
PICTURE: Errors = {
    400: ("no_image", "not_a_data_url", "not_base64", "not_a_picture"), 413: ("picture_too_large",),
}  # fmt: skip
DOOR: Errors = {401: ("not_signed_in",), 429: ("too_many_attempts",)}
DOOR_TO_WRITE: Errors = DOOR | {400: ("csrf",)}
NOT_FOUND: Errors = {404: ("not_found",)}
DATABASE: Errors = {503: ("database",)}
MODEL: Errors = {503: ("no_version", "database")}
OVERLOADED: Errors = {503: ("overloaded",)}

BEARER_OR_SESSION = [{"token": []}, {"session": []}]


def _operation(name: str, summary: str, answers: dict[int, Schema], *errors: Errors, **more: Any) -> Schema:
    """What one method of one address does; `more` goes into the operation as it stands."""
    return _probe(name, summary, answers, *errors, OVERLOADED, **more)


def _probe(name: str, summary: str, answers: dict[int, Schema], *errors: Errors, **more: Any) -> Schema:
    """The same of an address that is answered however busy the server is."""
    found = {str(status): answer for status, answer in answers.items()} | _refusals(*errors)
    return {"operationId": name, "summary": summary, "responses": dict(sorted(found.items())), **more}


def _for_admins(name: str, summary: str, answers: dict[int, Schema], *errors: Errors, **more: Any) -> Schema:
    return _operation(name, summary, answers, *errors, DATABASE, security=BEARER_OR_SESSION, **more)


def _answer(description: str, schema: Schema, mimetype="application/json", **more: Any) -> Schema:
    return {"description": description, "content": {mimetype: {"schema": schema}}, **more}


def _file(description: str, mimetype: str) -> Schema:
    return {"description": description, "content": {mimetype: {}}}


def _refusals(*errors: Errors) -> dict[str, Schema]:
    """The answers to what goes wrong: one for each status, with all the codes that it may have."""
    codes: dict[int, list[str]] = {}
    for group in errors:
        for status, names in group.items():
            codes.setdefault(status, []).extend(name for name in names if name not in codes[status])
    return {str(status): _refusal(status, names) for status, names in codes.items()}


def _refusal(status: int, codes: list[str]) -> Schema:
    this = {"properties": {"error": {"properties": {"code": _one_of(codes)}}}}
    answer = _answer(f"{HTTPStatus(status).phrase}: {', '.join(codes)}.", {"allOf": [_of("Error"), this]})
    headers = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    if status in headers:
        answer["headers"] = {headers[status]: {"required": status != 503, "schema": TEXT}}
    return answer


def _takes(schema: Schema, *, form: Schema | None = None, required: bool = True, **examples: Any) -> Schema:
    """A body: JSON, or the same as a form's fields where `form` says what these may be."""
    shown = {name: {"value": value} for name, value in examples.items()}
    schemas = {"application/json": schema, "application/x-www-form-urlencoded": form}
    content = {mimetype: {"schema": found, "examples": shown} for mimetype, found in schemas.items() if found}
    return {"required": required, "content": content}


def _in_path(name: str, schema: Schema) -> Schema:
    shown = {"example": 1} if schema is ROW else {}
    return {"name": name, "in": "path", "required": True, "schema": schema, **shown}


def _in_query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


# The addresses


def _reading() -> dict[str, Schema]:
    one = {"image": _of("Picture"), "images": False}
    many = {
        "image": False,
        "images": _list({"anyOf": [_of("Picture"), {}]}, minItems=1, maxItems=MOST_IMAGES),
    }
    read = _operation(
        "predict",
        "Read a picture, or many",
        {200: _answer("The reading, or all of them.", {"anyOf": [_of("Reading"), _of("Readings")]})},
        BODY, JSON_ONLY, PICTURE, MODEL, {400: ("image_and_images",), 413: ("too_many_images",)},
        description=f"A picture has at most {MAX_BYTES:,} bytes and {MAX_PIXELS:,} pixels, a request of many "
        f"{MOST_BATCH_BYTES:,} bytes; each of many is answered by itself, with its own error where it cannot be read. "
        "Nothing is kept.",
        requestBody=_takes({"anyOf": [
            {"type": "object", "properties": one, "required": ["image"]},
            {"type": "object", "properties": many, "required": ["images"]},
        ]}, seven={"image": SEVEN}, many={"images": [SEVEN, SEVEN]}),
    )  # fmt: skip
    return {"/predict": {"post": read}}


def _feedback() -> dict[str, Schema]:
    send = _operation(
        "send_correction",
        "Keep a drawing with what was meant by it",
        {
            200: _answer("The same drawing was there; with another meaning, that is put right.", _of("Sent")),
            201: _answer("Kept.", _of("Sent"), headers={"Location": {"required": True, "schema": ADDRESS}}),
        },
        BODY, JSON_ONLY, PICTURE, MODEL, {400: ("no_meaning", "blank_picture"), 429: ("too_many_corrections",)},
        requestBody=_takes({
            "type": "object",
            "properties": {"image": _of("Picture"), "meant": MEANING},
            "required": ["image", "meant"],
        }, seven={"image": SEVEN, "meant": 7}, no_digit={"image": SEVEN, "meant": NOT_A_DIGIT}),
    )  # fmt: skip
    no_receipt = {404: ("no_receipt",)}
    look = _operation(
        "receipt", "What became of a correction", {200: _answer("The receipt.", _of("Receipt"))}, no_receipt, DATABASE
    )
    gone = {204: {"description": "Deleted, and everything that was kept with it."}}
    delete = _operation("delete_correction", "Delete a correction for good", gone, no_receipt, DATABASE)
    by_form = delete | {"operationId": "delete_correction_by_form", "summary": "The same, as the receipt's button does"}
    secret = [_in_path("secret", {"type": "string", "minLength": 1, "example": "0" * 40})]
    return {
        "/feedback": {"post": send},
        "/receipts/{secret}": {"parameters": secret, "get": look, "delete": delete},
        "/receipts/{secret}/delete": {"parameters": secret, "post": by_form},
    }


def _gallery() -> dict[str, Schema]:
    digit = {"type": "string", "pattern": "^[0-9]?$"}
    number = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": BIGGEST_ROW_ID}, {"const": ""}]}
    view = [
        _in_query("true", digit, "The digits that are this one."),
        _in_query("predicted", digit, "The digits that are read as this one."),
        _in_query("outcome", _one_of(("", *OUTCOMES)), "The digits that are read so."),
        _in_query("order", _one_of(("", *ORDERS)), "The least or the most confident first."),
        _in_query("version", number, "The version that reads; without it, the one in service."),
        _in_query("page", number, "The page of the gallery."),
    ]
    told = _object({"version": VERSION, "fraction": SHARE, "ready": TRUTH, "error": _or_null(TEXT)})
    progress = _operation(
        "gallery_progress",
        "How far a version's predictions of the test digits are",
        {200: _answer("How far they are, and why they could not be computed.", told)},
        {400: ("bad_view",), 503: ("no_mnist",)}, NOT_FOUND, MODEL,
        description="Takes the parameters of the gallery's pages, of which only the version matters here.",
        parameters=view,
    )  # fmt: skip
    return {"/gallery/progress": {"get": progress}}


def _runs() -> dict[str, Schema]:
    settings = {
        "preset": _one_of(PRESETS) | {"default": "standard"},
        "epochs": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 0, "description": "0: the preset's."},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 0},
        "processes": {"type": "integer", "minimum": 0, "maximum": MOST_PROCESSES, "default": 1,
                      "description": "That train together; more than the worker has cores gain nothing. 0: one."},
        "corrections": TRUTH | {"default": False, "description": "Learn from the approved corrections."},
    }  # fmt: skip
    in_a_form = settings | {"corrections": _one_of(("", "0", "1"))}
    one = {"parameters": [_in_path("run_id", ROW)]}
    told = {"Location": {"required": True, "schema": ADDRESS}}
    start = _for_admins(
        "start_run",
        "Start a training",
        {202: _answer("Queued.", _of("Run"), headers=told)},
        DOOR_TO_WRITE, FIELDS, {400: ("bad_settings", "no_corrections"), 409: ("run_active",)},
        description="One run at a time: while one is under way, a second start is refused with its number.",
        requestBody=_takes(_some_of(settings), form=_some_of(in_a_form), required=False,
                           seed={"preset": "seed", "epochs": 2}),
    )  # fmt: skip
    look = _for_admins("run", "How a run is doing", {200: _answer("The run.", _of("Run"))}, DOOR, NOT_FOUND)
    cancel = _for_admins(
        "cancel_run", "Cancel a run", {202: _answer("The run, its wish noted.", _of("Run"))},
        DOOR_TO_WRITE, FIELDS, NOT_FOUND,
    )  # fmt: skip
    return {
        "/admin/retrain": {"post": start},
        "/admin/runs/{run_id}": one | {"get": look},
        "/admin/runs/{run_id}/cancel": one | {"post": cancel},
    }


def _versions() -> dict[str, Schema]:
    before = _in_query("before", ROW, "Only those with a smaller number: the next page.")
    one = {"parameters": [_in_path("version_id", ROW)]}
    next_page = {"next": _or_null(ADDRESS)}
    in_service = {200: _answer("In service.", _object({"version": VERSION}))}
    unusable = {409: ("unusable_version",)}
    text = {
        "type": "string",
        "maxLength": versions.LONGEST_REASON,
        "pattern": r"[^\s\x00-\x1f\x7f-\x9f]",  # something to be seen
    }
    reason = _some_of({"reason": text}, required=["reason"])
    listed = {200: _answer("The latest first.", _object({"versions": _list(_of("VersionInShort")), **next_page}))}
    changes = {200: _answer("The latest first.", _object({"promotions": _list(_of("Promotion")), **next_page}))}
    bad_page = {400: ("bad_page",)}
    promote = _for_admins(
        "promote_version",
        "Put a version into service",
        in_service,
        DOOR_TO_WRITE, FIELDS, NOT_FOUND, unusable, {400: ("no_reason",)},
        requestBody=_takes(reason, form=reason, tried={"reason": "tried on the tablets of class 4b"}),
    )  # fmt: skip
    roll_back = _for_admins(
        "roll_back_version", "Put a version back that was in service before", in_service,
        DOOR_TO_WRITE, FIELDS, NOT_FOUND, unusable, {409: ("never_in_service",)},
    )  # fmt: skip
    weights = {200: _file("A safetensors file.", "application/octet-stream"), 304: {"description": "Not modified."}}
    card = {200: _answer("The model card.", OPEN | {"required": ["version", "sha256"]})}
    return {
        "/admin/versions": {
            "get": _for_admins("versions", "All versions, a page", listed, DOOR, bad_page, parameters=[before])
        },
        "/admin/versions/{version_id}": one | {
            "get": _for_admins("version", "A version with its evidence, strength and card",
                               {200: _answer("The version.", _of("Version"))}, DOOR, NOT_FOUND)
        },
        "/admin/versions/{version_id}/weights": one | {
            "get": _for_admins("weights", "A version's weights", weights, DOOR, NOT_FOUND)
        },
        "/admin/versions/{version_id}/card": one | {
            "get": _for_admins("card", "A version's model card", card, DOOR, NOT_FOUND)
        },
        "/admin/versions/{version_id}/promote": one | {"post": promote},
        "/admin/versions/{version_id}/roll-back": one | {"post": roll_back},
        "/admin/promotions": {
            "get": _for_admins("promotions", "Every change of the version that answers, a page", changes, DOOR,
                               bad_page, parameters=[before])
        },
    }  # fmt: skip


def _review() -> dict[str, Schema]:
    state = _one_of(REVIEW_STATES)
    queue = _for_admins(
        "corrections",
        "The corrections in a state, a page",
        {200: _answer("The most suspicious first; of decided ones, the latest first.", _of("Queue")),
         302: {"description": "There are fewer pages than that: the way to the last."}},
        DOOR, {400: ("bad_state", "bad_page")},
        parameters=[
            _in_query("state", state | {"default": "received"}, "Their state."),
            _in_query("page", {"type": "integer", "minimum": 1, "maximum": 9_999_999, "default": 1}, "The page."),
        ],
    )  # fmt: skip
    picture = _for_admins(
        "correction_picture", "The drawing", {200: _file("A PNG, dark on white.", "image/png")}, DOOR, NOT_FOUND
    )
    decide = _for_admins(
        "decide",
        "Approve, relabel or refuse corrections",
        {200: _answer("What became of it; `batch`, where anything changed, takes it back.", _of("Decided"))},
        DOOR_TO_WRITE, FIELDS, {400: ("bad_decision", "bad_reason", "bad_state", "nothing_chosen")},
        description="All of them or none; those that somebody else decided meanwhile are left alone.",
        requestBody=_takes(
            _of("Decision"),
            approve={"action": "approve", "ids": [1, 2], "state": "received"},
            relabel={"action": "relabel", "ids": [3], "label": 7},
            refuse={"action": "refuse", "ids": [4], "reason": review.REASONS[0]},
        ),
    )  # fmt: skip
    undo = _for_admins(
        "undo",
        "Take a decision back",
        {200: _answer("What was taken back.", _of("Undone"))},
        DOOR_TO_WRITE, FIELDS, {400: ("bad_decision",), 409: ("nothing_to_undo",)},
        description="The last one, or the one that `batch` names.",
        requestBody=_takes(
            _some_of({"batch": _or_null({"type": "string", "pattern": "^[0-9a-zA-Z]*$"})}),
            required=False, last={}, one={"batch": "c0ffee"},
        ),
    )  # fmt: skip
    take_in = _for_admins(
        "import_corrections",
        "Take in the digits of an .npz, or of PNG files in a zip, as corrections that wait for review",
        {200: _answer("How many are new, and how many were here already.", _object({"added": COUNT, "known": COUNT})),
         202: _answer("A worker takes the file in; the address tells how far it is.",
                      _object({"import": ROW, "url": ADDRESS}),
                      headers={"Location": {"required": True, "schema": ADDRESS}})},
        DOOR_TO_WRITE, {400: ("no_file", "bad_file"), 411: ("length_required",), 413: ("file_too_large",)},
        description=f"At most {exchange.MAX_FILE_BYTES >> 20} MB, {exchange.MOST:,} digits, {exchange.MOST_SOURCES:,} "
        f"sources, and {exchange.MOST_PIXELS:,} pixels in all PNG files together. Nothing comes in unless all of the "
        f"file can be read. More than {exchange.SHORT_DIGITS:,} digits or {exchange.SHORT_PIXELS:,} pixels are left to "
        "a worker.",
        requestBody={"required": True, "content": {"multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}},
                       "required": ["file"]},
            "encoding": {"file": {"contentType": "application/zip"}},
        }}},
    )  # fmt: skip
    return {
        "/admin/corrections": {"get": queue},
        "/admin/corrections/{number}/picture.png": {"parameters": [_in_path("number", ROW)], "get": picture},
        "/admin/corrections/decide": {"post": decide},
        "/admin/corrections/undo": {"post": undo},
        "/admin/corrections/export.{kind}": {
            "parameters": [_in_path("kind", _one_of(review.EXPORTS))], "get": _export(state),
        },
        "/admin/corrections/import": {"post": take_in},
        "/admin/corrections/imports/{number}": {
            "parameters": [_in_path("number", ROW)],
            "get": _for_admins("import", "A file that a worker takes in, and how far it is",
                               {200: _answer("The import.", _of("Import"))}, DOOR, NOT_FOUND),
        },
    }  # fmt: skip


def _export(state: Schema) -> Schema:
    files = {
        "description": "Arrays images, uint8 (N, 28, 28), and labels, uint8 (N,); or a PNG file for each, in folders.",
        "content": {mimetype: {} for mimetype in review.EXPORTS.values()},
    }
    chosen = _in_query("state", state | {"default": "approved"}, "Their state.")
    return _for_admins(
        "export_corrections", "The corrections in a state, as .npz or as PNG files in a zip", {200: files},
        DOOR, NOT_FOUND, {400: ("bad_state",)}, parameters=[chosen],
    )  # fmt: skip


def _watching() -> dict[str, Schema]:
    alive = _object({"status": {"const": "ok"}})
    ready = _object(
        {"status": _one_of(("ok", "not ready")), "checks": _object({"database": TEXT, "model": TEXT})}
    )
    return {
        "/healthz": {"get": _probe("alive", "Is the process alive?", {200: _answer("It is.", alive)})},
        "/readyz": {
            "get": _probe(
                "ready",
                "Do database and model answer, and has the disk room?",
                {200: _answer("They do.", ready), 503: _answer("They do not, and why.", ready)},
            )
        },
        "/metrics": {
            "get": _probe(
                "metrics",
                "What is counted, for Prometheus",
                {200: _answer("Prometheus' text, or OpenMetrics where that is asked for.", TEXT, "text/plain")},
                DOOR,
                description="A process of the same machine needs no token.",
                security=[*BEARER_OR_SESSION, {}],
            )
        },
        "/openapi.json": {
            "get": _operation("describe", "This description", {200: _answer("OpenAPI 3.1.", OPEN)}),
        },
    }


# What goes in and out


def _schemas() -> dict[str, Schema]:
    return {
        "Error": {
            "type": "object",
            "properties": {
                "error": {
                    "type": "object",
                    "properties": {"code": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}, "message": TEXT},
                    "required": ["code", "message"],
                }
            },
            "required": ["error"],
        },
        "Picture": {
            "type": "string",
            "format": "picture",
            "description": "A picture as a data URL: PNG, JPEG, WebP, or binary PGM of 8 bits without comments.",
            "pattern": "^data:image/(png|jpeg|webp|x-portable-graymap);base64,[A-Za-z0-9+/]+={0,2}$",
            "maxLength": len("data:image/x-portable-graymap;base64,") + -(-MAX_BYTES // 3) * 4,
        },
    } | _schemas_of_readings() | _schemas_of_runs() | _schemas_of_versions() | _schemas_of_review()  # fmt: skip


def _schemas_of_readings() -> dict[str, Schema]:
    kept = {  # of a reading, with a correction
        "verdict": _one_of(("digit", "unsure", "not_a_digit", "blank")),
        "digits": _list(DIGIT, description="What it is or may be, the likeliest first."),
        "reason": _or_null(_one_of(("dot", "scribble", "several", "unlike_any_digit"))),
        "top": _list(_object({"digit": DIGIT, "probability": SHARE}), maxItems=3),
        "probabilities": _list(SHARE, maxItems=10, description="Of the digits 0 to 9; empty for a blank picture."),
        "not_a_digit": SHARE,
    }
    reading = kept | {"coverage": _or_null(SHARE), "digit_image": _or_null(PNG_URL)}
    readings = _list({"anyOf": [_object(reading), _of("Error")]}, description="In the order of the pictures.")
    correction = {
        "receipt": ADDRESS | {"description": "Whoever knows it may look, and delete."},
        "created_at": MOMENT,
        "meant": MEANING,
        "state": _one_of(REVIEW_STATES),
        "label": MEANING | {"description": "What the review made of it."},
        "reason": _or_null(TEXT),
        "held_out": TRUTH | {"description": "Never learnt from: versions are compared by it."},
        "version": _or_null(VERSION),
        "answered": {"anyOf": [_object(kept), {"const": {}}]},
    }
    receipt = correction | {
        "used": _list(_object({"version": VERSION, "for": _one_of(("training", "comparison"))})),
        "now": _or_null(_object(kept | {"version": VERSION})),
        "picture": PNG_URL,
        "digit_image": PNG_URL,
    }
    return {
        "Reading": _object(reading | {"version": VERSION}),
        "Readings": _object({"version": VERSION, "readings": readings}),
        "Sent": _object(correction),
        "Receipt": _object(receipt),
    }


def _schemas_of_runs() -> dict[str, Schema]:
    epoch = {
        "epoch": COUNT,
        "train_loss": _or_null(NUMBER),
        "validation_loss": NUMBER,
        "validation_accuracy": SHARE,
        "seconds": SECONDS,
    }
    run = {
        "id": ROW,
        "state": _one_of((*ACTIVE, *ENDED)),
        "preset": TEXT,
        "epochs": COUNT,
        "seed": COUNT,
        "processes": COUNT,
        "corrections": TRUTH,
        "requested_by": TEXT,
        "attempt": COUNT,
        "losses": COUNT,
        "cancel_requested": TRUTH,
        "created_at": MOMENT,
        "started_at": _or_null(MOMENT),
        "ended_at": _or_null(MOMENT),
        "progress": OPEN,
        "history": _list(_object(epoch)),
        "version": _or_null(VERSION),
        "error": _or_null(TEXT),
        "url": ADDRESS,
    }
    return {"Run": _object(run)}


def _schemas_of_versions() -> dict[str, Schema]:
    version = {
        "version": VERSION,
        "source": _one_of(("shipped", "run")),
        "run": _or_null(ROW),
        "created_at": MOMENT,
        "sha256": TEXT,
        "card": OPEN,
        "answers": TRUTH | {"description": "Whether it is in service."},
        "has_served": TRUTH,
        "comparison": _or_null(OPEN | {"required": ["champion", "at", "passed", "summary", "criteria"]}),
        "strength": _object({"fraction": SHARE, "figures": _or_null(OPEN), "error": _or_null(TEXT)}),
    }
    in_short = {
        "version": VERSION,
        "preset": TEXT,
        "run": _or_null(ROW),
        "created_at": MOMENT,
        "validation_accuracy": SHARE,
        "test_accuracy": _or_null(SHARE),
        "answers": TRUTH,
        "has_served": TRUTH,
        "passed": _or_null(TRUTH),
        "summary": _or_null(TEXT),
        "url": ADDRESS,
    }
    promotion = {"at": MOMENT, "by": TEXT, "from": _or_null(VERSION), "to": VERSION, "why": TEXT}
    return {"Version": _object(version), "VersionInShort": _object(in_short), "Promotion": _object(promotion)}


def _schemas_of_review() -> dict[str, Schema]:
    state, counts = _one_of(REVIEW_STATES), _object(dict.fromkeys(REVIEW_STATES, COUNT))
    correction = {
        "id": ROW,
        "created_at": MOMENT,
        "state": state,
        "reason": _or_null(TEXT),
        "meant": MEANING,
        "label": MEANING,
        "answered": OPEN,
        "version": _or_null(VERSION),
        "held_out": TRUTH,
        "times": COUNT,
        "sources": COUNT,
        "suspicion": _or_null(SHARE),
        "doubt": _or_null(OPEN),
        "digit_image": PNG_URL,
        "picture": ADDRESS,
    }
    queue = {
        "state": state,
        "page": COUNT,
        "pages": COUNT,
        "counts": counts,
        "unjudged": COUNT,
        "corrections": _list(_object(correction), maxItems=review.PER_PAGE),
    }
    which = {
        "ids": _list(ROW, minItems=1, maxItems=review.MOST_AT_ONCE),
        "state": _or_null(state) | {"description": "The state in which they were shown."},
    }
    reason = {"type": "string", "minLength": 1, "maxLength": review.LONGEST_REASON, "pattern": "^[ -~]*[!-~][ -~]*$"}
    decisions = {
        "approve": {},
        "relabel": {"label": {"anyOf": [DIGIT, {"enum": [NOT_A_DIGIT, NO_DIGIT]}]}},
        "refuse": {"reason": reason | {"description": "One line, which the author is shown."}},
    }
    passed_over = {"label": {}, "reason": {}}
    decision = [
        _some_of({"action": {"const": action}, **which, **passed_over, **more}, required=["action", "ids", *more])
        for action, more in decisions.items()
    ]
    decided = {"batch": _or_null(TEXT), **dict.fromkeys(("decided", "elsewhere", "gone"), _list(ROW)), "counts": counts}
    undone = {"undone": _list(ROW), "state": state, "counts": counts, "said": TEXT}
    taken_in = {
        "id": ROW,
        "state": _one_of((*ACTIVE, "finished", "failed")),
        "name": TEXT | {"description": "The file's."},
        "digits": COUNT | {"description": "How many the file holds."},
        "fraction": SHARE,
        "added": COUNT | {"description": "New ones, so far."},
        "known": COUNT | {"description": "Those that were here already, so far."},
        "error": _or_null(TEXT),
        "requested_by": TEXT,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "url": ADDRESS,
    }
    return {
        "Import": _object(taken_in),
        "Queue": _object(queue),
        "Decision": {"anyOf": decision},
        "Decided": _object(decided | {"said": TEXT}),
        "Undone": _object(undone),
    }


def _doors(cookie: str) -> dict[str, Schema]:
    return {
        "token": {"type": "http", "scheme": "bearer", "description": "The setting ADMIN_TOKEN."},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "A signed-in administrator's browser; to change anything it sends its CSRF token as well.",
        },
    }
