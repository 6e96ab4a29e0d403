"""Import of digit files as corrections, and export of corrections as such files."""

from __future__ import annotations

import hashlib
import time
from typing import Annotated, Literal

from annotated_types import Predicate
from flask import Blueprint, Response, abort, flash, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field, WithJsonSchema
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from webapp.corrections import digit_files, exports, import_digits, import_queue
from webapp.corrections.digit_files import ImportRefused
from webapp.exceptions import BadRequest
from webapp.http.authentication import admin_required, csrf
from webapp.http.errors import error_response, no_store, refused_form, row_or_404, wants_page
from webapp.http.messages import (
    Answer,
    CorrectionState,
    Count,
    File,
    Query,
    RejectWith,
    RowId,
    Sentence,
    Share,
    Timestamp,
    Upload,
    Url,
)
from webapp.http.openapi import Operation
from webapp.presentation.wording import imported
from webapp.services import services
from webapp.storage.schema import Active, Correction, Import
from webapp.views.corrections import QueuePage, Refused, page_of_refused

EXPORTS = {"npz": "application/octet-stream", "zip": "application/zip"}

blueprint = Blueprint("imports", __name__, url_prefix="/admin/corrections")


@blueprint.before_request
def admit_large_files() -> None:
    request.max_content_length = digit_files.MAX_FILE_BYTES + 4096


blueprint.before_request(admin_required)  # second, since it reads a form for its CSRF token


@blueprint.errorhandler(RequestEntityTooLarge)
def refuse_too_large(_: RequestEntityTooLarge) -> ResponseReturnValue:
    message = f"The file is too large: at most {digit_files.MAX_FILE_BYTES >> 20} MB are read."
    # Raised while the CSRF token was looked for: the session has still to be checked.
    if wants_page() and services().authenticator.holder(session.get("administrator")):
        return _refused(BadRequest(413, "file_too_large", message))
    return error_response(413, "file_too_large", message)


class ExportState(Query):
    state: Annotated[CorrectionState, Field(description="State of the corrections.")] = "approved"


class DigitsFile(Upload):
    file: Annotated[
        FileStorage,
        Predicate(lambda file: bool(file.filename)),
        WithJsonSchema({"type": "string", "format": "binary"}),
        RejectWith("no_file", 'The request must have a "file": an .npz, or a zip of PNG files.'),
    ]


class TakenIn(Answer):
    """How many of the digits are new, and how many were already known."""

    added: Count
    known: Count


class LeftToWorker(Answer):
    """The import that a worker has still to do; its address answers with its progress."""

    number: Annotated[RowId, Field(alias="import")]
    url: Url


class ImportAnswer(Answer):
    """An import by a worker, and its progress."""

    id: RowId
    state: Active | Literal["finished", "failed"]
    name: Annotated[str, Field(description="Name of the file.")]
    digits: Annotated[int, Field(ge=0, description="Digits in the file.")]
    fraction: Share
    added: Annotated[int, Field(ge=0, description="New digits so far.")]
    known: Annotated[int, Field(ge=0, description="Digits already known, so far.")]
    error: Sentence | None
    requested_by: str
    created_at: Timestamp
    updated_at: Timestamp
    url: Url


@blueprint.get("/export.<string(length=3):kind>")
@Operation("export_corrections", {200: File(tuple(EXPORTS.values()))}, query=ExportState)
def export(kind: Literal["npz", "zip"]) -> ResponseReturnValue:
    """Download the corrections in a state, as .npz or as PNG files in a zip.

    Arrays images, uint8 (N, 28, 28), and labels, uint8 (N,); or a PNG file for each, in folders by label. The answer is
    streamed: an error after its start closes the connection early.
    """
    if kind not in EXPORTS:
        abort(404)
    state = ExportState.read().state
    rows = exports.rows_where(services().database, *Correction.firsts(state))
    packed = exports.as_npz(rows, services().settings.data_dir) if kind == "npz" else exports.as_pngs(rows)
    response = Response(packed, mimetype=EXPORTS[kind])
    response.headers.set("Content-Disposition", "attachment", filename=f"corrections-{state}.{kind}")
    return no_store(response)


@blueprint.post("/import")
@Operation(
    "import_corrections",
    {200: TakenIn, 202: LeftToWorker},
    body=DigitsFile,
    errors={400: ["bad_file"]},
    limits=f"At most {digit_files.MAX_FILE_BYTES >> 20} MB, {digit_files.MAX_DIGITS:,} digits, "
    f"{digit_files.MAX_SUBMITTERS:,} sources, and {digit_files.MAX_PIXELS:,} pixels in all PNG files together. "
    f"More than {digit_files.SHORT_DIGITS:,} digits or {digit_files.SHORT_PIXELS:,} pixels are left to a worker.",
)
@csrf.exempt
def take_in() -> ResponseReturnValue:
    """Import the digits of an .npz, or of PNG files in a zip, as corrections to be reviewed.

    Nothing is imported unless all of the file can be read.
    """
    try:
        file = DigitsFile.read().file
        data = file.stream.read()
        digest = hashlib.sha256(data).hexdigest()
        contents = digit_files.inspect(data)
        bundle = contents.unpack() if contents.is_short else None
    except ImportRefused as error:
        return _refused(BadRequest(400, "bad_file", f"Nothing was imported. {error}"))
    except BadRequest as error:
        return _refused(error)
    if bundle is None:
        row = services().jobs.import_file(file.filename or "", data, digest, len(contents), g.by)
        if wants_page():
            return redirect(url_for("review.index"), 303)
        url = url_for(".one_import", number=row.id)
        return no_store(LeftToWorker(number=row.id, url=url).response(202, location=url))
    added = import_digits.store(services().database, services().corrections, bundle, digest, digit_files.SHORT_DIGITS)
    if wants_page():
        flash(imported(added, len(bundle) - added), "imported")
        return redirect(url_for("review.index"), 303)
    return no_store(TakenIn(added=added, known=len(bundle) - added).response())


@blueprint.get("/imports/<int:number>")
@Operation("import", {200: ImportAnswer})
def one_import(number: RowId) -> ResponseReturnValue:
    """Return the progress of an import by a worker."""
    with services().database.reading() as db:
        row, next_id = row_or_404(db, Import, number), import_queue.next_id(db)
    if request.args.get("part"):
        return no_store(Response(render_template("admin/_import.html", one=row, next_id=next_id, now=time.time())))
    if wants_page():
        return redirect(url_for("review.index"), 302)
    url = url_for(".one_import", number=row.id)
    return no_store(ImportAnswer.of(row, known=row.done - row.added, url=url).response())


def _refused(error: BadRequest) -> Response:
    return refused_form(error, lambda _: page_of_refused(Refused(error, "import"), QueuePage()))
