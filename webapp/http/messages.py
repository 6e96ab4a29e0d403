"""Base classes and field types of the classes of requests and answers, which are defined beside their routes.

pydantic validates requests by them and describes them at /openapi.json. A value that does not fit its type is refused
with the code and the sentence of the type's `RejectWith`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from flask import Response, jsonify, request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import with_info_wrap_validator_function
from typing_extensions import TypedDict
from werkzeug.datastructures import MultiDict

from model.task import DIGITS
from webapp.corrections.store import label_to_json
from webapp.exceptions import BadRequest
from webapp.http.fields import fields
from webapp.http.json_body import json_object
from webapp.presentation.wording import worded
from webapp.storage.schema import BIGGEST_ROW_ID, REVIEW_STATES, ReviewState

Codes = dict[int, list[str]]
# pydantic's validation context of values sent as text, in a form or a URL.
TEXT = "text"
MOST_QUOTED = 40
MOST_DECIMALS = 11


class Request(BaseModel):
    """A JSON object; members that are not described are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)
    mimetype: ClassVar[str] = "application/json"
    error_codes: ClassVar[Codes] = {
        400: ["not_json", "not_an_object"], 411: ["length_required"], 413: ["body_too_large"], 415: ["not_json"],
    }  # fmt: skip

    @classmethod
    def read(cls) -> Self:
        """Validate the body of the current request. Raises BadRequest."""
        return cls.model_validate(json_object())

    @model_validator(mode="before")
    @classmethod
    def _fill_missing(cls, sent: dict[str, Any]) -> dict[str, Any]:
        """Set missing fields to null, so that they are refused with the sentence of their own type."""
        return {name: None for name, field in cls.model_fields.items() if field.is_required()} | sent


class Fields(Request):
    """A JSON object or a form with these fields and no others; an empty body is an empty object."""

    model_config = ConfigDict(extra="forbid")
    error_codes = Request.error_codes | {
        400: ["not_json", "not_an_object", "bad_form", "unknown_field"], 415: ["not_json", "unsupported_media_type"],
    }  # fmt: skip

    @classmethod
    def read(cls) -> Self:
        return cls.model_validate(fields(*cls.model_fields), context=None if request.is_json else TEXT)


class NoFields(Fields):
    """An empty object, or an empty form."""


class Upload(Request):
    """A form with a file."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    mimetype = "multipart/form-data"
    error_codes = {411: ["length_required"], 413: ["file_too_large"]}

    @classmethod
    def read(cls) -> Self:
        return cls.model_validate(request.files.to_dict())


class Query(BaseModel):
    """Query parameters; others are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    @classmethod
    def read(cls) -> Self:
        """Validate those of the current request. Raises BadRequest."""
        return cls.of(request.args)

    @classmethod
    def of(cls, args: MultiDict[str, str]) -> Self:
        return cls.model_validate(args.to_dict(), context=TEXT)


class Answer(BaseModel):
    """An object of an answer, with all of these members and no others."""

    model_config = ConfigDict(
        json_schema_extra={"additionalProperties": False},
        json_schema_serialization_defaults_required=True,
        serialize_by_alias=True,
        validate_by_name=True,
    )

    @classmethod
    def of(cls, source: object, **more: Any) -> Self:
        """Return an object with the values in `more`, the others from the attributes of `source`."""
        return cls.model_validate({name: getattr(source, name) for name in cls.model_fields if name not in more} | more)

    def response(self, status: int = 200, location: str | None = None) -> Response:
        response = jsonify(self.model_dump())
        response.status_code = status
        if location:
            response.location = location
        return response


@dataclass(frozen=True, eq=False)
class ErrorCodes:
    """Annotate a type whose validator raises BadRequest itself: its statuses and codes."""

    codes: Codes


@dataclass(frozen=True)
class RejectWith:
    """Annotate a type: the error for a value that does not fit; its sentence may contain {field} and {value}."""

    code: str
    sentence: str

    @property
    def codes(self) -> Codes:
        return {400: [self.code]}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return with_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return check(value)
        except ValidationError:
            shown = (value if isinstance(value, str) else repr(value))[:MOST_QUOTED]
            sentence = self.sentence.format(field=info.field_name, value=shown)
            raise BadRequest(400, self.code, sentence[:1].upper() + sentence[1:], info.field_name) from None


@dataclass(frozen=True)
class SchemaOf:
    """Annotate a type whose values were validated when they were stored: the type that describes them."""

    kind: Any

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(TypeAdapter(self.kind).core_schema)


@dataclass(frozen=True)
class File:
    """An answer in one of these media types other than JSON."""

    mimetypes: tuple[str, ...]


def _number(value: Any, info: ValidationInfo) -> Any:
    """Convert text of decimal digits to a number; leave anything else to be refused."""
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MOST_DECIMALS
    return int(value) if info.context == TEXT and is_number else value


def _checkbox(value: Any, info: ValidationInfo) -> Any:
    """Convert a form's checkbox to a boolean; leave anything else to be refused."""
    return {"": False, "0": False, "1": True}.get(value, value) if info.context == TEXT else value


FROM_TEXT = BeforeValidator(_number)
FROM_CHECKBOX = BeforeValidator(_checkbox)

Count = Annotated[int, Field(ge=0)]
CorrectionState = Annotated[
    ReviewState, RejectWith("bad_state", f"The state must be one of {', '.join(REVIEW_STATES)}.")
]
RowId = Annotated[int, Field(ge=1, le=BIGGEST_ROW_ID), FROM_TEXT]
Share = Annotated[float, Field(ge=0, le=1)]
Timestamp = Annotated[float, Field(description="Seconds since 1970, UTC.")]
Digit = Annotated[int, Field(ge=0, lt=DIGITS)]
Url = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]
PngUrl = Annotated[str, Field(pattern="^data:image/png;base64,")]
# "v7" from the id 7.
VersionName = Annotated[
    str, Field(pattern="^v[1-9][0-9]*$"), BeforeValidator(lambda of: f"v{of}" if isinstance(of, int) else of)
]
# From a code with its numbers, as stored in the database.
Sentence = Annotated[str, BeforeValidator(worded)]
# From a label's number.
Label = Annotated[Digit | Literal["not_a_digit"], BeforeValidator(label_to_json)]


class Problem(TypedDict):
    code: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    message: str


class Error(TypedDict):
    """A refusal: a code for programs, a sentence for people."""

    error: Problem
