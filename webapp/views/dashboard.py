"""The administrator's door and dashboard, and runs: starting, watching, cancelling them."""

from __future__ import annotations

import logging
import time
from typing import Annotated, Any

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from model.data import mnist
from model.presets import BIGGEST_SEED, MOST_EPOCHS, PRESETS, Config
from model.rank import cores
from webapp.auth import TooManyAttempts, WrongPassword
from webapp.exceptions import BadRequest
from webapp.http import authentication
from webapp.http.authentication import csrf, requester, turned_away
from webapp.http.errors import answer, row_or_404, wants_page
from webapp.http.fields import any_form
from webapp.http.messages import (
    FROM_BOX,
    FROM_TEXT,
    TEXT,
    Address,
    Answer,
    Count,
    DescribedAs,
    Fields,
    Moment,
    NoFields,
    Otherwise,
    RowId,
    Share,
    VersionName,
    Worded,
)
from webapp.http.openapi import Operation
from webapp.middleware.access_log import note
from webapp.presentation import charts, comparison
from webapp.services import services
from webapp.settings import Settings
from webapp.storage.database import ACTIVE, Comparison, Correction, Promotion, Run, RunState, Version, champion_of
from webapp.storage.timestamps import within
from webapp.training.runs import approved, used

log = logging.getLogger(__name__)

LISTED = 50
MOST_PROCESSES = 8
WAITING_SECONDS = 10.0  # after which a run that no worker has begun has perhaps none

SIGNED_OUT_HERE = (
    "You are signed out in this browser. The server could not end the session: a copy of its cookie would still be "
    "accepted, until a new password is set."
)

blueprint = Blueprint("admin", __name__, url_prefix="/admin")


@blueprint.get("")
def dashboard() -> ResponseReturnValue:
    """The champion, the run under way, the form to start one, and what has been."""
    if not services().door.is_open(session.get("administrator")):
        return redirect(url_for("admin.sign_in"), 303)
    with services().database.reading() as db:
        runs = db.scalars(select(Run).order_by(Run.id.desc()).limit(LISTED)).all()
        active = next((run for run in runs if run.state in ACTIVE), None)
        versions = db.scalars(select(Version).order_by(Version.id.desc()).limit(LISTED)).all()
        promotions = db.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(LISTED)).all()
        champion = champion_of(db)
        part = _part(db, active, champion)
        to_learn, _ = approved(db)
        said = comparison.verdicts(db, versions)
        waiting = db.scalar(select(func.count()).where(*Correction.firsts("received")))
    return render_template(
        "admin.html",
        page="admin",
        runs=runs,
        active=active,
        versions=versions,
        promotions=promotions,
        waiting=waiting,
        to_learn=to_learn,
        presets=PRESETS.values(),
        default_preset="fine-tune" if to_learn else Config.preset,
        useful_processes=useful_processes(services().settings),
        mnist_folder=services().settings.mnist_dir,
        mnist_missing=mnist.missing(services().settings.mnist_dir),
        **said,
        **part,
    )


@blueprint.get("/sign-in")
def sign_in() -> str:
    return render_template("sign_in.html", page="admin", error=None)


@blueprint.post("/sign-in")
def try_to_sign_in() -> ResponseReturnValue:
    """Begins a session for who knows the password."""
    password = any_form().get("password", "")
    try:
        token = services().door.sign_in(password, authentication.source())
    except WrongPassword:
        note(code="wrong_password")
        log.warning("a sign-in failed", extra=authentication.client())
        return render_template("sign_in.html", page="admin", error="That is not the password."), 403
    except TooManyAttempts as error:
        note(code=error.code)
        log.warning("a sign-in was refused: too many have failed", extra=authentication.client())
        page = render_template("sign_in.html", page="admin", error=str(error))
        return page, error.status, {"Retry-After": str(error.retry_after)}
    session.clear()
    session.permanent = True
    session["administrator"] = token
    log.info("the administrator signed in", extra=authentication.client())
    return redirect(url_for("admin.dashboard"), 303)


@blueprint.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Ends the session, in this browser whatever becomes of it in the database."""
    token = session.get("administrator")
    session.clear()
    if token:
        try:
            services().door.sign_out(token)
        except SQLAlchemyError as error:
            log.error("a session could not be ended: %s", getattr(error, "orig", error))
            return answer(503, "database", SIGNED_OUT_HERE)
        log.info("the administrator signed out", extra=authentication.client())
    return redirect(url_for("draw.page"), 303)


def _blank_is_zero(value: Any, info: ValidationInfo) -> Any:
    return (value.strip() or "0") if info.context == TEXT and isinstance(value, str) else value


Setting = Annotated[
    int, FROM_TEXT, BeforeValidator(_blank_is_zero), Otherwise("bad_settings", "{field} must be a whole number.")
]


class StartRun(Fields):
    """What a run is started with; of the values that fit these types Config refuses what is out of range."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"preset": "basic", "epochs": 2}]})

    preset: Annotated[
        str,
        BeforeValidator(lambda name: name if isinstance(name, str) else repr(name)),
        Field(json_schema_extra={"enum": list(PRESETS)}),
    ] = Config.preset
    epochs: Annotated[
        Setting, Field(description="0: the preset's.", json_schema_extra={"minimum": 0, "maximum": MOST_EPOCHS})
    ] = 0
    seed: Annotated[Setting, Field(json_schema_extra={"minimum": 0, "maximum": BIGGEST_SEED})] = 0
    processes: Annotated[
        Setting,
        Field(
            description="That train together; more than the worker has cores gain nothing. 0: one.",
            json_schema_extra={"minimum": 0, "maximum": MOST_PROCESSES},
        ),
    ] = 1
    corrections: Annotated[
        bool,
        FROM_BOX,
        Field(description="Learn from the approved corrections."),
        Otherwise("bad_settings", "Corrections must be true or false."),
    ] = False


class Epoch(Answer):
    epoch: Count
    train_loss: float | None
    validation_loss: float
    validation_accuracy: Share
    seconds: Annotated[float, Field(ge=0)]


class RunAnswer(Answer):
    """A run, and how it is doing."""

    id: RowId
    state: RunState
    preset: str
    epochs: Count
    seed: Count
    processes: Count
    corrections: bool
    requested_by: str
    attempt: Count
    losses: Count
    cancel_requested: bool
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    progress: dict[str, Any]
    history: Annotated[list[dict[str, Any]], DescribedAs(list[Epoch])]
    version: VersionName | None
    error: Worded | None
    url: Address


@blueprint.post("/retrain")
@Operation(
    "start_run",
    {202: RunAnswer},
    takes=StartRun,
    refuses={400: ["bad_settings", "no_corrections"], 409: ["run_active"]},
)
@csrf.exempt
def retrain() -> ResponseReturnValue:
    """Start a training.

    One run at a time: while one is under way, a second start is refused with its number.
    """
    by = requester()
    sent = StartRun.read()
    processes = sent.processes or 1
    if processes > MOST_PROCESSES:
        raise BadRequest(400, "bad_settings", f"The processes must be from 1 to {MOST_PROCESSES}, not {processes}.")
    try:
        config = Config(sent.preset, sent.epochs, sent.seed, processes)
    except ValueError as error:
        raise BadRequest(400, "bad_settings", f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    if sent.corrections:
        with services().database.reading() as db:
            if not approved(db)[0]:
                raise BadRequest(400, "no_corrections", "There is no approved correction to learn from.")
    run = services().jobs.start(config, by, sent.corrections)
    if wants_page():
        return redirect(url_for("admin.run", run_id=run.id), 303)
    return _answer(run).response(202, location=url_for("admin.run", run_id=run.id))


@blueprint.get("/runs/<int:run_id>")
@Operation("run", {200: RunAnswer})
def run(run_id: RowId) -> ResponseReturnValue:
    """Tell how a run is doing."""
    if away := turned_away():
        return away
    with services().database.reading() as db:
        found = row_or_404(db, Run, run_id)
        part = _part(db, found, champion_of(db))
    if request.args.get("part"):
        return render_template("_run.html", **part)
    if not wants_page():
        return _answer(found).response()
    return render_template("run.html", page="admin", **part)


@blueprint.post("/runs/<int:run_id>/cancel")
@Operation("cancel_run", {202: RunAnswer}, takes=NoFields)
@csrf.exempt
def cancel(run_id: RowId) -> ResponseReturnValue:
    """Cancel a run.

    The answer is the run with the wish noted: its trainer may need a moment to see it.
    """
    by = requester()
    NoFields.read()
    services().jobs.reap()
    with services().database.reading() as db:
        row_or_404(db, Run, run_id)
    services().jobs.cancel(run_id, by)
    with services().database.reading() as db:
        found = db.get_one(Run, run_id)
    if wants_page():
        return redirect(url_for("admin.run", run_id=run_id), 303)
    return _answer(found).response(202)


def _answer(run: Run) -> RunAnswer:
    return RunAnswer.of(run, version=run.version_id, url=url_for("admin.run", run_id=run.id))


def _part(db: Session, run: Run | None, champion: Version | None) -> dict[str, Any]:
    """What `_run.html` shows of a run; only the champion where there is no run."""
    if run is None:
        return {"champion": champion}
    now = time.time()
    goal = champion.validation_accuracy if champion and run.state in ACTIVE else None
    return {
        "run": run,
        "version": db.get(Version, run.version_id or 0),
        "comparison": db.get(Comparison, run.version_id or 0),
        "champion": champion,
        "used": used(db, run.id),
        "now": now,
        "unclaimed": run.state == "queued" and not run.attempt and not within(run.created_at, WAITING_SECONDS, now),
        "loss": charts.loss_chart(run.history, run.epochs),
        "accuracy": charts.accuracy_chart(run.history, run.epochs, goal),
    }


def useful_processes(settings: Settings) -> int:
    """How many the form offers: one a core, where it is known that the worker is on this machine."""
    return min(cores(), MOST_PROCESSES) if settings.database_url.startswith("sqlite") else MOST_PROCESSES
