"""Variables of the templates that show a run."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from model.presets import PRESETS
from webapp.presentation import charts, comparison
from webapp.storage.schema import ACTIVE, Comparison, Run, Version
from webapp.storage.timestamps import within
from webapp.training.runs import count_used
from webapp.versions.promotions import roll_back_target

WAITING_SECONDS = 10.0  # after this, a run that no worker has begun has perhaps none
# How long the presets take on two cores, by docs/measurements.md, with ten seconds to calibrate and compare.
REFERENCE_SECONDS = {"thorough": 4210.0, "standard": 65.0, "fine-tune": 25.0, "basic": 14.0}


def run_part(db: Session, run: Run | None, champion: Version | None) -> dict[str, Any]:
    """Return the variables of `_run.html`; only the version in service without a run."""
    if run is None:
        return {"champion": champion}
    now = time.time()
    goal = champion.validation_accuracy if champion and run.state in ACTIVE else None
    return {
        "run": run,
        "target": roll_back_target(db),
        "version": db.get(Version, run.version_id or 0),
        "comparison": db.get(Comparison, run.version_id or 0),
        "compared": comparison.compared(db, [run.version_id or 0]).get(run.version_id or 0),
        "champion": champion,
        "used": count_used(db, run.id),
        "now": now,
        "unclaimed": run.state == "queued" and not run.attempt and not within(run.created_at, WAITING_SECONDS, now),
        "loss": charts.loss_chart(run.history, run.epochs),
        "accuracy": charts.accuracy_chart(run.history, run.epochs, goal),
    }


def preset_seconds(db: Session) -> dict[str, tuple[float, bool]]:
    """Return about how long each preset takes with its own number of epochs, by its name.

    The seconds are those of the latest finished training of the preset by one process, at its seconds per epoch, with
    True; without such a training, those of REFERENCE_SECONDS, with False.
    """
    found = {name: (seconds, False) for name, seconds in REFERENCE_SECONDS.items()}
    latest = select(func.max(Run.id)).where(Run.state == "finished", Run.processes == 1).group_by(Run.preset)
    for run in db.scalars(select(Run).where(Run.id.in_(latest)).order_by(Run.id)):
        if run.preset in PRESETS and run.history and run.history[-1]["epoch"] and run.started_at and run.ended_at:
            trained = run.history[-1]["seconds"]
            # reading the data, calibrating and comparing; an interrupted training also waited
            rest = max(0.0, run.ended_at - run.started_at - trained) if run.attempt == 1 else 0.0
            epochs = PRESETS[run.preset].epochs
            found[run.preset] = trained / run.history[-1]["epoch"] * epochs + rest, True
    return found
