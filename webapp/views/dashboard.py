"""The administrator's tabs and overview: version in service, active training, what waits for a decision."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from webapp.http.authentication import signed_in
from webapp.presentation import comparison
from webapp.presentation.runs import run_part
from webapp.services import services
from webapp.storage.schema import ACTIVE, Comparison, Correction, Promotion, Run, Version, champion_of

LISTED = 3
TABS = {
    "admin.dashboard": "Overview",
    "review.index": "Corrections",
    "runs.index": "Trainings",
    "versions.index": "Versions",
    "versions.promotions": "Audit",
}
# The tabs of endpoints and blueprints that belong to the page of another one.
TAB_OF = {
    "imports": "review.index",
    "removals": "review.index",
    "removals.index": "versions.promotions",
    "removals.ask_version": "versions.index",
    "removals.remove_version": "versions.index",
    "removals.ask_run": "runs.index",
    "removals.remove_run": "runs.index",
}

blueprint = Blueprint("admin", __name__, url_prefix="/admin")


@blueprint.get("")
def dashboard() -> ResponseReturnValue:
    """Show the version in service, the active training, what waits for a decision, and the last promotions."""
    g.by = signed_in()
    if g.by is None:
        return redirect(url_for("sign_in.page"), 303)
    with services().database.reading() as db:
        token = pulse(db)
        active = db.scalar(select(Run).where(Run.state.in_(ACTIVE)))
        champion = champion_of(db)
        promotions = db.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(LISTED)).all()
        part = run_part(db, active, champion)
        undecided = _undecided(db, champion)
        shown = {version.id for version in undecided} | {promotion.version_id for promotion in promotions}
        verdicts = comparison.compared(db, shown)
        waiting = count_waiting(db)
    return render_template(
        "admin/dashboard.html",
        page="admin",
        pulse=token,
        active=active,
        promotions=promotions,
        undecided=undecided,
        verdicts=verdicts,
        waiting=waiting,
        brief=True,
        **part,
    )


def _undecided(db: Session, champion: Version | None) -> list[Version]:
    """Return the latest versions that did not pass beside the one in service, and were not promoted all the same."""
    if champion is None:
        return []
    failed = Comparison.champion_id == champion.id, ~Comparison.passed
    served = exists().where(Promotion.version_id == Version.id)
    found = select(Version).join(Comparison, Comparison.version_id == Version.id).where(*failed, ~served)
    return list(db.scalars(found.order_by(Version.id.desc()).limit(LISTED)))


def pulse(db: Session) -> str:
    """Return a text that changes when a training begins or ends, a version is promoted or a correction comes in."""
    run = db.execute(select(Run.id, Run.state).order_by(Run.id.desc()).limit(1)).first()
    promotion = db.scalar(select(func.max(Promotion.id)))
    return " ".join(map(str, (*(run or ()), promotion, count_waiting(db))))


def count_waiting(db: Session) -> int:
    """Return how many corrections wait for review, those whose label is not checked yet included."""
    return db.scalar(select(func.count()).where(*Correction.firsts("received"))) or 0


@blueprint.app_template_global()
def admin_tabs() -> list[dict[str, Any]]:
    """Return the tabs of the administrator's pages: `title`, `url`, `current` (for aria-current) and `waiting`."""
    endpoint, part = request.endpoint or "", request.blueprint or ""
    of_part = next((tab for tab in TABS if tab.startswith(f"{part}.")), "")
    at = endpoint if endpoint in TABS else TAB_OF.get(endpoint) or TAB_OF.get(part, of_part)
    with services().database.reading() as db:
        waiting = count_waiting(db)
    return [
        {
            "title": title,
            "url": url_for(tab),
            "current": tab == at and ("page" if tab == request.endpoint else "true"),
            "waiting": waiting if tab == "review.index" else 0,
        }
        for tab, title in TABS.items()
    ]
