"""The administrator's dashboard: the champion, the active run, the latest runs, versions and promotions."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select

from model.data import mnist
from model.presets import PRESETS, Config
from model.rank import cores
from webapp.presentation import comparison
from webapp.presentation.runs import run_part
from webapp.services import services
from webapp.settings import Settings
from webapp.storage.schema import ACTIVE, Correction, Promotion, Run, Version, champion_of
from webapp.training.runs import MAX_PROCESSES, count_approved

LISTED = 50

blueprint = Blueprint("admin", __name__, url_prefix="/admin")


@blueprint.get("")
def dashboard() -> ResponseReturnValue:
    """Show the champion, the active run, the form to start one, and the latest runs, versions and promotions."""
    if not services().authenticator.is_open(session.get("administrator")):
        return redirect(url_for("sign_in.page"), 303)
    with services().database.reading() as db:
        runs = db.scalars(select(Run).order_by(Run.id.desc()).limit(LISTED)).all()
        active = next((run for run in runs if run.state in ACTIVE), None)
        versions = db.scalars(select(Version).order_by(Version.id.desc()).limit(LISTED)).all()
        promotions = db.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(LISTED)).all()
        champion = champion_of(db)
        part = run_part(db, active, champion)
        to_learn, _ = count_approved(db)
        said = comparison.verdicts(db, versions)
        promoted = comparison.compared(db, {one.version_id for one in promotions})
        waiting = db.scalar(select(func.count()).where(*Correction.firsts("received")))
    return render_template(
        "admin/dashboard.html",
        page="admin",
        runs=runs,
        active=active,
        versions=versions,
        promotions=promotions,
        promoted=promoted,
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


def useful_processes(settings: Settings) -> int:
    """Return how many processes the form offers: one a core if the worker is known to run on this machine."""
    return min(cores(), MAX_PROCESSES) if settings.database_url.startswith("sqlite") else MAX_PROCESSES
