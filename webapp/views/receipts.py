"""Corrections for their authors: sending one, its receipt, the list of one's own, and deletion."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, current_app, render_template, request, url_for
from pydantic import ConfigDict, Field
from sqlalchemy import select

from model.imaging.png import data_url, png_url
from model.imaging.writing import find_writing
from model.inference.weights import WeightsError
from webapp.corrections.picture import redraw
from webapp.corrections.store import MAX_LISTED, NOT_A_DIGIT, image_of, label_from_json
from webapp.exceptions import BadRequest
from webapp.http.errors import error_response, no_store, wants_page
from webapp.http.messages import (
    Answer,
    Digit,
    Label,
    PngUrl,
    RejectWith,
    Request,
    SchemaOf,
    Timestamp,
    Url,
    VersionName,
)
from webapp.http.openapi import Codes, Operation
from webapp.http.pictures import MAX_BODY_BYTES, SEVEN, Picture
from webapp.http.restrictions import require_corrections
from webapp.middleware.access_log import annotate_request
from webapp.services import services
from webapp.storage.schema import Correction, ReviewState, Run, RunCorrection, Version
from webapp.versions.active import NoChampion
from webapp.views.readings import KeptReading, ReadingNow, to_keep

NO_RECEIPT = "There is no drawing at this address. It was deleted, or the address is not complete."

# 128 bits, as `secrets.token_urlsafe` writes them.
TOKEN_BYTES = 16
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")

blueprint = Blueprint("feedback", __name__)


class SentCorrection(Request):
    """A picture and the label that its author meant."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SEVEN, "meant": 7}, {"image": SEVEN, "meant": NOT_A_DIGIT}]}
    )

    meant: Annotated[
        Digit | Literal["not_a_digit"],
        RejectWith("no_meaning", 'The request must have "meant": a digit from 0 to 9, or "not_a_digit".'),
    ]
    image: Picture


class NothingRead(Answer):
    """The empty reading of an imported digit."""


class Sent(Answer):
    """A correction as its author sees it."""

    receipt: Annotated[Url, Field(description="A secret address, which gives access to read and delete.")]
    created_at: Timestamp
    meant: Label
    state: ReviewState
    label: Annotated[Label, Field(description="The label after review.")]
    reason: str | None
    held_out: Annotated[bool, Field(description="Used to compare versions, never to train one.")]
    version: VersionName | None
    answered: Annotated[dict[str, Any], SchemaOf(KeptReading | NothingRead)]


class SentWithPicture(Sent):
    picture: PngUrl


class OwnCorrections(Answer):
    """The corrections that a browser has sent, latest first."""

    corrections: Annotated[list[SentWithPicture], Field(max_length=MAX_LISTED)]


class Use(Answer):
    version: VersionName
    what_for: Annotated[Literal["training", "comparison"], Field(alias="for")]


class Receipt(Sent):
    """A correction with the versions that used it and the current version's reading."""

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
    body=SentCorrection,
    errors={
        400: ["blank_picture"],
        403: ["corrections_off"],
        429: ["too_many_corrections"],
        503: ["no_version", "database"],
    },
)
def send() -> Response:
    """Store a picture with the label that its author meant.

    A cookie identifies the browser until it is closed. Answers 200 if the browser has sent the picture before; a
    different label replaces the earlier one until it is reviewed. Without the cookie each picture is a new correction.
    """
    require_corrections()
    request.max_content_length = MAX_BODY_BYTES
    sent = SentCorrection.read()
    writing = find_writing(sent.image)
    classifier = services().active_model.classifier()
    reading = classifier.predict_digit_image(writing.digit_image())
    annotate_request(version=classifier.version, verdict=reading.verdict)
    if writing.ink is None or reading.digit_image is None:
        raise BadRequest(400, "blank_picture", "There is nothing drawn on the picture.")
    known_browser = _browser()
    browser = known_browser or secrets.token_urlsafe(TOKEN_BYTES)
    kept = services().corrections.add(
        redraw(writing.ink),
        reading.digit_image,
        label_from_json(sent.meant),
        dict(to_keep(reading)),
        int(classifier.version.removeprefix("v")),
        request.remote_addr,
        browser,
        known_browser is not None,
    )
    url = url_for(".receipt", secret=kept.secret)
    answered = Sent.of(kept.correction, receipt=url, version=kept.correction.version_id)
    response = _private(answered.response(201 if kept.is_new else 200, location=url))
    return _keep(browser, response)


@blueprint.get("/receipts")
@Operation("own_corrections", {200: OwnCorrections}, errors={503: ["database"]})
def index() -> Response:
    """List the latest corrections that this browser has sent since it was opened, by the cookie of the first."""
    browser = _browser()
    own = [] if browser is None else services().corrections.find_by_browser(browser)
    if not wants_page():
        corrections = [
            SentWithPicture.of(
                correction,
                receipt=url_for(".receipt", secret=secret),
                version=correction.version_id,
                picture=data_url(correction.picture),
            )
            for correction, secret in own
        ]
        # The drawing page asks before it first sends: a correction whose answer is lost is found when sent again.
        token = browser or secrets.token_urlsafe(TOKEN_BYTES)
        return _keep(token, _private(OwnCorrections(corrections=corrections).response()))
    shown = [(correction, secret, data_url(correction.picture)) for correction, secret in own]
    return _private(Response(render_template("receipts/index.html", page="drawings", own=shown, most=MAX_LISTED)))


@blueprint.get("/receipts/<secret>")
@Operation("receipt", {200: Receipt}, errors=NO_SUCH)
def receipt(secret: Secret) -> Response:
    """Return what became of a correction."""
    correction = services().corrections.find_by_receipt(secret)
    if correction is None:
        return _gone(NO_RECEIPT, 404)
    answered = Receipt.of(
        correction,
        receipt=url_for(".receipt", secret=secret),
        version=correction.version_id,
        used=_used(correction),
        now=_read_now(correction),
        picture=data_url(correction.picture),
        digit_image=png_url(image_of(correction)),
    )
    if not wants_page():
        return _private(answered.response())
    shown = answered.model_dump(include={"used", "now", "picture", "digit_image"})
    return _private(Response(render_template("receipts/receipt.html", correction=correction, secret=secret, **shown)))


@blueprint.delete("/receipts/<secret>")
@Operation("delete_correction", {204: None}, errors=NO_SUCH)
def delete(secret: Secret) -> Response:
    """Delete a correction and everything stored with it."""
    correction = services().corrections.find_by_receipt(secret)
    if correction is None:
        return _gone(NO_RECEIPT, 404)
    services().corrections.delete(correction.id)
    if not wants_page():
        return _private(Response(status=204))
    return _gone("Your drawing is deleted, and everything that was kept with it.", 200)


@blueprint.post("/receipts/<secret>/delete")
@Operation("delete_correction_by_form", {204: None}, errors=NO_SUCH)
def delete_by_form(secret: Secret) -> Response:
    """Delete a correction, by the form of the receipt's page."""
    return delete(secret)


def _keep(browser: str, response: Response) -> Response:
    """Give a new browser its token."""
    if _browser() is None:
        secure, path = current_app.config["SESSION_COOKIE_SECURE"], current_app.config["APPLICATION_ROOT"]
        # Without Max-Age it ends with the browser's session: the next person at a shared tablet starts anew.
        response.set_cookie(_cookie_name(), browser, path=path, secure=secure, httponly=True, samesite="Lax")
    return response


def _browser() -> str | None:
    """Return the token of the browser that sends the request; None for a new one."""
    token = request.cookies.get(_cookie_name(), "")
    return token if TOKEN.fullmatch(token) else None


def _cookie_name() -> str:
    return f"{current_app.config['SESSION_COOKIE_NAME']}-browser"


def _used(correction: Correction) -> list[Use]:
    """Return the versions trained with a correction or, if held out, compared by it; a duplicate's are its first's."""
    with services().database.reading() as session:
        found = session.execute(
            select(Run.version_id, Correction.held_out)
            .join(RunCorrection, RunCorrection.run_id == Run.id)
            .join(Correction, Correction.id == RunCorrection.correction_id)
            .join(Version, Version.id == Run.version_id)
            .where(Correction.id == (correction.duplicate_of or correction.id), Version.removed_at.is_(None))
            .order_by(Run.version_id)
        ).all()
    return [Use(version=row.version_id, what_for="comparison" if row.held_out else "training") for row in found]


def _read_now(correction: Correction) -> ReadingNow | None:
    """Return the champion's reading of the digit image; None without a usable champion."""
    try:
        classifier = services().active_model.classifier()
        return {**to_keep(classifier.predict_digit_image(image_of(correction))), "version": classifier.version}
    except (NoChampion, WeightsError):
        return None


def _gone(message: str, status: int) -> Response:
    """Answer for a correction that does not exist, or no longer."""
    if not wants_page():
        return _private(error_response(status, "no_receipt", message))
    return _private(Response(render_template("receipts/gone.html", message=message, deleted=status == 200), status))


def _private(response: Response) -> Response:
    """Keep a secret URL and its answer from caches, search engines and the Referer header."""
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    response.headers["Referrer-Policy"] = "no-referrer"
    return no_store(response)
