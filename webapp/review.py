"""The review of corrections: the queue, the most suspicious first, decisions in bulk and their undoing, in and out."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, flash, jsonify, redirect, render_template, request, url_for
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, undefer
from werkzeug.exceptions import RequestEntityTooLarge

from model.ink import ink_png
from model.task import NO_DIGIT
from webapp import decisions, exchange, exports, imports, intake
from webapp.auth import csrf, requester, turned_away
from webapp.corrections import NOT_A_DIGIT, image_of, named
from webapp.data_urls import data_url, png_url
from webapp.database import BIGGEST_ROW_ID, REVIEW_STATES, Correction, Import
from webapp.decisions import Decided, Wish
from webapp.errors import wants_page
from webapp.exceptions import BadRequest
from webapp.exchange import ImportRefused
from webapp.fields import fields, form_fields
from webapp.filters import confidence
from webapp.services import services
from webapp.wording import worded

PER_PAGE = 48
MOST_AT_ONCE = 1_000
LONGEST_REASON = 300
ACTIONS = {"approve": "approved", "relabel": "approved", "refuse": "refused"}
# What is refused most often, and why; the author reads it on the receipt.
REASONS = (
    "It cannot be told which digit this is.",
    "It looks like another digit than the one given.",
    "It does not look like a digit.",
    "It is not a single whole digit.",
    "It does not seem to be meant seriously.",
)
SUSPICIOUS, UNUSUAL = 0.6, 0.2
EXPORTS = {"npz": "application/octet-stream", "zip": "application/zip"}

blueprint = Blueprint("review", __name__, url_prefix="/admin/corrections")


@dataclass(frozen=True)
class Entry:
    """A correction as the queue shows it, with those that were folded into it."""

    row: Correction
    times: int
    sources: int

    @property
    def mark(self) -> str:
        """How suspicious it is, in a word."""
        if self.row.suspicion is None:
            return "unjudged"
        if self.row.suspicion >= SUSPICIOUS:
            return "suspicious"
        return "unusual" if self.row.suspicion >= UNUSUAL else "plausible"

    @property
    def image_url(self) -> str:
        return data_url(ink_png(image_of(self.row)))

    @property
    def answer(self) -> str | None:
        """What was answered when it was drawn, "1, 98 %"; None for an imported one."""
        answered = self.row.answered
        if not answered:
            return None
        digits = [str(digit) for digit in answered.get("digits", ())]
        if not digits:
            return "no digit"
        top = answered.get("top") or [{"probability": 0}]
        return f"{digits[0]}, {confidence(top[0]['probability'])}" if len(digits) == 1 else " or ".join(digits)

    @property
    def neighbours(self) -> list[tuple[int, int]]:
        """Label and count of the nearest digits, the commonest first."""
        counts = (self.row.doubt or {}).get("neighbours", {})
        return sorted(((int(label), count) for label, count in counts.items()), key=lambda pair: -pair[1])


@blueprint.get("")
def index() -> Response | str:
    """The corrections in a state, a page of them: as a page, or as JSON for scripts."""
    if away := turned_away():
        return away
    state, number = _state(request.args.get("state", "received")), _page_number(request.args.get("page", "1"))
    with services().database.reading() as session:
        counts = _counts(session)
        pages = max(1, math.ceil(counts[state] / PER_PAGE))
        if number > pages:  # the last of a page were decided
            return redirect(url_for(".index", state=state, page=pages), 302)
        entries = _entries(session, state, number)
        unjudged = session.scalar(select(func.count()).where(*_in_state("received"), Correction.suspicion.is_(None)))
        shown, next_id = imports.shown(session), imports.next_id(session)
    if not wants_page():
        return _private(jsonify(_as_json(entries, state, number, pages, counts, unjudged)))
    page = render_template(
        "corrections.html",
        page="admin",
        state=state,
        states=REVIEW_STATES,
        number=number,
        pages=pages,
        counts=counts,
        entries=entries,
        unjudged=unjudged,
        reasons=REASONS,
        most_megabytes=exchange.MAX_FILE_BYTES >> 20,
        most_digits=exchange.MOST,
        most_megapixels=exchange.MOST_PIXELS // 1_000_000,
        imports=shown,
        next_id=next_id,
        now=time.time(),
    )
    return _private(Response(page))


@blueprint.get("/<int:number>/picture.png")
def picture(number: int) -> Response:
    """The picture of a correction, as it was drawn again when it came in."""
    if away := turned_away():
        return away
    with services().database.reading() as session:
        row = session.get(Correction, number, options=[undefer(Correction.picture)]) if _possible(number) else None
        if row is None:
            abort(404)
        return _private(Response(row.picture, mimetype="image/png"))


@blueprint.post("/decide")
@csrf.exempt
def decide() -> Response:
    """Approves, refuses or relabels the corrections that a form or a JSON object names; all of them, or none."""
    by = requester()
    wish = _wish(fields("action", "ids", "label", "reason", "state") if request.is_json else _from_form())
    with services().database.writing() as session:
        done = decisions.decide(session, wish, by)
        counts = _counts(session)
    said = _in_words(done, wish)
    if wants_page():
        flash(said, "decided" if done.batch else "nothing")
        return _back()
    return _private(
        jsonify(
            batch=done.batch, decided=done.decided, elsewhere=done.elsewhere, gone=done.gone, counts=counts, said=said
        )
    )


@blueprint.post("/undo")
@csrf.exempt
def undo() -> Response:
    """Takes the last decision back, or the one that `batch` names; again and again, as far back as there are any."""
    requester()
    batch = fields("batch").get("batch")
    if batch not in (None, "") and not (isinstance(batch, str) and batch.isascii() and batch.isalnum()):
        raise BadRequest(400, "bad_decision", "The batch must be the text that a decision answered with.")
    with services().database.writing() as session:
        found = decisions.undo(session, batch)
        counts = _counts(session)
    if not found:
        raise BadRequest(409, "nothing_to_undo", "There is no decision to take back.")
    numbers, state = found
    said = f"Taken back: {_things(len(numbers))}, now {_WORDS[state]} again." if numbers else _CHANGED_SINCE
    if wants_page():
        flash(said, "undone")
        return redirect(url_for(".index", state=state), 303)
    return _private(jsonify(undone=numbers, state=state, counts=counts, said=said))


@blueprint.get("/export.<string(length=3):kind>")
def export(kind: str) -> Response:
    """The corrections of a state (the approved ones, unless asked otherwise) as .npz or as PNG files in a zip.

    They leave as they are read and packed. What fails meanwhile ends the connection before the end of the answer.
    """
    if away := turned_away():
        return away
    if kind not in EXPORTS:
        abort(404)
    state = _state(request.args.get("state", "approved"))
    rows = exports.rows_where(services().database, *_in_state(state))
    packed = exports.as_npz(rows, services().settings.data_dir) if kind == "npz" else exports.as_pngs(rows)
    response = Response(packed, mimetype=EXPORTS[kind])
    response.headers.set("Content-Disposition", "attachment", filename=f"corrections-{state}.{kind}")
    return _private(response)


@blueprint.post("/import")
@csrf.exempt
def take_in() -> Response:
    """Takes in the digits of an .npz or of PNG files in a zip, as corrections that wait for review.

    A short file is taken in at once. A longer one is checked as far as its headers go, and a worker takes it in.
    """
    request.max_content_length = exchange.MAX_FILE_BYTES + 4096
    try:
        by = requester()
        file = request.files.get("file")
    except RequestEntityTooLarge as error:
        message = f"The file is too large: at most {exchange.MAX_FILE_BYTES >> 20} MB are read."
        raise BadRequest(413, "file_too_large", message) from error
    if file is None or not file.filename:
        raise BadRequest(400, "no_file", 'The request must have a "file": an .npz, or a zip of PNG files.')
    data = file.stream.read()
    digest = hashlib.sha256(data).hexdigest()
    try:
        contents = exchange.inspect(data)
        bundle = contents.unpack() if contents.is_short else None
    except ImportRefused as error:
        raise BadRequest(400, "bad_file", f"Nothing was imported. {error}") from error
    if bundle is None:
        return _queued(services().jobs.take_in(file.filename, data, digest, len(contents), by))
    done = intake.store(services().database, services().corrections, bundle, digest, exchange.SHORT_DIGITS)
    if wants_page():
        flash(_imported_in_words(done.added, done.known), "imported")
        return redirect(url_for(".index"), 303)
    return _private(jsonify(added=done.added, known=done.known))


@blueprint.get("/imports/<int:number>")
def one_import(number: int) -> Response:
    """An import that a worker takes in, or has: as JSON for scripts, or as a part of the page (?part=1)."""
    if away := turned_away():
        return away
    with services().database.reading() as session:
        row = session.get(Import, number) if _possible(number) else None
        next_id = imports.next_id(session)
    if row is None:
        abort(404)
    if request.args.get("part"):
        return _private(Response(render_template("_import.html", one=row, next_id=next_id, now=time.time())))
    if wants_page():
        return redirect(url_for(".index"), 302)
    return _private(jsonify(_import_as_json(row)))


def _queued(row: Import) -> Response:
    url = url_for(".one_import", number=row.id)
    if wants_page():
        return redirect(url_for(".index"), 303)
    response = jsonify({"import": row.id, "url": url})
    response.status_code, response.location = 202, url
    return _private(response)


# What is said


_WORDS = {"received": "waiting", "approved": "approved", "refused": "refused"}
_CHANGED_SINCE = "Nothing was taken back: something else was decided about them since."


def _in_words(done: Decided, wish: Wish) -> str:
    parts = []
    if done.decided:
        as_what = "" if wish.label is None else f" as {'no digit' if wish.label == NO_DIGIT else wish.label}"
        parts.append(f"{_WORDS[wish.state].capitalize()}{as_what}: {_things(len(done.decided))}.")
    if done.elsewhere:
        parts.append(f"Decided by somebody else meanwhile and left alone: {_things(len(done.elsewhere))}.")
    if done.gone:
        parts.append(f"Deleted or changed by the author meanwhile: {_things(len(done.gone))}.")
    return " ".join(parts) or "Nothing changed: it was so already."


def _things(count: int) -> str:
    return f"{count:,} correction{'' if count == 1 else 's'}"


@blueprint.app_template_global("imported_in_words")
def _imported_in_words(added: int, known: int) -> str:
    said = f"Imported: {_things(added)}, to be reviewed."
    return said + (f" {known:,} more were here already." if known else "")


# What is asked


def _from_form() -> dict[str, Any]:
    """A form's fields as JSON would have them. A card's own button carries the number, the bar's the action."""
    form = form_fields("state", "page", "ids", "reason", "because", *ACTIONS)
    sent: dict[str, Any] = {"state": form.get("state"), "reason": form.get("reason", "").strip() or None}
    for action in ACTIONS:
        if action in form:
            one = form[action] if action != "relabel" else ""
            sent |= {"action": action, "ids": [one] if one else form.getlist("ids")}
    if "because" in form:  # a ready-made reason's own button
        sent |= {"action": "refuse", "ids": form.getlist("ids"), "reason": form["because"]}
    if sent.get("action") == "refuse" and not sent["reason"]:
        sent["reason"] = REASONS[0]
    if "relabel" in form:
        sent["label"] = _number(form["relabel"])
    if sent.get("ids") == []:
        raise BadRequest(400, "nothing_chosen", "No correction is chosen: tick some first.")
    sent["ids"] = [_number(text) for text in sent.get("ids", ())]
    return sent


def _number(text: str) -> int | str:
    """A form's number as JSON has it; what is none stays as it is, to be refused."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else text


def _wish(fields: dict[str, Any]) -> Wish:
    action = fields.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        raise BadRequest(400, "bad_decision", f"The action must be one of {', '.join(ACTIONS)}.")
    shown = fields.get("state")
    return Wish(
        ids=_ids(fields.get("ids")),
        state=ACTIONS[action],
        label=_label(fields.get("label")) if action == "relabel" else None,
        reason=_reason(fields.get("reason")) if action == "refuse" else None,
        shown=None if shown is None else _state(shown),
    )


def _ids(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not 0 < len(values) <= MOST_AT_ONCE:
        raise BadRequest(400, "bad_decision", f"The ids must be a list of 1 to {MOST_AT_ONCE:,} numbers.")
    return tuple(dict.fromkeys(_id(value) for value in values))


def _id(value: Any) -> int:
    if type(value) is not int or not _possible(value):
        raise BadRequest(400, "bad_decision", "The ids must be numbers of corrections.")
    return value


def _possible(number: int) -> bool:
    return 0 < number <= BIGGEST_ROW_ID


def _label(value: Any) -> int:
    if value == NOT_A_DIGIT:
        return NO_DIGIT
    if type(value) is not int or not 0 <= value <= NO_DIGIT:
        raise BadRequest(400, "bad_decision", f'The label must be a digit from 0 to 9, or "{NOT_A_DIGIT}".')
    return value


def _reason(value: Any) -> str:
    """Why a correction is refused: one line of text, which its author is shown."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text or len(text) > LONGEST_REASON or not text.isprintable():
        message = f"A refusal needs a reason, which the author is shown: text of at most {LONGEST_REASON} characters."
        raise BadRequest(400, "bad_reason", message)
    return text


def _state(value: Any) -> str:
    if not isinstance(value, str) or value not in REVIEW_STATES:
        raise BadRequest(400, "bad_state", f"The state must be one of {', '.join(REVIEW_STATES)}.")
    return value


def _page_number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 8 and int(value) > 0):
        raise BadRequest(400, "bad_page", "The page must be a whole number from 1 on.")
    return int(value)


# What is shown


def _in_state(state: str) -> tuple[ColumnElement[bool], ...]:
    """Those in a state, twins left out: they are with their first."""
    return Correction.state == state, Correction.twin_of.is_(None)


def _counts(session: Session) -> dict[str, int]:
    # One by one each is counted in the index; grouped, the database would look at every row.
    return {state: session.scalar(select(func.count()).where(*_in_state(state))) for state in REVIEW_STATES}


def _entries(session: Session, state: str, number: int) -> list[Entry]:
    """A page of the queue: the most suspicious first, those not judged yet last; of decided ones the latest first."""
    if state == "received":
        order = (Correction.suspicion.is_(None), Correction.suspicion.desc(), Correction.id)
    else:
        order = (Correction.decided_at.desc(), Correction.id.desc())
    rows = session.scalars(
        select(Correction)
        .where(*_in_state(state))
        .order_by(*order)
        .limit(PER_PAGE)
        .offset((number - 1) * PER_PAGE)
    ).all()
    twins: dict[int, list[str]] = {row.id: [] for row in rows}
    found = session.execute(select(Correction.twin_of, Correction.source).where(Correction.twin_of.in_(twins)))
    for first, source in found:
        twins[first].append(source)
    return [Entry(row, 1 + len(twins[row.id]), len({row.source, *twins[row.id]})) for row in rows]


def _as_json(
    entries: list[Entry], state: str, number: int, pages: int, counts: dict[str, int], unjudged: int
) -> dict[str, Any]:
    return {
        "state": state,
        "page": number,
        "pages": pages,
        "counts": counts,
        "unjudged": unjudged,
        "corrections": [_entry_as_json(entry) for entry in entries],
    }


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    row = entry.row
    return {
        "id": row.id,
        "created_at": row.created_at,
        "state": row.state,
        "reason": row.reason,
        "meant": named(row.meant),
        "label": named(row.label),
        "answered": row.answered,
        "version": f"v{row.version_id}" if row.version_id else None,
        "held_out": row.held_out,
        "times": entry.times,
        "sources": entry.sources,
        "suspicion": row.suspicion,
        "doubt": row.doubt,
        "digit_image": png_url(image_of(row)),
        "picture": url_for(".picture", number=row.id),
    }


def _import_as_json(row: Import) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": row.state,
        "name": row.name,
        "digits": row.digits,
        "fraction": row.fraction,
        "added": row.added,
        "known": row.done - row.added,
        "error": worded(row.error),
        "requested_by": row.requested_by,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "url": url_for(".one_import", number=row.id),
    }


def _back() -> Response:
    """To the page of the queue that the form stood on."""
    state, page = request.form.get("state"), request.form.get("page", "")
    query = {"state": state if state in REVIEW_STATES else "received"}
    if page.isascii() and page.isdigit() and len(page) < 8 and int(page) > 1:
        query["page"] = page
    return redirect(url_for(".index", **query), 303)


def _private(response: Response) -> Response:
    response.cache_control.no_store = True
    return response
