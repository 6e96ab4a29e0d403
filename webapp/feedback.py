"""Corrections as their authors see them: sending one, its receipt, and deleting it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request, url_for
from sqlalchemy import select

from model import picture as road
from model.weights import WeightsError
from webapp.correction_picture import redrawn
from webapp.corrections import NOT_A_DIGIT, image_of, named
from webapp.data_urls import data_url, picture_bytes, png_url
from webapp.database import NO_DIGIT, Correction, Run, RunCorrection
from webapp.edge import note
from webapp.errors import answer, wants_page
from webapp.exceptions import BadRequest
from webapp.json_body import json_object
from webapp.live import NoChampion
from webapp.reading_json import reading_as_json
from webapp.services import services

# What a reading says that is the same for everybody, or can be made again from the digit image.
NOT_KEPT = ("coverage", "digit_image")
NO_RECEIPT = "There is no drawing at this address. It was deleted, or the address is not complete."

blueprint = Blueprint("feedback", __name__)


@blueprint.post("/feedback")
def send() -> Response:
    """Keeps the picture in `{"image": "data:image/png;base64,...", "meant": 7}` with what it is read as here and now.

    `meant` is 0 to 9 or "not_a_digit"; what the page claims to have been answered is not asked for.
    """
    body = json_object()
    meant = _label(body.get("meant"))
    image_type, data = picture_bytes(body.get("image"))
    picture = road.open_picture(data, formats=(image_type,))
    recognizer = services().live.recognizer()
    reading = recognizer.recognize(picture)
    note(version=recognizer.version, verdict=reading.verdict)
    if reading.digit_image is None:
        raise BadRequest(400, "blank_picture", "There is nothing drawn on the picture.")
    answered = reading_as_json(reading)
    kept = services().corrections.add(
        redrawn(picture),
        reading.digit_image,
        meant,
        {name: value for name, value in answered.items() if name not in NOT_KEPT},
        int(recognizer.version.removeprefix("v")),
        request.remote_addr,
    )
    response = jsonify(_as_json(kept.correction, kept.secret))
    response.status_code = 201 if kept.is_new else 200
    response.location = url_for(".receipt", secret=kept.secret)
    return _private(response)


@blueprint.get("/receipts/<secret>")
def receipt(secret: str) -> Response:
    """What became of the correction whose receipt has this secret."""
    correction = services().corrections.by_receipt(secret)
    if correction is None:
        return _gone(NO_RECEIPT, 404)
    known = {
        "used": _used(correction),
        "now": _read_now(correction),
        "picture": data_url(correction.picture),
        "digit_image": png_url(image_of(correction)),
    }
    if not wants_page():
        return _private(jsonify(_as_json(correction, secret) | known))
    return _private(Response(render_template("receipt.html", correction=correction, secret=secret, **known)))


@blueprint.post("/receipts/<secret>/delete", endpoint="delete_by_form")
@blueprint.delete("/receipts/<secret>")
def delete(secret: str) -> Response:
    """Deletes the correction for good; whoever knows the secret may."""
    correction = services().corrections.by_receipt(secret)
    if correction is None:
        return _gone(NO_RECEIPT, 404)
    services().corrections.delete(correction.id)
    if not wants_page():
        return _private(Response(status=204))
    return _gone("Your drawing is deleted, and everything that was kept with it.", 200)


def _label(meant: Any) -> int:
    if meant == NOT_A_DIGIT:
        return NO_DIGIT
    if type(meant) is not int or not 0 <= meant < NO_DIGIT:
        raise BadRequest(400, "no_meaning", 'The request must have "meant": a digit from 0 to 9, or "not_a_digit".')
    return meant


def _as_json(correction: Correction, secret: str) -> dict[str, Any]:
    return {
        "receipt": url_for(".receipt", secret=secret),
        "created_at": correction.created_at,
        "meant": named(correction.meant),
        "state": correction.state,
        "label": named(correction.label),
        "reason": correction.reason,
        "held_out": correction.held_out,
        "version": correction.version_id and f"v{correction.version_id}",
        "answered": correction.answered,
    }


def _used(correction: Correction) -> list[dict[str, str]]:
    """The versions that learnt from a correction or, held out, were compared by it; a twin's are its first's."""
    with services().database.reading() as session:
        found = session.execute(
            select(Run.version_id, Correction.held_out)
            .join(RunCorrection, RunCorrection.run_id == Run.id)
            .join(Correction, Correction.id == RunCorrection.correction_id)
            .where(Correction.id == (correction.twin_of or correction.id), Run.version_id.is_not(None))
            .order_by(Run.version_id)
        ).all()
    return [{"version": f"v{row.version_id}", "for": "comparison" if row.held_out else "training"} for row in found]


def _read_now(correction: Correction) -> dict[str, Any] | None:
    """How the version that answers now reads the digit image; None where none can."""
    try:
        recognizer = services().live.recognizer()
        reading = reading_as_json(recognizer.read(image_of(correction))) | {"version": recognizer.version}
    except (NoChampion, WeightsError):
        return None
    return {name: value for name, value in reading.items() if name not in ("coverage", "digit_image")}


def _gone(message: str, status: int) -> Response:
    """What an address answers whose drawing is not, or no longer, there."""
    if not wants_page():
        return _private(answer(status, "no_receipt", message))
    return _private(Response(render_template("receipt_gone.html", message=message, deleted=status == 200), status))


def _private(response: Response) -> Response:
    """Only for whoever has the address: kept by no cache and no search engine, and told to no other page."""
    response.cache_control.no_store = True
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
