"""What the classes of requests and answers are made of, which stand beside the routes that take and give them.

pydantic checks by them and describes them at /openapi.json. A value that does not fit its type is answered with the
code and the sentence that stand beside the type (`Otherwise`).
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
# The context of values that came as text, in a form or an address.
TEXT = "text"
LONGEST_SHOWN = 40
MOST_FIGURES = 11


class Request(BaseModel):
    """A JSON object, which may have more members than these."""

    model_config = ConfigDict(strict=True, frozen=True)
    mimetype: ClassVar[str] = "application/json"
    refuses: ClassVar[Codes] = {
        400: ["not_json", "not_an_object"], 411: ["length_required"], 413: ["body_too_large"], 415: ["not_json"],
    }  # fmt: skip

    @classmethod
    def read(cls) -> Self:
        """Read the body of the request under way. Raises BadRequest."""
        return cls.model_validate(json_object())

    @model_validator(mode="before")
    @classmethod
    def _fill_missing(cls, sent: dict[str, Any]) -> dict[str, Any]:
        """Put null in place of what is missing, so that its own sentence refuses it."""
        return {name: None for name, field in cls.model_fields.items() if field.is_required()} | sent


class Fields(Request):
    """A JSON object or a form with these fields and no others; nothing at all is an object without members."""

    model_config = ConfigDict(extra="forbid")
    refuses = Request.refuses | {
        400: ["not_json", "not_an_object", "bad_form", "unknown_field"], 415: ["not_json", "unsupported_media_type"],
    }  # fmt: skip

    @classmethod
    def read(cls) -> Self:
        return cls.model_validate(fields(*cls.model_fields), context=None if request.is_json else TEXT)


class NoFields(Fields):
    """Nothing: an empty object, or an empty form."""


class Upload(Request):
    """A form with a file."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    mimetype = "multipart/form-data"
    refuses = {411: ["length_required"], 413: ["file_too_large"]}

    @classmethod
    def read(cls) -> Self:
        return cls.model_validate(request.files.to_dict())


class Query(BaseModel):
    """The parameters of an address, among others that do not count."""

    model_config = ConfigDict(strict=True, frozen=True)

    @classmethod
    def read(cls) -> Self:
        """Read those of the request under way. Raises BadRequest."""
        return cls.of(request.args)

    @classmethod
    def of(cls, args: MultiDict[str, str]) -> Self:
        return cls.model_validate(args.to_dict(), context=TEXT)


class Answer(BaseModel):
    """An object of an answer: all of these members and no others."""

    model_config = ConfigDict(
        json_schema_extra={"additionalProperties": False},
        json_schema_serialization_defaults_required=True,
        serialize_by_alias=True,
        validate_by_name=True,
    )

    @classmethod
    def of(cls, source: object, **more: Any) -> Self:
        """Make one of the attributes of `source`, and of `more` where that has another value."""
        return cls.model_validate({name: getattr(source, name) for name in cls.model_fields if name not in more} | more)

    def response(self, status: int = 200, location: str | None = None) -> Response:
        response = jsonify(self.model_dump())
        response.status_code = status
        if location:
            response.location = location
        return response


@dataclass(frozen=True, eq=False)
class Refuses:
    """Beside a type that raises BadRequest itself: with which statuses and codes it may."""

    codes: Codes


@dataclass(frozen=True)
class Otherwise:
    """Beside a type: how a value is refused that does not fit; the sentence may name the {field} and the {value}."""

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
            shown = (value if isinstance(value, str) else repr(value))[:LONGEST_SHOWN]
            sentence = self.sentence.format(field=info.field_name, value=shown)
            raise BadRequest(400, self.code, sentence[:1].upper() + sentence[1:]) from None


@dataclass(frozen=True)
class DescribedAs:
    """Beside a type whose values were checked when they were stored: what they are described as."""

    kind: Any

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(TypeAdapter(self.kind).core_schema)


@dataclass(frozen=True)
class File:
    """An answer that is no JSON, of one of these media types."""

    mimetypes: tuple[str, ...]


def _number(value: Any, info: ValidationInfo) -> Any:
    """Take plain decimal digits for a number where it came as text; anything else is left to be refused."""
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MOST_FIGURES
    return int(value) if info.context == TEXT and is_number else value


def _tick(value: Any, info: ValidationInfo) -> Any:
    """Take a form's box for true where it is ticked."""
    return {"": False, "0": False, "1": True}.get(value, value) if info.context == TEXT else value


FROM_TEXT = BeforeValidator(_number)
# Of a box in a form.
FROM_BOX = BeforeValidator(_tick)

Count = Annotated[int, Field(ge=0)]
CorrectionState = Annotated[
    ReviewState, Otherwise("bad_state", f"The state must be one of {', '.join(REVIEW_STATES)}.")
]
RowId = Annotated[int, Field(ge=1, le=BIGGEST_ROW_ID), FROM_TEXT]
Share = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[float, Field(description="Seconds since 1970, UTC.")]
Digit = Annotated[int, Field(ge=0, lt=DIGITS)]
Address = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]
PngUrl = Annotated[str, Field(pattern="^data:image/png;base64,")]
# Of the version with a number.
VersionName = Annotated[
    str, Field(pattern="^v[1-9][0-9]*$"), BeforeValidator(lambda of: f"v{of}" if isinstance(of, int) else of)
]
# The sentence of what is stored as a code with its numbers.
Worded = Annotated[str, BeforeValidator(worded)]
# Of a label.
Meaning = Annotated[Digit | Literal["not_a_digit"], BeforeValidator(label_to_json)]


class Problem(TypedDict):
    code: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    message: str


class Error(TypedDict):
    """A refusal: a code for programs, a sentence for people."""

    error: Problem
