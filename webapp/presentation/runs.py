"""Variables of the templates that show a run."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session

from webapp.presentation import charts
from webapp.storage.schema import ACTIVE, Comparison, Run, Version
from webapp.storage.timestamps import within
from webapp.training.runs import count_used

WAITING_SECONDS = 10.0  # after this, a run that no worker has begun has perhaps none


def run_part(db: Session, run: Run | None, champion: Version | None) -> dict[str, Any]:
    """Return the variables of `_run.html`; only the champion without a run."""
    if run is None:
        return {"champion": champion}
    now = time.time()
    goal = champion.validation_accuracy if champion and run.state in ACTIVE else None
    return {
        "run": run,
        "version": db.get(Version, run.version_id or 0),
        "comparison": db.get(Comparison, run.version_id or 0),
        "champion": champion,
        "used": count_used(db, run.id),
        "now": now,
        "unclaimed": run.state == "queued" and not run.attempt and not within(run.created_at, WAITING_SECONDS, now),
        "loss": charts.loss_chart(run.history, run.epochs),
        "accuracy": charts.accuracy_chart(run.history, run.epochs, goal),
    }
