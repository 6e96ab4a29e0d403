"""The review of corrections: the queue, the most suspicious first, and decisions in bulk, which can be undone."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Predicate
from flask import Blueprint, Response, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, undefer

from model.imaging.png import data_url, ink_png, png_url
from model.task import NO_DIGIT
from webapp.corrections import digit_files, import_queue, review
from webapp.corrections.review import DecisionRequest, DecisionResult
from webapp.corrections.store import NOT_A_DIGIT, hands_to_hold_out, image_of, label_from_json
from webapp.exceptions import AppError, BadRequest
from webapp.http.authentication import admin_required, csrf
from webapp.http.errors import no_store, refused_form, row_or_404, wants_page
from webapp.http.fields import fields, form_fields
from webapp.http.messages import (
    FROM_TEXT,
    TEXT,
    Answer,
    CorrectionState,
    Count,
    Fields,
    File,
    Label,
    PngUrl,
    Query,
    RejectWith,
    RowId,
    Share,
    Timestamp,
    Url,
    VersionName,
)
from webapp.http.openapi import Operation
from webapp.presentation.filters import label
from webapp.presentation.wording import correction_count
from webapp.services import services
from webapp.storage.schema import REVIEW_STATES, Correction, ReviewState

PER_PAGE = 48
MOST_AT_ONCE = 1_000
LONGEST_REASON = 300
Action = Literal["approve", "relabel", "refuse"]
ACTIONS: dict[Action, ReviewState] = {"approve": "approved", "relabel": "approved", "refuse": "refused"}
# Common reasons to refuse, offered as buttons; the author reads them on the receipt.
REASONS = (
    "It cannot be told which digit this is.",
    "It looks like another digit than the one given.",
    "It does not look like a digit.",
    "It is not a single whole digit.",
    "It does not seem to be meant seriously.",
)
SUSPICIOUS, UNUSUAL = 0.6, 0.2
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

blueprint = Blueprint("review", __name__, url_prefix="/admin/corrections")
blueprint.before_request(admin_required)


@dataclass(frozen=True)
class Entry:
    """A correction in the queue, with how often it was sent, duplicates included, and by how many submitters."""

    row: Correction
    times: int
    sources: int

    @property
    def mark(self) -> str:
        """Its suspicion as a word."""
        if self.row.suspicion is None:
            return "unjudged"
        if self.row.suspicion >= SUSPICIOUS:
            return "suspicious"
        return "unusual" if self.row.suspicion >= UNUSUAL else "plausible"

    @property
    def image_url(self) -> str:
        return data_url(ink_png(image_of(self.row)))

    @property
    def neighbours(self) -> list[tuple[int, str]]:
        """Labels of the nearest of the digits known, the most frequent first, each with its count in words."""
        counts = (self.row.doubt or {}).get("neighbours", {})
        ordered = sorted(((int(value), count) for value, count in counts.items()), key=lambda pair: -pair[1])
        return [(value, _counted(value, count)) for value, count in ordered]


# Requests and answers


class QueuePage(Query):
    state: Annotated[CorrectionState, Field(description="State of the corrections.")] = "received"
    page: Annotated[
        int, Field(ge=1, le=9_999_999), FROM_TEXT, RejectWith("bad_page", "The page must be a whole number from 1 on.")
    ] = 1


class Decide(Fields):
    action: Action
    ids: Annotated[
        list[Annotated[RowId, RejectWith("bad_decision", "The ids must be numbers of corrections.")]],
        Field(min_length=1, max_length=MOST_AT_ONCE),
        RejectWith("bad_decision", f"The ids must be a list of 1 to {MOST_AT_ONCE:,} numbers."),
    ]
    label: Any = None
    reason: Any = None
    state: Annotated[
        CorrectionState | None, Field(description="The state in which they were displayed; others are left unchanged.")
    ] = None


class Approve(Decide):
    """Approve corrections with the label that their authors gave."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "approve", "ids": [1, 2]}]})

    action: Literal["approve"]


class Relabel(Decide):
    """Approve corrections with another label."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "relabel", "ids": [3], "label": 7}]})

    action: Literal["relabel"]
    label: Annotated[
        Annotated[int, Field(ge=0, le=NO_DIGIT), FROM_TEXT] | Literal["not_a_digit"],
        RejectWith("bad_decision", f'The label must be a digit from 0 to 9, or "{NOT_A_DIGIT}".'),
    ]


class Refuse(Decide):
    """Refuse corrections for a reason, which their authors can read."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "refuse", "ids": [4], "reason": REASONS[0]}]})

    action: Literal["refuse"]
    reason: Annotated[
        str,
        Field(min_length=1, max_length=LONGEST_REASON, json_schema_extra={"pattern": "^[ -~]*[!-~][ -~]*$"}),
        Predicate(str.isprintable),
        BeforeValidator(lambda text: " ".join(text.split()) if isinstance(text, str) else text),
        RejectWith(
            "bad_reason",
            f"A refusal needs a reason, which the author is shown: text of at most {LONGEST_REASON} characters.",
        ),
    ]


Decision = Annotated[
    Approve | Relabel | Refuse,
    Field(discriminator="action"),
    RejectWith("bad_decision", f"The action must be one of {', '.join(ACTIONS)}."),
]
DECISION: TypeAdapter[Approve | Relabel | Refuse] = TypeAdapter(Decision)


class Undo(Fields):
    """The decision to undo: the one that answered with this batch, or the last one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"batch": "c0ffee"}]})

    batch: Annotated[
        Annotated[str, Field(pattern="^[0-9a-zA-Z]*$")] | None,
        RejectWith("bad_decision", "The batch must be the text that a decision answered with."),
    ] = None


class Counts(Answer):
    received: Count
    approved: Count
    refused: Count


class QueuedCorrection(Answer):
    id: RowId
    created_at: Timestamp
    state: ReviewState
    reason: str | None
    meant: Label
    label: Label
    answered: dict[str, Any]
    version: VersionName | None
    held_out: bool
    times: Count
    sources: Count
    suspicion: Share | None
    doubt: dict[str, Any] | None
    digit_image: PngUrl
    picture: Url


class Queue(Answer):
    """A page of corrections: the most suspicious first; of decided ones, the latest first."""

    state: ReviewState
    page: Count
    pages: Count
    counts: Counts
    unjudged: Count
    corrections: Annotated[list[QueuedCorrection], Field(max_length=PER_PAGE)]


class DecisionAnswer(Answer):
    """The result of a decision; `batch` serves to undo it, and is null if nothing changed."""

    batch: str | None
    decided: list[RowId]
    elsewhere: list[RowId]
    gone: list[RowId]
    counts: Counts
    said: str


class Undone(Answer):
    """The corrections whose decision was undone, and their state now."""

    undone: list[RowId]
    state: ReviewState
    counts: Counts
    said: str


# Routes


@blueprint.get("")
@Operation("corrections", {200: Queue, 302: None}, query=QueuePage)
def index() -> ResponseReturnValue:
    """List the corrections in a state, a page at a time.

    A page beyond the last one redirects to the last.
    """
    asked = QueuePage.read()
    with services().database.reading() as session:
        counts = _counts(session)
        pages = _page_count(counts[asked.state])
        if asked.page > pages:  # such as when the last page's corrections were just decided
            return redirect(url_for(".index", state=asked.state, page=pages), 302)
        if wants_page():
            return no_store(Response(_page(session, asked)))
        entries = _entries(session, asked.state, asked.page)
        unjudged = _count_unjudged(session)
    corrections = [
        QueuedCorrection.of(
            entry.row,
            version=entry.row.version_id,
            times=entry.times,
            sources=entry.sources,
            digit_image=png_url(image_of(entry.row)),
            picture=url_for(".picture", number=entry.row.id),
        )
        for entry in entries
    ]
    queue = Queue.of(asked, pages=pages, counts=counts, unjudged=unjudged, corrections=corrections)
    return no_store(queue.response())


@blueprint.get("/<int:number>/picture.png")
@Operation("correction_picture", {200: File(("image/png",))})
def picture(number: RowId) -> ResponseReturnValue:
    """Download a correction's picture, dark on white, as redrawn when it was received."""
    with services().database.reading() as session:
        row = row_or_404(session, Correction, number, options=[undefer(Correction.picture)])
        return no_store(Response(row.picture, mimetype="image/png"))


@blueprint.post("/decide")
@Operation("decide", {200: DecisionAnswer}, body=Decision, errors={400: ["nothing_chosen"]})
@csrf.exempt
def decide() -> ResponseReturnValue:
    """Approve, relabel or refuse corrections.

    An invalid request changes none; corrections that were decided meanwhile are left unchanged.
    """
    try:
        found, context = (fields(*Decide.model_fields), None) if request.is_json else (_from_form(), TEXT)
        sent = DECISION.validate_python(found, context=context)
    except BadRequest as error:
        numbers = request.form.getlist("ids") + [request.form.get("refuse", "")]
        ticked = {int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) < 11}
        refused = Refused(error, "decision", ticked, request.form.get("reason", ""))
        return refused_form(error, lambda _: page_of_refused(refused, queue_page_before()))
    asked = DecisionRequest(
        ids=tuple(dict.fromkeys(sent.ids)),
        state=ACTIONS[sent.action],
        label=label_from_json(sent.label) if isinstance(sent, Relabel) else None,
        reason=sent.reason if isinstance(sent, Refuse) else None,
        shown=sent.state,
    )
    with services().database.writing() as session:
        done = review.decide(session, asked, g.by)
        counts = _counts(session)
    said = _in_words(done, asked)
    if wants_page():
        flash(said, "decided" if done.batch else "nothing")
        before = queue_page_before()
        number = before.page if before.page > 1 else None
        return redirect(url_for(".index", state=before.state, page=number), 303)
    return no_store(DecisionAnswer.of(done, counts=counts, said=said).response())


@blueprint.post("/undo")
@Operation("undo", {200: Undone}, body=Undo, errors={409: ["nothing_to_undo"]})
@csrf.exempt
def undo() -> ResponseReturnValue:
    """Undo a decision: the one that is named, or the last one; repeat it to undo earlier ones."""
    batch = Undo.read().batch
    with services().database.writing() as session:
        found = review.undo(session, batch)
        counts = _counts(session)
    if not found:
        raise BadRequest(409, "nothing_to_undo", "There is no decision to take back.")
    numbers, state = found
    said = "Nothing was taken back: something else was decided about them since."
    if numbers:
        said = f"Taken back: {correction_count(len(numbers))}, now {_WORDS[state]} again."
    if wants_page():
        flash(said, "undone")
        return redirect(url_for(".index", state=state), 303)
    done = Undone.model_validate({"undone": numbers, "state": state, "counts": counts, "said": said})
    return no_store(done.response())


# Sentences


_WORDS = {"received": "waiting", "approved": "approved", "refused": "refused"}


def _in_words(done: DecisionResult, asked: DecisionRequest) -> str:
    parts = []
    if done.decided:
        as_what = "" if asked.label is None else f" as {label(asked.label)}"
        parts.append(f"{_WORDS[asked.state].capitalize()}{as_what}: {correction_count(len(done.decided))}.")
    if done.elsewhere:
        parts.append(f"Decided by somebody else meanwhile and left alone: {correction_count(len(done.elsewhere))}.")
    if done.gone:
        parts.append(f"Deleted or changed by the author meanwhile: {correction_count(len(done.gone))}.")
    return " ".join(parts) or "Nothing changed: it was so already."


def _counted(value: int, count: int) -> str:
    """Return a count of digits with the same label in words: "one 2", "five 8s", "two that are no digit"."""
    number = NUMBERS[count] if count < len(NUMBERS) else str(count)
    if value == NO_DIGIT:
        return f"{number} that {'is' if count == 1 else 'are'} no digit"
    return f"{number} {value}{'' if count == 1 else 's'}"


# Forms


def _from_form() -> dict[str, Any]:
    """Return the form's fields as the members of a JSON request.

    A button's name is the action. On a card its value is the correction's id; in the bar it is empty, for all ticked.
    """
    form = form_fields("state", "page", "ids", "reason", "because", *ACTIONS)
    sent: dict[str, Any] = {"state": form.get("state"), "reason": form.get("reason", "").strip() or None}
    for action in ACTIONS:
        if action in form:
            number = form[action] if action != "relabel" else ""  # the value of "relabel" is the label
            sent |= {"action": action, "ids": [number] if number else form.getlist("ids")}
    if "because" in form:  # the button of one of REASONS
        sent |= {"action": "refuse", "ids": form.getlist("ids"), "reason": form["because"]}
    if "relabel" in form:
        sent["label"] = form["relabel"]
    if sent.get("ids") == []:
        raise BadRequest(400, "nothing_chosen", "No correction is chosen: tick some first.")
    return sent


def queue_page_before() -> QueuePage:
    """Return the page of the queue that had the form."""
    state, page = request.form.get("state"), request.form.get("page", "")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
    return QueuePage.model_construct(state=state if state in REVIEW_STATES else "received", page=max(1, number))


# The page


@dataclass(frozen=True)
class Refused:
    """A form of the page that was refused, and what it held: ids of the ticked corrections, a reason."""

    error: AppError
    form: Literal["decision", "import", "removal"]
    ticked: Collection[int] = ()
    reason: str = ""


def page_of_refused(refused: Refused, before: QueuePage) -> str:
    """Render the page of a refused form."""
    with services().database.reading() as session:
        return _page(session, before, refused)


def _page(session: Session, asked: QueuePage, refused: Refused | None = None) -> str:
    """Render a page of the queue; the last one if it has no such page."""
    counts = _counts(session)
    pages = _page_count(counts[asked.state])
    number = min(asked.page, pages)
    return render_template(
        "admin/corrections.html",
        page="admin",
        state=asked.state,
        states=REVIEW_STATES,
        number=number,
        pages=pages,
        counts=counts,
        entries=_entries(session, asked.state, number),
        unjudged=_count_unjudged(session),
        refused=refused,
        reasons=REASONS,
        longest=LONGEST_REASON,
        most_megabytes=digit_files.MAX_FILE_BYTES >> 20,
        most_digits=digit_files.MAX_DIGITS,
        most_megapixels=digit_files.MAX_PIXELS // 1_000_000,
        imports=import_queue.recent(session),
        next_id=import_queue.next_id(session),
        hold_out=hands_to_hold_out(session),
        now=time.time(),
    )


# Queries


def _counts(session: Session) -> dict[str, int]:
    # A query for each state counts in the index; one with GROUP BY would read all rows.
    return {state: _count(session, state) for state in REVIEW_STATES}


def _count(session: Session, state: str, *more: ColumnElement[bool]) -> int:
    return session.scalars(select(func.count()).where(*Correction.firsts(state), *more)).one()


def _count_unjudged(session: Session) -> int:
    return _count(session, "received", Correction.suspicion.is_(None))


def _page_count(corrections: int) -> int:
    return max(1, math.ceil(corrections / PER_PAGE))


def _entries(session: Session, state: str, number: int) -> list[Entry]:
    """Return a page of the queue: the most suspicious first, unjudged ones last; of decided ones, the latest first."""
    order: tuple[Any, ...]
    if state == "received":
        order = (Correction.suspicion.is_(None), Correction.suspicion.desc(), Correction.id)
    else:
        order = (Correction.decided_at.desc(), Correction.id.desc())
    rows = session.scalars(
        select(Correction)
        .where(*Correction.firsts(state))
        .order_by(*order)
        .limit(PER_PAGE)
        .offset((number - 1) * PER_PAGE)
    ).all()
    duplicates: dict[int | None, list[str]] = {row.id: [] for row in rows}
    columns = Correction.duplicate_of, Correction.submitter
    found = session.execute(select(*columns).where(Correction.duplicate_of.in_(duplicates)))
    for first, submitter in found:
        duplicates[first].append(submitter)
    return [Entry(row, 1 + len(duplicates[row.id]), len({row.submitter, *duplicates[row.id]})) for row in rows]
