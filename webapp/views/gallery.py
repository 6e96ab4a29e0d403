"""The gallery: the 10,000 test digits with a version's predictions, filtered and sorted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, Field, WithJsonSchema
from werkzeug.datastructures import MultiDict

from model.data.mnist import MnistMissing
from model.imaging.png import data_url, ink_png
from model.task import DIGITS, SIDE, TEST_DIGITS
from webapp.exceptions import BadRequest
from webapp.http.errors import error_response, no_store, row_or_404, wants_page
from webapp.http.messages import Answer, Query, RejectWith, RowId, Sentence, Share, VersionName
from webapp.http.openapi import Operation
from webapp.services import services
from webapp.storage.schema import BIGGEST_ROW_ID, Version, champion_id
from webapp.versions.active import NoChampion
from webapp.versions.artifacts import RETRY_SECONDS
from webapp.versions.test_predictions import ORDERS, OUTCOMES, NotComputed, Order, Outcome, VersionPredictions

PER_ROW = 10
PER_PAGE = PER_ROW * PER_ROW
FOR_EVER = 365 * 24 * 3600
LEVELS = 5
POLL_SECONDS = 1

blueprint = Blueprint("gallery", __name__, url_prefix="/gallery")


DIGIT_CHOICES = {str(digit): digit for digit in range(DIGITS)}
NUMBER = RejectWith("bad_view", "{field!r} must be a whole number from 1 on, not {value!r}.")
NUMBER_OR_EMPTY = WithJsonSchema(
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": BIGGEST_ROW_ID}, {"const": "", "type": "string"}]}
)


def _one_of(choices: Iterable[str]) -> RejectWith:
    return RejectWith("bad_view", f"{{field!r}} must be one of {', '.join(choices)}, not {{value!r}}.")


def _or_empty(choices: Iterable[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": ["", *choices]})


DigitChoice = Annotated[
    int | None,
    BeforeValidator(lambda text: DIGIT_CHOICES.get(text, text)),
    _one_of(DIGIT_CHOICES),
    _or_empty(DIGIT_CHOICES),
]


class View(Query):
    """The selection of pictures in a URL, which omits the parameters that are None and page 1."""

    true: Annotated[DigitChoice, Field(description="Only digits with this label.")] = None
    predicted: Annotated[DigitChoice, Field(description="Only digits predicted as this one.")] = None
    outcome: Annotated[
        Outcome | None, _one_of(OUTCOMES), _or_empty(OUTCOMES), Field(description="Only digits with this outcome.")
    ] = None
    order: Annotated[Order | None, _one_of(ORDERS), _or_empty(ORDERS), Field(description="Order by confidence.")] = None
    version: Annotated[
        RowId | None, NUMBER, NUMBER_OR_EMPTY,
        Field(description="The version of the predictions; by default the one in service."),
    ] = None  # fmt: skip
    page: Annotated[RowId, NUMBER, NUMBER_OR_EMPTY, Field(description="The page of the gallery.")] = 1

    @classmethod
    def of(cls, args: MultiDict[str, str]) -> Self:
        for name in cls.model_fields:
            if len(args.getlist(name)) > 1:
                raise BadRequest(400, "bad_view", f"{name!r} is given more than once.")
        return super().of(MultiDict((name, value) for name, value in args.items() if value))  # empty values are as none

    def replace(self, **changes: Any) -> Self:
        return self.model_copy(update=changes)

    def query(self, **changes: Any) -> dict[str, Any]:
        """Return the URL parameters of this view with `changes`, which lead to the first page unless they set one."""
        values = dict(self) | ({"page": 1} | changes if changes else {})
        return {name: value for name, value in values.items() if value is not None and (name, value) != ("page", 1)}

    def select(self, readings: VersionPredictions) -> np.ndarray:
        return readings.select(self.true, self.predicted, self.outcome, self.order)


@dataclass(frozen=True)
class Picture:
    """A test digit with its prediction; `place` is its position in the sprite, from 0."""

    index: int
    true: int
    predicted: int
    confidence: float
    place: int

    @property
    def is_right(self) -> bool:
        return self.true == self.predicted

    @property
    def view_box(self) -> str:
        row, column = divmod(self.place, PER_ROW)
        return f"{column * SIDE} {row * SIDE} {SIDE} {SIDE}"


@dataclass(frozen=True)
class Page:
    """A page of the pictures that a view selects; `number` counts from 1, and `total` is the number of pictures."""

    number: int
    count: int
    total: int
    indexes: np.ndarray

    @classmethod
    def of(cls, selected: np.ndarray, number: int) -> Page:
        """Return page `number` of the pictures with the indexes `selected`; without any, the one page is empty.

        Raises NotFound beyond the last page.
        """
        count = max(1, math.ceil(len(selected) / PER_PAGE))
        if number > count:
            abort(404)
        return cls(number, count, len(selected), selected[(number - 1) * PER_PAGE : number * PER_PAGE])

    @property
    def first(self) -> int:
        return (self.number - 1) * PER_PAGE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.indexes) - 1

    @property
    def neighbours(self) -> list[int | None]:
        """The page numbers to link: the ends and those around this page, with None for a gap."""
        near = range(self.number - 1, self.number + 2)
        shown = sorted({1, self.count, *(number for number in near if 1 <= number <= self.count)})
        linked: list[int | None] = []
        for before, number in zip([0, *shown], shown, strict=False):
            if number > before + 1:
                # Link a single page instead of a gap in its place.
                linked.append(number - 1 if number == before + 2 else None)
            linked.append(number)
        return linked


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Show a page of pictures with the version's figures."""
    view = View.read()
    if request.args.to_dict() != {name: str(value) for name, value in view.query().items()}:
        return redirect(url_for(".index", **view.query()), 302)
    version, champion = _version(view)
    readings = services().predictions.readings(version.id)
    page = Page.of(view.select(readings), view.page)
    return render_template(
        "gallery/index.html",
        page="gallery",
        view=view,
        version=version,
        champion=champion,
        report=readings.report,
        shown=page,
        pictures=[_picture(readings, int(number), place) for place, number in enumerate(page.indexes)],
        sprite_url=url_for(
            ".sprite", version_id=version.id, digest=readings.digest, **view.replace(version=None).query()
        ),
        levels=confusion_levels(readings.report.confusion),
    )


@blueprint.get("/<int:number>")
def picture(number: int) -> ResponseReturnValue:
    """Show a picture with its ten probabilities and links to its neighbours in the view."""
    view = View.read().replace(page=1)
    if number >= TEST_DIGITS:
        abort(404)
    version, champion = _version(view)
    readings = services().predictions.readings(version.id)
    selected = view.select(readings)
    place = np.flatnonzero(selected == number)
    if len(place) == 0:
        # Not in the view, such as after a promotion changed the predictions: show the picture among all.
        return redirect(url_for(".picture", number=number, version=view.version), 302)
    at = int(place[0])
    return render_template(
        "gallery/picture.html",
        page="gallery",
        view=view,
        version=version,
        champion=champion,
        picture=_picture(readings, number),
        image_url=data_url(ink_png(services().predictions.images()[number])),
        probabilities=readings.probabilities[number].tolist(),
        place=at + 1,
        total=len(selected),
        previous=int(selected[at - 1]) if at > 0 else None,
        following=int(selected[at + 1]) if at + 1 < len(selected) else None,
        list_page=at // PER_PAGE + 1,
    )


@blueprint.get(f"/sprite/<int(max={BIGGEST_ROW_ID}):version_id>-<string(length=12):digest>.png")
def sprite(version_id: int, digest: str) -> Response:
    """Answer with a page's pictures in one PNG: ten a row, 28 x 28 pixels each, the ink's amount in the alpha channel.

    The URL has a digest of the predictions, so that its answer never changes.
    """
    view = View.read()
    try:
        readings = services().predictions.readings(_version(view.replace(version=version_id))[0].id)
    except NotComputed:
        abort(404)
    if digest != readings.digest:
        abort(404)
    page = Page.of(view.select(readings), view.page)
    response = Response(ink_png(sheet(services().predictions.images()[page.indexes])), mimetype="image/png")
    response.cache_control.public = True
    response.cache_control.immutable = True
    response.cache_control.max_age = FOR_EVER
    return response


class Progress(Answer):
    """How far the predictions are, 0 to 1, and the error if they could not be computed."""

    version: VersionName
    fraction: Share
    ready: bool
    error: Sentence | None


@blueprint.get("/progress")
@Operation("gallery_progress", {200: Progress}, query=View, errors={
    404: ["not_found"], 503: ["no_mnist", "no_version", "database"],
})  # fmt: skip
def progress() -> Response:
    """Return how far a version's predictions of the test digits are.

    Takes the parameters of the gallery's pages, and ignores all but the version.
    """
    version, _ = _version(View.read())
    fraction, error = 1.0, None
    try:
        services().predictions.readings(version.id)
    except NotComputed as missing:
        fraction, error = missing.fraction, missing.error
    return no_store(Progress(version=version.name, fraction=fraction, ready=fraction == 1, error=error).response())


@blueprint.errorhandler(NotComputed)
def _computing(missing: NotComputed) -> Response:
    """Answer with a page that waits for the predictions."""
    view = View.read()
    version, _ = _version(view)
    page = render_template(
        "gallery/computing.html",
        page="gallery",
        view=view,
        version=version,
        missing=missing,
        total=TEST_DIGITS,
        poll_seconds=POLL_SECONDS,
        again_seconds=round(RETRY_SECONDS),
    )
    return no_store(Response(page))


@blueprint.errorhandler(MnistMissing)
def _no_mnist(missing: MnistMissing) -> Response:
    if not wants_page():
        return error_response(503, "no_mnist", str(missing))
    return no_store(Response(render_template("gallery/empty.html", page="gallery", reason=str(missing)), 503))


def confusion_levels(confusion: np.ndarray) -> list[list[int]]:
    """Return the shade of each cell of a confusion matrix (10, 10): 0 for none and on the diagonal, up to LEVELS.

    Logarithmic, relative to the largest off-diagonal count, so that a single picture is visible beside hundreds.
    """
    errors = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    strength = np.log(np.maximum(errors, 1)) / max(np.log(errors.max(initial=1)), 1.0e-9)
    return np.where(errors > 0, 1 + np.rint((LEVELS - 1) * strength), 0).astype(int).tolist()


def sheet(images: np.ndarray) -> np.ndarray:
    """Return up to 100 images, uint8 (n, 28, 28), as one, uint8 (280, 280), ten a row, the rest 0."""
    full = np.zeros((PER_PAGE, SIDE, SIDE), np.uint8)
    full[: len(images)] = images
    return full.reshape(PER_ROW, PER_ROW, SIDE, SIDE).swapaxes(1, 2).reshape(PER_ROW * SIDE, PER_ROW * SIDE)


def _picture(readings: VersionPredictions, number: int, place: int = 0) -> Picture:
    return Picture(
        index=number,
        true=int(readings.labels[number]),
        predicted=int(readings.predicted[number]),
        confidence=float(readings.confidence[number]),
        place=place,
    )


def _version(view: View) -> tuple[Version, int]:
    """Return the view's version, by default the champion, and the champion's id. Raises NoChampion or NotFound."""
    with services().database.reading() as session:
        champion = champion_id(session)
        if champion is None:
            raise NoChampion
        return row_or_404(session, Version, view.version or champion), champion
