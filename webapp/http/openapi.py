"""What the JSON routes take and answer, as an OpenAPI 3.1 description at /openapi.json.

It is made of what stands beside each route: its `Operation` with the classes of request and answers, its signature and
its docstring. Where an address takes forms and answers with pages as well, for people, the JSON is described.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, get_args

from flask import Blueprint, Flask, Response, current_app, jsonify
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from werkzeug.routing import Rule

from webapp.http.messages import Codes, Error, File, Query, Request

Schema = dict[str, Any]
Schemas = dict[Any, Schema]
View = TypeVar("View", bound=Callable)

JSON = "application/json"
# How any request may be refused by the administrator's door, and in a crowd.
DOOR: Codes = {401: ["not_signed_in"], 429: ["too_many_attempts"], 503: ["database"]}
CSRF: Codes = {400: ["csrf"]}
NOT_FOUND: Codes = {404: ["not_found"]}
OVERLOADED: Codes = {503: ["overloaded"]}
HEADERS = {201: "Location", 202: "Location", 401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
BEARER_OR_SESSION: list[Schema] = [{"token": []}, {"session": []}]

blueprint = Blueprint("openapi", __name__)


@dataclass(frozen=True)
class Operation:
    """Beside a route: what it takes and answers. `refuses` names the codes that its view itself gives."""

    name: str
    answers: Mapping[int, Any]
    takes: Any = None
    query: type[Query] | None = None
    refuses: Codes = field(default_factory=dict)
    limits: str = ""
    security: Sequence[Schema] = ()
    is_probe: bool = False  # answered however busy the server is

    def __call__(self, view: View) -> View:
        OPERATIONS[view] = self
        return view


OPERATIONS: dict[Callable, Operation] = {}


@blueprint.get("/openapi.json")
@Operation("describe", {200: dict[str, Any]})
def show() -> Response:
    """Describe these addresses."""
    known = current_app.extensions
    if "inkling.openapi" not in known:
        known["inkling.openapi"] = description(current_app)
    return jsonify(known["inkling.openapi"])


def description(app: Flask) -> Schema:
    """The OpenAPI document of an application."""
    described = [
        (rule, OPERATIONS[view]) for rule in app.url_map.iter_rules()
        if (view := app.view_functions[rule.endpoint]) in OPERATIONS
    ]  # fmt: skip
    schemas, components = _schemas(operation for _, operation in described)
    paths: dict[str, Schema] = {}
    for rule, operation in described:
        view = app.view_functions[rule.endpoint]
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            path = "".join(f"{{{part}}}" if is_dynamic else part for is_dynamic, part in rule._trace[1:])
            paths.setdefault(path, {})[method.lower()] = _operation(operation, rule, method, view, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inkling",
            "version": "1",
            "description": "Reads drawn digits, learns from its users' corrections, retrains by request. A refusal is "
            '`{"error": {"code": "...", "message": "..."}}`: a code for programs and a sentence for people. '
            "What is no well-formed HTTP request has one too, of status 400, 414, 417, 431 or 501.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The setting ADMIN_TOKEN."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": app.config["SESSION_COOKIE_NAME"],
                    "description": "A signed-in administrator's browser; to change anything it sends its CSRF token as "
                    "well.",
                },
            },
        },
    }


class JsonSchema(GenerateJsonSchema):
    """pydantic's, without the titles, which repeat the names, and without nulls that stand for what is not sent.

    A single literal is an enumeration: clients that openapi-python-client makes refuse the number in "a number or this
    constant".
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> Schema:
        return _untitled(super().model_schema(schema))

    def typed_dict_schema(self, schema: Any) -> Schema:
        return _untitled(super().typed_dict_schema(schema))

    def default_schema(self, schema: Any) -> Schema:
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made

    def literal_schema(self, schema: Any) -> Schema:
        made = super().literal_schema(schema)
        if "const" in made:
            made["enum"] = [made.pop("const")]
        return made

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removesuffix("Answer")  # which tells a class from that of a table's rows


def _untitled(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if name != "title"}


def _schemas(operations: Iterable[Operation]) -> tuple[Schemas, Schema]:
    """The schemas of what operations take and answer, and the components that they refer to."""
    kinds: list[tuple[Any, JsonSchemaMode]] = [(Error, "serialization")]
    for operation in operations:
        kinds += [(operation.takes, "validation")] if operation.takes else []
        answers = operation.answers.values()
        kinds += [(answer, "serialization") for answer in answers if answer and not isinstance(answer, File)]
    made, found = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in kinds],
        ref_template="#/components/schemas/{model}",
        schema_generator=JsonSchema,
    )
    return {kind: schema for (kind, _), schema in made.items()}, found["$defs"]


def _operation(operation: Operation, rule: Rule, method: str, view: Callable, schemas: Schemas) -> Schema:
    for_admins = rule.rule.startswith("/admin/")
    summary, _, description = (inspect.getdoc(view) or "").partition("\n\n")
    description = " ".join(f"{description}\n{operation.limits}".split())
    responses = {status: _answer(status, answer, schemas) for status, answer in operation.answers.items()}
    for status, codes in _codes(operation, rule, method, for_admins).items():
        responses.setdefault(status, _refusal(status, codes, schemas))
    made = {
        "operationId": operation.name,
        "summary": " ".join(summary.removesuffix(".").split()),
        "description": description,
        "parameters": [*_in_path(rule, view), *_in_query(operation.query)],
        "requestBody": _body(operation.takes, schemas) if operation.takes else None,
        "responses": {str(status): responses[status] for status in sorted(responses)},
        "security": BEARER_OR_SESSION if for_admins else operation.security,
    }
    return {name: value for name, value in made.items() if value}


def _codes(operation: Operation, rule: Rule, method: str, for_admins: bool) -> dict[int, list[str]]:
    """Everything that can go wrong: the codes by their status."""
    groups = [
        *(kind.refuses for kind in _requests(operation.takes)),
        *_refused_values(operation.takes),
        *_refused_values(operation.query),
        DOOR if for_admins else {},
        CSRF if for_admins and method != "GET" else {},
        NOT_FOUND if rule.arguments else {},
        {} if operation.is_probe else OVERLOADED,
        operation.refuses,
    ]
    codes: dict[int, list[str]] = {}
    for group in groups:
        for status, names in group.items():
            codes[status] = list(dict.fromkeys([*codes.get(status, []), *names]))
    return codes


def _requests(kind: Any) -> list[type[Request]]:
    """The class of a request, or each of several."""
    if isinstance(kind, type) and issubclass(kind, Request):
        return [kind]
    return [found for part in get_args(kind) for found in _requests(part)]


def _refused_values(kind: Any) -> Iterator[Codes]:
    """The codes that stand beside a type, and beside those of the fields of a class."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for found in kind.model_fields.values():
            yield from (beside.codes for beside in found.metadata if hasattr(beside, "codes"))
            yield from _refused_values(found.annotation)
    for part in get_args(kind):
        yield from [part.codes] if hasattr(part, "codes") else _refused_values(part)


def _answer(status: int, answer: Any, schemas: Schemas) -> Schema:
    made: Schema = {"description": HTTPStatus(status).phrase}
    if isinstance(answer, File):
        made["content"] = {mimetype: {} for mimetype in answer.mimetypes}
    elif answer:
        made["content"] = {JSON: {"schema": schemas[answer]}}
        made["description"] = (inspect.getdoc(answer) or "") if isinstance(answer, type) else made["description"]
    return made | _headers(status)


def _refusal(status: int, codes: list[str], schemas: Schemas) -> Schema:
    this = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}.",
        "content": {JSON: {"schema": {"allOf": [schemas[Error], this]}}},
    } | _headers(status)


def _headers(status: int) -> Schema:
    return {"headers": {HEADERS[status]: {"schema": {"type": "string"}}}} if status in HEADERS else {}


def _body(kind: Any, schemas: Schemas) -> Schema:
    requests = _requests(kind)
    content = {requests[0].mimetype: {"schema": schemas[kind]}}
    required = any(member.is_required() for request in requests for member in request.model_fields.values())
    return {"required": required, "content": content}


def _in_path(rule: Rule, view: Callable) -> Iterator[Schema]:
    for name in sorted(rule.arguments):
        kind = eval(view.__annotations__[name], view.__globals__)  # this one alone: not each that is returned resolves
        yield {"name": name, "in": "path", "required": True, "schema": _plain_schema(kind)}


def _in_query(query: type[Query] | None) -> Iterator[Schema]:
    for name, schema in (_plain_schema(query)["properties"] if query else {}).items():
        yield {"name": name, "in": "query", "schema": schema}


def _plain_schema(kind: Any) -> Schema:
    return TypeAdapter(kind).json_schema(schema_generator=JsonSchema)
