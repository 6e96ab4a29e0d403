"""Removal of corrections, versions and trainings, and the audit. A page asks before, and says what goes and stays."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from flask import Blueprint, Response, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.imaging.png import png_url
from webapp.corrections.store import image_of
from webapp.exceptions import BadRequest
from webapp.http.authentication import admin_required, csrf
from webapp.http.errors import no_store, refused_form, row_or_404, wants_page
from webapp.http.fields import form_fields
from webapp.http.messages import (
    FROM_CHECKBOX,
    TEXT,
    Answer,
    Count,
    Fields,
    NoFields,
    RejectWith,
    RowId,
    Timestamp,
    Url,
    VersionName,
)
from webapp.http.openapi import Operation
from webapp.presentation.wording import correction_count
from webapp.removal import versions
from webapp.removal.audit import AuditEntry
from webapp.removal.corrections import consequences, find_by_words, remove_corrections, sent_with
from webapp.removal.versions import StillNeeded
from webapp.services import services
from webapp.storage.schema import Correction, Removal, RemovalKind, Run, Version
from webapp.views.corrections import MOST_AT_ONCE, Refused, page_of_refused, queue_page_before
from webapp.views.versions import Before, latest

SHOWN = 48

log = logging.getLogger(__name__)

blueprint = Blueprint("removals", __name__, url_prefix="/admin")
blueprint.before_request(admin_required)


class ChosenCorrections(Fields):
    """Corrections by their ids, or one by its receipt; with `same_sender`, all from their browsers or files."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": [3]}, {"receipt": "7", "same_sender": True}]})

    ids: Annotated[
        list[Annotated[RowId, RejectWith("bad_removal", "The ids must be numbers of corrections.")]],
        Field(max_length=MOST_AT_ONCE),
        RejectWith("bad_removal", f"The ids must be a list of at most {MOST_AT_ONCE:,} numbers."),
    ] = []
    receipt: Annotated[
        Annotated[str, Field(max_length=500)] | None,
        Field(description="A receipt's address, its secret, or a correction's number."),
        RejectWith("bad_removal", "The receipt must be the text of its address, or the drawing's number."),
    ] = None
    same_sender: Annotated[bool, FROM_CHECKBOX, RejectWith("bad_removal", "{field} must be true or false.")] = False


class RemovalPreview(Answer):
    """What the removal of corrections would lead to."""

    ids: list[RowId]
    same_sender: Annotated[
        Count, Field(description="Corrections that came from the same browsers or files, these included.")
    ]
    duplicates: Annotated[Count, Field(description="Nearly identical ones, which stay and wait for review again.")]
    learnt: Annotated[list[VersionName], Field(description="Versions that learnt from them, and stay as they are.")]
    compared: Annotated[list[VersionName], Field(description="Versions that were compared by them.")]


class RemovedCorrections(Answer):
    removed: Count
    left: Annotated[Count, Field(description="Of the same senders, beyond those that one request removes.")]


class VersionRemoval(Answer):
    """What the removal of a version would lead to."""

    version: VersionName
    refused: Annotated[str | None, Field(description="Why it cannot be removed; null if it can.")]
    descendants: Annotated[list[VersionName], Field(description="Versions trained from it, which stay.")]


class RunRemoval(Answer):
    """What the removal of a training would lead to."""

    id: RowId
    refused: Annotated[str | None, Field(description="Why it cannot be removed; null if it can.")]


class Removed(Answer):
    removed: Annotated[bool, Field(description="False if somebody else was first.")]


class RemovalAnswer(Answer):
    at: Timestamp
    by: str
    kind: RemovalKind
    number: Annotated[int | None, Field(description="Of the version or training; of old, the days of the retention.")]
    counts: dict[str, Count]


class Removals(Answer):
    """A page of the audit of removals, the latest first."""

    removals: list[RemovalAnswer]
    next: Url | None


@blueprint.get("/removals")
@Operation("removals", {200: Removals}, query=Before)
def index() -> ResponseReturnValue:
    """List the removals, the latest first, fifty at a time."""
    before = Before.read().before
    with services().database.reading() as db:
        found, older = latest(db, Removal, before)
    if wants_page():
        return render_template("admin/removals.html", page="admin", removals=found, older=older, before=before)
    following = url_for(".index", before=older) if older else None
    return Removals(removals=[RemovalAnswer.of(one) for one in found], next=following).response()


@blueprint.post("/corrections/removal")
@Operation(
    "preview_removal",
    {200: RemovalPreview},
    body=ChosenCorrections,
    errors={400: ["nothing_chosen", "bad_removal"], 404: ["no_correction"]},
)
@csrf.exempt
def ask() -> ResponseReturnValue:
    """Tell what the removal of corrections would lead to, and change nothing."""
    try:
        with services().database.reading() as db:
            found = consequences(db, _chosen(db, _sent()))
            if not found.ids:
                raise BadRequest(404, "no_correction", "There is no such drawing, or not any more.")
            rows = db.scalars(select(Correction).where(Correction.id.in_(found.ids[:SHOWN])).order_by(Correction.id))
            pictures = [(row, png_url(image_of(row))) for row in rows]
    except BadRequest as error:
        return _refused(error)
    if wants_page():
        state = queue_page_before().state
        page = render_template(
            "admin/remove_corrections.html", page="admin", found=found, pictures=pictures, state=state
        )
        return no_store(Response(page))
    preview = found._asdict()
    return RemovalPreview(**preview | {"same_sender": preview.pop("of_senders")}).response()


@blueprint.post("/corrections/remove")
@Operation(
    "remove_corrections",
    {200: RemovedCorrections},
    body=ChosenCorrections,
    errors={400: ["nothing_chosen", "bad_removal"], 404: ["no_correction"]},
)
@csrf.exempt
def remove() -> ResponseReturnValue:
    """Remove corrections with all that was kept with them; versions that learnt from them stay as they are.

    Those that are gone already are no error. One request removes at most a thousand.
    """
    try:
        sent = _sent()
        with services().database.reading() as db:
            ids = _chosen(db, sent)
            if sent.same_sender:
                ids = list(sent_with(db, ids))
    except BadRequest as error:
        return _refused(error)
    left = max(0, len(ids) - MOST_AT_ONCE)
    removed = remove_corrections(services().database, ids[:MOST_AT_ONCE], AuditEntry(g.by, "corrections"))
    log.info("%s corrections removed by %s", removed, g.by)
    if wants_page():
        said = f"Removed: {correction_count(removed)}." + (
            f" {left:,} more of the same senders are left." if left else ""
        )
        flash(said, "removed")
        return redirect(url_for("review.index", state=queue_page_before().state), 303)
    return RemovedCorrections(removed=removed, left=left).response()


@blueprint.get("/versions/<int:version_id>/removal")
@Operation("preview_version_removal", {200: VersionRemoval})
def ask_version(version_id: RowId) -> ResponseReturnValue:
    """Tell what the removal of a version would lead to, or why it cannot be removed."""
    return _ask_version(version_id)


@blueprint.post("/versions/<int:version_id>/remove")
@Operation("remove_version", {200: Removed}, body=NoFields, errors={409: ["still_needed"]})
@csrf.exempt
def remove_version(version_id: RowId) -> ResponseReturnValue:
    """Remove a version that is not in service: weights, card, comparison, robustness, test predictions."""
    NoFields.read()
    with services().database.reading() as db:
        name = row_or_404(db, Version, version_id).name
    entry = AuditEntry(g.by, "version", version_id)
    try:
        removed = versions.remove_version(services().database, version_id, entry)
    except StillNeeded as error:
        return refused_form(error, lambda _: _ask_version(version_id).get_data(as_text=True))
    return _answer_removed(removed, name, "versions.index")


@blueprint.get("/runs/<int:run_id>/removal")
@Operation("preview_run_removal", {200: RunRemoval})
def ask_run(run_id: RowId) -> ResponseReturnValue:
    """Tell whether a training can be removed."""
    return _ask_run(run_id)


@blueprint.post("/runs/<int:run_id>/remove")
@Operation("remove_run", {200: Removed}, body=NoFields, errors={409: ["still_needed"]})
@csrf.exempt
def remove_run(run_id: RowId) -> ResponseReturnValue:
    """Remove a training that has ended and whose version, if it made one, is removed."""
    NoFields.read()
    with services().database.reading() as db:
        row_or_404(db, Run, run_id)
    try:
        removed = versions.remove_run(services().database, run_id, AuditEntry(g.by, "run", run_id))
    except StillNeeded as error:
        return refused_form(error, lambda _: _ask_run(run_id).get_data(as_text=True))
    return _answer_removed(removed, f"training {run_id}", "runs.index")


def _ask_version(version_id: int) -> Response:
    with services().database.reading() as db:
        found = row_or_404(db, Version, version_id)
        refused = _refusal(partial(versions.check_version, db, version_id))
        descendants = versions.descendants(db, version_id)
    if wants_page():
        shown = {"version": found, "refused": refused, "descendants": descendants}
        return no_store(Response(render_template("admin/remove_version.html", page="admin", **shown)))
    return VersionRemoval.of(found, version=found.name, refused=refused, descendants=descendants).response()


def _ask_run(run_id: int) -> Response:
    with services().database.reading() as db:
        found = row_or_404(db, Run, run_id)
        refused = _refusal(partial(versions.check_run, db, found))
    if wants_page():
        shown = {"run": found, "refused": refused}
        return no_store(Response(render_template("admin/remove_run.html", page="admin", **shown)))
    return RunRemoval(id=found.id, refused=refused).response()


def _refusal(check: Callable[[], None]) -> str | None:
    """Return why something cannot be removed; None if it can."""
    try:
        check()
    except StillNeeded as error:
        return str(error)
    return None


def _answer_removed(removed: bool, name: str, endpoint: str) -> ResponseReturnValue:
    if removed:
        log.info("%s removed by %s", name, g.by)
    if wants_page():
        return redirect(url_for(endpoint), 303)
    return Removed(removed=removed).response()


def _sent() -> ChosenCorrections:
    """Return the fields of the request; the review's form has others too. Raises BadRequest."""
    if request.is_json:
        return ChosenCorrections.read()
    form = form_fields(*ChosenCorrections.model_fields, "remove", "state", "page", "reason")
    sent: dict[str, Any] = {name: form[name] for name in ("receipt", "same_sender") if name in form}
    return ChosenCorrections.model_validate(sent | {"ids": form.getlist("ids")}, context=TEXT)


def _chosen(db: Session, sent: ChosenCorrections) -> list[int]:
    """Return the ids of the corrections that are meant. Raises BadRequest."""
    if sent.receipt is not None and sent.ids:
        raise BadRequest(400, "bad_removal", "Send either ids or a receipt, not both.", "receipt")
    if sent.receipt:
        number = find_by_words(db, sent.receipt)
        if number is None:
            message = "There is no drawing with this receipt or number. It was removed, or it is not complete."
            raise BadRequest(404, "no_correction", message, "receipt")
        return [number]
    if sent.receipt is not None:
        raise BadRequest(400, "nothing_chosen", "Type the address of the receipt, or the drawing's number.", "receipt")
    if not sent.ids:
        raise BadRequest(400, "nothing_chosen", "No correction is chosen: tick some first.")
    return list(dict.fromkeys(sent.ids))


def _refused(error: BadRequest) -> Response:
    refused = Refused(error, "removal" if error.field == "receipt" else "decision")
    return refused_form(error, lambda _: page_of_refused(refused, queue_page_before()))
