"""Trainings: their list, and starting, following and cancelling them. In the code, a training is a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo
from sqlalchemy import select

from model.data import mnist
from model.presets import (
    BIGGEST_SEED,
    HIGHEST_RATE,
    MOST_BATCH_SIZE,
    MOST_EPOCHS,
    PRESETS,
    SCHEDULES,
    Config,
    ConfigError,
    Schedule,
)
from model.rank import cores
from model.training.curves import to_csv
from webapp.corrections.store import hands_to_hold_out
from webapp.exceptions import AppError, BadRequest
from webapp.http.authentication import admin_required, csrf
from webapp.http.errors import no_store, refused_form, row_or_404, wants_page
from webapp.http.messages import (
    FROM_CHECKBOX,
    FROM_TEXT,
    TEXT,
    Answer,
    Count,
    Fields,
    File,
    NoFields,
    RejectWith,
    RowId,
    SchemaOf,
    Sentence,
    Share,
    Timestamp,
    Url,
    VersionName,
)
from webapp.http.openapi import Operation
from webapp.presentation.runs import estimates, run_part
from webapp.services import services
from webapp.settings import Settings
from webapp.storage.schema import ACTIVE, Run, RunState, Version, champion_of
from webapp.training.runs import MAX_PROCESSES, RunActive, count_approved
from webapp.views.dashboard import pulse

LISTED = 50

blueprint = Blueprint("runs", __name__, url_prefix="/admin")
blueprint.before_request(admin_required)


def _blank_is_zero(value: Any, info: ValidationInfo) -> Any:
    return (value.strip() or "0") if info.context == TEXT and isinstance(value, str) else value


def _decimal(value: Any, info: ValidationInfo) -> Any:
    """Convert text to a number; leave anything else to be refused."""
    if info.context != TEXT or not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


Number = Annotated[int, FROM_TEXT, BeforeValidator(_blank_is_zero)]
Setting = Annotated[Number, RejectWith("bad_settings", "{field} must be a whole number.")]


class StartRun(Fields):
    """The settings of a run. Values out of range are refused."""

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
            description="Training processes; more than the worker's cores gain nothing. 0: one.",
            json_schema_extra={"minimum": 0, "maximum": MAX_PROCESSES},
        ),
    ] = 1
    batch_size: Annotated[
        Number,
        RejectWith("bad_settings", "The batch size must be a whole number."),
        Field(description="0: the preset's.", json_schema_extra={"minimum": 0, "maximum": MOST_BATCH_SIZE}),
    ] = 0
    learning_rate: Annotated[
        float,
        BeforeValidator(_decimal),
        BeforeValidator(_blank_is_zero),
        RejectWith("bad_settings", "The learning rate must be a number."),
        Field(
            description="The highest one. 0: the preset's.", json_schema_extra={"minimum": 0, "maximum": HIGHEST_RATE}
        ),
    ] = 0.0
    schedule: Annotated[
        Schedule | Literal[""],
        RejectWith("bad_settings", f"The schedule must be {' or '.join(SCHEDULES)}."),
        Field(description="Course of the learning rate. Empty: the preset's."),
    ] = ""
    corrections: Annotated[
        bool,
        FROM_CHECKBOX,
        Field(description="Learn from the approved corrections."),
        RejectWith("bad_settings", "Corrections must be true or false."),
    ] = False


class Epoch(Answer):
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    epoch: Count
    train_loss: float | None
    validation_loss: float
    validation_accuracy: Share
    seconds: Annotated[float, Field(ge=0)]
    test_accuracy: Annotated[Share | None, Field(description="Of presets measured so after each epoch.")] = None


class RunAnswer(Answer):
    """A run with its progress."""

    id: RowId
    state: RunState
    preset: str
    epochs: Count
    seed: Count
    processes: Count
    batch_size: Annotated[Count | None, Field(description="null: the preset's.")]
    learning_rate: Annotated[float | None, Field(description="The highest one; null: the preset's.")]
    schedule: Annotated[Schedule | None, Field(description="Course of the learning rate; null: the preset's.")]
    corrections: bool
    requested_by: str
    request_id: Annotated[str | None, Field(description="Of the request that started it, as in the log.")]
    attempt: Count
    losses: Count
    cancel_requested: bool
    created_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    progress: dict[str, Any]
    history: Annotated[list[dict[str, Any]], SchemaOf(list[Epoch])]
    version: VersionName | None
    error: Sentence | None
    url: Url


@blueprint.get("/runs")
def index() -> ResponseReturnValue:
    """Show the active training, the form to start one, and the latest trainings; as `part`, the pulse alone."""
    if request.args.get("part"):
        with services().database.reading() as db:
            return no_store(Response(pulse(db), mimetype="text/plain"))
    return _page()


def _page(error: AppError | None = None) -> str:
    """Return the page of the trainings: with an error, the form has what was typed and the error beside its field."""
    settings = services().settings
    with services().database.reading() as db:
        token = pulse(db)
        runs = db.scalars(select(Run).where(Run.removed_at.is_(None)).order_by(Run.id.desc()).limit(LISTED)).all()
        made = db.scalars(select(Version).where(Version.id.in_([run.version_id for run in runs]))).all()
        active = next((run for run in runs if run.state in ACTIVE), None)
        part = run_part(db, active, champion_of(db))
        estimated = estimates(db)
        to_learn, _ = count_approved(db)
        hold_out = hands_to_hold_out(db)
    typed = request.form if error else {"preset": "fine-tune" if to_learn else Config.preset, "corrections": to_learn}
    return render_template(
        "admin/runs.html",
        page="admin",
        pulse=token,
        runs=runs,
        read={version.id: version.validation_accuracy for version in made},
        removed={version.id for version in made if version.removed_at is not None},
        active=active,
        error=error,
        typed=typed,
        to_learn=to_learn,
        hold_out=hold_out,
        presets=PRESETS.values(),
        schedules=SCHEDULES,
        estimates=estimated,
        useful_processes=useful_processes(settings),
        mnist_folder=settings.mnist_dir,
        mnist_missing=mnist.missing(settings.mnist_dir),
        **part,
    )


def useful_processes(settings: Settings) -> int:
    """Return how many processes the form offers: one a core if the worker is known to run on this machine."""
    return min(cores(), MAX_PROCESSES) if settings.database_url.startswith("sqlite") else MAX_PROCESSES


@blueprint.post("/retrain")
@Operation(
    "start_run",
    {202: RunAnswer},
    body=StartRun,
    errors={400: ["bad_settings", "no_corrections"], 409: ["run_active"]},
)
@csrf.exempt
def retrain() -> ResponseReturnValue:
    """Start a run.

    While a run is active, another start is refused with the number of the active one.
    """
    try:
        run = _start(StartRun.read())
    except (BadRequest, RunActive) as error:
        return refused_form(error, _page)
    if wants_page():
        return redirect(url_for(".run", run_id=run.id), 303)
    return _answer(run).response(202, location=url_for(".run", run_id=run.id))


def _start(sent: StartRun) -> Run:
    """Start a run. Raises BadRequest and RunActive."""
    processes = sent.processes or 1
    if processes > MAX_PROCESSES:
        sentence = f"The processes must be from 1 to {MAX_PROCESSES}, not {processes}."
        raise BadRequest(400, "bad_settings", sentence, "processes")
    try:
        own = sent.batch_size or None, sent.learning_rate or None, sent.schedule or None
        config = Config(sent.preset, sent.epochs, sent.seed, processes, *own)
    except ConfigError as error:
        raise BadRequest(400, "bad_settings", f"{str(error)[:1].upper()}{str(error)[1:]}.", error.field) from error
    if sent.corrections:
        with services().database.reading() as db:
            if not count_approved(db)[0]:
                sentence = "There is no approved correction to learn from."
                raise BadRequest(400, "no_corrections", sentence, "corrections")
    return services().jobs.start(config, g.by, sent.corrections)


@blueprint.get("/runs/<int:run_id>")
@Operation("run", {200: RunAnswer})
def run(run_id: RowId) -> ResponseReturnValue:
    """Return a run with its progress."""
    with services().database.reading() as db:
        found = row_or_404(db, Run, run_id)
        part = run_part(db, found, champion_of(db))
    if request.args.get("part"):
        return render_template("admin/_run.html", brief=request.args["part"] == "brief", **part)
    if not wants_page():
        return _answer(found).response()
    return render_template("admin/run.html", page="admin", **part)


@blueprint.get("/runs/<int:run_id>.csv")
@Operation("run_curves", {200: File(("text/csv",))})
def curves(run_id: RowId) -> Response:
    """Return the figures of a run by epoch, as CSV."""
    with services().database.reading() as db:
        history = row_or_404(db, Run, run_id).history
    response = Response(to_csv(history), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="training-{run_id}.csv"'
    return response


@blueprint.post("/runs/<int:run_id>/cancel")
@Operation("cancel_run", {202: RunAnswer}, body=NoFields)
@csrf.exempt
def cancel(run_id: RowId) -> ResponseReturnValue:
    """Cancel a run.

    Answers with the run, `cancel_requested`: its training process may take a moment to stop.
    """
    NoFields.read()
    services().jobs.expire_leases()
    with services().database.reading() as db:
        row_or_404(db, Run, run_id)
    services().jobs.cancel(run_id, g.by)
    with services().database.reading() as db:
        found = db.get_one(Run, run_id)
    if wants_page():
        return redirect(url_for(".run", run_id=run_id), 303)
    return _answer(found).response(202)


def _answer(run: Run) -> RunAnswer:
    return RunAnswer.of(run, losses=run.failed_attempts, version=run.version_id, url=url_for(".run", run_id=run.id))
