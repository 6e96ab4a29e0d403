"""Corrections as their authors see them: sending one, its receipt, and deleting it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Blueprint, Response, render_template, request, url_for
from pydantic import ConfigDict, Field
from sqlalchemy import select

from model.imaging import picture as road
from model.inference.weights import WeightsError
from webapp.corrections.picture import redraw
from webapp.corrections.store import NOT_A_DIGIT, image_of, label_from_json
from webapp.exceptions import BadRequest
from webapp.http.errors import answer, unstored, wants_page
from webapp.http.messages import (
    Address,
    Answer,
    DescribedAs,
    Digit,
    Meaning,
    Moment,
    Otherwise,
    PngUrl,
    Request,
    VersionName,
)
from webapp.http.openapi import Codes, Operation
from webapp.http.pictures import SEVEN, Picture
from webapp.middleware.access_log import annotate_request
from webapp.presentation.data_urls import data_url, png_url
from webapp.services import services
from webapp.storage.schema import Correction, ReviewState, Run, RunCorrection
from webapp.versions.active import NoChampion
from webapp.views.readings import KeptReading, ReadingNow, to_keep

NO_RECEIPT = "There is no drawing at this address. It was deleted, or the address is not complete."

blueprint = Blueprint("feedback", __name__)


class SentCorrection(Request):
    """A picture, and what was meant by it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SEVEN, "meant": 7}, {"image": SEVEN, "meant": NOT_A_DIGIT}]}
    )

    meant: Annotated[
        Digit | Literal["not_a_digit"],
        Otherwise("no_meaning", 'The request must have "meant": a digit from 0 to 9, or "not_a_digit".'),
    ]
    image: Picture


class NothingRead(Answer):
    """Of an imported digit, which nothing has read."""


class Sent(Answer):
    """A correction as its author sees it."""

    receipt: Annotated[Address, Field(description="Whoever knows it may look, and delete.")]
    created_at: Moment
    meant: Meaning
    state: ReviewState
    label: Annotated[Meaning, Field(description="What the review made of it.")]
    reason: str | None
    held_out: Annotated[bool, Field(description="Never learnt from: versions are compared by it.")]
    version: VersionName | None
    answered: Annotated[dict[str, Any], DescribedAs(KeptReading | NothingRead)]


class Use(Answer):
    version: VersionName
    what_for: Annotated[Literal["training", "comparison"], Field(alias="for")]


class Receipt(Sent):
    """What became of a correction."""

    used: list[Use]
    now: ReadingNow | None
    picture: PngUrl
    digit_image: PngUrl


Secret = Annotated[str, Field(min_length=1, examples=["0" * 40])]
NO_SUCH: Codes = {404: ["no_receipt"], 503: ["database"]}


@blueprint.post("/feedback")
@Operation(
    "send_correction",
    {200: Sent, 201: Sent},
    takes=SentCorrection,
    refuses={400: ["blank_picture"], 429: ["too_many_corrections"], 503: ["no_version", "database"]},
)
def send() -> Response:
    """Keep a drawing with what was meant by it.

    The answer is 200 where the same drawing was there; with another meaning, that is put right.
    """
    sent = SentCorrection.read()
    image_type, data = sent.image
    picture = road.open_picture(data, formats=(image_type,))
    recognizer = services().active_model.recognizer()
    reading = recognizer.recognize(picture)
    annotate_request(version=recognizer.version, verdict=reading.verdict)
    if reading.digit_image is None:
        raise BadRequest(400, "blank_picture", "There is nothing drawn on the picture.")
    kept = services().corrections.add(
        redraw(picture),
        reading.digit_image,
        label_from_json(sent.meant),
        dict(to_keep(reading)),
        int(recognizer.version.removeprefix("v")),
        request.remote_addr,
    )
    url = url_for(".receipt", secret=kept.secret)
    answered = Sent.of(kept.correction, receipt=url, version=kept.correction.version_id)
    return _private(answered.response(201 if kept.is_new else 200, location=url))


@blueprint.get("/receipts/<secret>")
@Operation("receipt", {200: Receipt}, refuses=NO_SUCH)
def receipt(secret: Secret) -> Response:
    """Tell what became of a correction."""
    correction = services().corrections.find_by_receipt(secret)
    if correction is None:
        return _gone(NO_RECEIPT, 404)
    told = Receipt.of(
        correction,
        receipt=url_for(".receipt", secret=secret),
        version=correction.version_id,
        used=_used(correction),
        now=_read_now(correction),
        picture=data_url(correction.picture),
        digit_image=png_url(image_of(correction)),
    )
    if not wants_page():
        return _private(told.response())
    shown = told.model_dump(include={"used", "now", "picture", "digit_image"})
    return _private(Response(render_template("receipts/receipt.html", correction=correction, secret=secret, **shown)))


@blueprint.delete("/receipts/<secret>")
@Operation("delete_correction", {204: None}, refuses=NO_SUCH)
def delete(secret: Secret) -> Response:
    """Delete a correction for good, and everything that was kept with it."""
    correction = services().corrections.find_by_receipt(secret)
    if correction is None:
        return _gone(NO_RECEIPT, 404)
    services().corrections.delete(correction.id)
    if not wants_page():
        return _private(Response(status=204))
    return _gone("Your drawing is deleted, and everything that was kept with it.", 200)


@blueprint.post("/receipts/<secret>/delete")
@Operation("delete_correction_by_form", {204: None}, refuses=NO_SUCH)
def delete_by_form(secret: Secret) -> Response:
    """Do the same, as the receipt's button asks."""
    return delete(secret)


def _used(correction: Correction) -> list[Use]:
    """The versions that learnt from a correction or, held out, were compared by it; a duplicate's are its first's."""
    with services().database.reading() as session:
        found = session.execute(
            select(Run.version_id, Correction.held_out)
            .join(RunCorrection, RunCorrection.run_id == Run.id)
            .join(Correction, Correction.id == RunCorrection.correction_id)
            .where(Correction.id == (correction.duplicate_of or correction.id), Run.version_id.is_not(None))
            .order_by(Run.version_id)
        ).all()
    return [Use(version=row.version_id, what_for="comparison" if row.held_out else "training") for row in found]


def _read_now(correction: Correction) -> ReadingNow | None:
    """How the version that answers now reads the digit image; None where none can."""
    try:
        recognizer = services().active_model.recognizer()
        return {**to_keep(recognizer.read(image_of(correction))), "version": recognizer.version}
    except (NoChampion, WeightsError):
        return None


def _gone(message: str, status: int) -> Response:
    """What an address answers whose drawing is not, or no longer, there."""
    if not wants_page():
        return _private(answer(status, "no_receipt", message))
    return _private(Response(render_template("receipts/gone.html", message=message, deleted=status == 200), status))


def _private(response: Response) -> Response:
    """Only for whoever has the address: kept by no cache and no search engine, and told to no other page."""
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    response.headers["Referrer-Policy"] = "no-referrer"
    return unstored(response)
