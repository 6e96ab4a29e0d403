"""Variables of the templates that show a run."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from model.presets import PRESETS, ConfigError, Preset
from webapp.presentation import charts, comparison
from webapp.storage.schema import ACTIVE, Comparison, Run, Version
from webapp.storage.timestamps import within
from webapp.training.runs import config_of, count_used
from webapp.versions.promotions import roll_back_target

WAITING_SECONDS = 10.0  # after this, a run that no worker has begun has perhaps none
# How long the presets train on two cores, by docs/measurements.md.
REFERENCE_SECONDS = {"thorough": 4200.0, "standard": 55.0, "fine-tune": 15.0, "basic": 4.0, "original": 12.0}
REST_SECONDS = 10.0  # to read the digits, to calibrate and to compare


class Estimate(NamedTuple):
    """About how long a preset takes: seconds of an epoch, those of all else, and whether they were measured here."""

    epoch: float
    rest: float
    is_measured: bool

    def seconds(self, epochs: int) -> float:
        return self.epoch * epochs + self.rest


def run_part(db: Session, run: Run | None, champion: Version | None) -> dict[str, Any]:
    """Return the variables of `_run.html`; only the version in service without a run."""
    if run is None:
        return {"champion": champion}
    now = time.time()
    used, version = count_used(db, run.id), db.get(Version, run.version_id or 0)
    if version and version.removed_at is not None:
        version = None
    goal = champion.validation_accuracy if champion and run.state in ACTIVE else None
    return {
        "run": run,
        "target": roll_back_target(db),
        "version": version,
        "comparison": db.get(Comparison, run.version_id or 0),
        "compared": comparison.compared(db, [run.version_id or 0]).get(run.version_id or 0),
        "champion": champion,
        "used": used,
        "settings": _settings(run, version, bool(used[0]) if run.attempt else run.corrections),
        "now": now,
        "unclaimed": run.state == "queued" and not run.attempt and not within(run.created_at, WAITING_SECONDS, now),
        "loss": charts.loss_chart(run.history, run.epochs),
        "accuracy": charts.accuracy_chart(run.history, run.epochs, goal),
    }


def _settings(run: Run, version: Version | None, correcting: bool) -> Preset | dict[str, Any] | None:
    """Return the settings of a run's version, by its card; before, the preset with the run's own settings.

    None for a run of another release.
    """
    if version and version.card.get("settings"):
        return version.card["settings"]
    try:
        return config_of(run).effective_preset(correcting=correcting)
    except ConfigError:
        return None


def estimates(db: Session) -> dict[str, Estimate]:
    """Return about how long each preset takes, by its name.

    By the latest finished training of the preset by one process, with the preset's batch size; without such a
    training, by REFERENCE_SECONDS.
    """
    found = {
        name: Estimate(seconds / PRESETS[name].epochs, REST_SECONDS, False)
        for name, seconds in REFERENCE_SECONDS.items()
    }
    usual = Run.state == "finished", Run.processes == 1, Run.batch_size.is_(None), Run.removed_at.is_(None)
    latest = select(func.max(Run.id)).where(*usual).group_by(Run.preset)
    for run in db.scalars(select(Run).where(Run.id.in_(latest)).order_by(Run.id)):
        if run.preset in PRESETS and run.history and run.history[-1]["epoch"] and run.started_at and run.ended_at:
            trained = run.history[-1]["seconds"]
            # an interrupted training also waited
            rest = max(0.0, run.ended_at - run.started_at - trained) if run.attempt == 1 else 0.0
            found[run.preset] = Estimate(trained / run.history[-1]["epoch"], rest, True)
    return found
