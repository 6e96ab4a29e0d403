"""Versions as the administrator sees them: what speaks for one, putting one into service, and the list of all that did.

Whoever puts a version into service by hand says why; who goes back to one that has served already need not.
"""

from __future__ import annotations

import json
import logging
import time
import unicodedata
from typing import Any, TypeVar

from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from model.weights import WeightsError
from webapp import curves, evidence, wording
from webapp.auth import csrf, requester, turned_away
from webapp.computations import look_up
from webapp.database import BIGGEST_ROW_ID, Comparison, Computation, Promotion, Version, alone, champion_id, coded
from webapp.errors import wants_page
from webapp.exceptions import BadRequest
from webapp.fields import fields
from webapp.moments import within
from webapp.promotions import record_promotion
from webapp.services import services

PER_PAGE = 50
LONGEST_REASON = 500
# A computation that has told nothing for so long has perhaps no worker.
QUIET_SECONDS = 10.0

Listed = TypeVar("Listed", Version, Promotion)

log = logging.getLogger(__name__)

blueprint = Blueprint("versions", __name__, url_prefix="/admin")


@blueprint.get("/versions")
def index() -> Response | str:
    """Every version with what its comparison said, the latest first, fifty at a time: those `before` a number."""
    if away := turned_away():
        return away
    before = _before()
    with services().database.reading() as db:
        found, older = _latest(db, Version, before)
        champion = db.get(Version, champion_id(db) or 0)
        said = evidence.verdicts(db, found)
    if wants_page():
        shown = {"versions": found, "champion": champion, "older": older, "before": before}
        return render_template("versions.html", page="admin", **shown, **said)
    following = url_for(".index", before=older) if older else None
    return jsonify({"versions": [_in_short(one, champion, said) for one in found], "next": following})


@blueprint.get("/versions/<int:version_id>")
def page(version_id: int) -> Response | str:
    """One version with evidence, strength and card: as a page, as the part that changes (?part=1), or as JSON."""
    if away := turned_away():
        return away
    found, champion = _version(version_id)
    measured = _strength(found)
    if not request.args.get("part") and not wants_page():
        return jsonify(as_json(found, measured, champion))
    other = champion if champion and champion.id != found.id else None
    other_measured = _strength(other) if other else None
    part = _strength_part(found, measured, other, other_measured)
    if request.args.get("part"):
        return render_template("_strength.html", **part)
    with services().database.reading() as db:
        report, served = evidence.report(db, found.id), has_served(db, found.id)
    answers = champion is not None and other is None
    return render_template(
        "version.html", page="admin", answers=answers, served=served, report=report, longest=LONGEST_REASON, **part
    )


@blueprint.get("/versions/<int:version_id>/weights")
def weights(version_id: int) -> Response:
    """The safetensors file, named after the version."""
    if away := turned_away():
        return away
    found, _ = _version(version_id)
    with services().database.reading() as db:
        data = db.execute(select(Version.weights).where(Version.id == version_id)).scalar_one()
    response = Response(data, mimetype="application/octet-stream")
    response.headers["Content-Disposition"] = f"attachment; filename={found.name}.safetensors"
    response.set_etag(found.sha256)
    return response.make_conditional(request)


@blueprint.get("/versions/<int:version_id>/card")
def card(version_id: int) -> Response:
    """The model card, with the version's name and the SHA-256 of its weights' file."""
    if away := turned_away():
        return away
    found, _ = _version(version_id)
    return jsonify({"version": found.name, "sha256": found.sha256, **found.card})


@blueprint.post("/versions/<int:version_id>/promote")
@csrf.exempt
def promote(version_id: int) -> Response:
    """Puts a version into service, whatever its figures: the administrator's own decision, with the `reason` for it."""
    by = requester()
    sent = fields("reason")
    found, _ = _version(version_id)
    reason = _reason(sent.get("reason"))
    _try_out(found)
    with services().database.writing() as db:
        record_promotion(db, version_id, by, wording.quoted(reason))
    log.info("%s promoted by %s", found.name, by)
    return _in_service(found)


@blueprint.post("/versions/<int:version_id>/roll-back")
@csrf.exempt
def roll_back(version_id: int) -> Response:
    """Puts a version back into service that has been there before."""
    by = requester()
    fields()
    found, _ = _version(version_id)
    with services().database.reading() as db:
        if not has_served(db, version_id):
            reason = f"Version {found.name} has not been in service, so there is nothing to roll back to: promote it."
            raise BadRequest(409, "never_in_service", reason)
    _try_out(found)
    with services().database.writing() as db:
        alone(db, Promotion)
        record_promotion(db, version_id, by, coded("rolled_back", **{"from": champion_id(db)}))
    log.info("rolled back to %s by %s", found.name, by)
    return _in_service(found)


@blueprint.get("/promotions")
def promotions() -> Response | str:
    """Every change of the version that answers, the latest first, fifty at a time: those `before` a number."""
    if away := turned_away():
        return away
    before = _before()
    with services().database.reading() as db:
        found, older = _latest(db, Promotion, before)
    if wants_page():
        return render_template("promotions.html", page="admin", promotions=found, older=older, before=before)
    following = url_for(".promotions", before=older) if older else None
    return jsonify({"promotions": [promotion_as_json(one) for one in found], "next": following})


def _latest(db: Session, table: type[Listed], before: int | None) -> tuple[list[Listed], int | None]:
    """A page of rows, the latest first, and the number before which the next page begins."""
    chosen = select(table).order_by(table.id.desc()).limit(PER_PAGE + 1)
    if before is not None:
        chosen = chosen.where(table.id < before)
    found = list(db.scalars(chosen))
    return found[:PER_PAGE], found[PER_PAGE - 1].id if len(found) > PER_PAGE else None


def _before() -> int | None:
    """The number before which the page that is asked for begins; None for the first page."""
    value = request.args.get("before")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 11 and 1 <= int(value) <= BIGGEST_ROW_ID):
        raise BadRequest(400, "bad_page", "The page must begin before a whole number from 1 on.")
    return int(value)


def has_served(db: Session, version_id: int) -> bool:
    """Whether a version has ever been in service."""
    return db.scalar(select(exists().where(Promotion.version_id == version_id)))


def promotion_as_json(promotion: Promotion) -> dict[str, Any]:
    return {
        "at": promotion.at,
        "by": promotion.by,
        "from": f"v{promotion.from_id}" if promotion.from_id else None,
        "to": f"v{promotion.version_id}",
        "why": wording.worded(promotion.why),
    }


def _in_short(version: Version, champion: Version | None, said: dict[str, Any]) -> dict[str, Any]:
    passed, summary = said["verdicts"].get(version.id, (None, None))
    return {
        "version": version.name,
        "preset": version.preset,
        "run": version.run_id,
        "created_at": version.created_at,
        "validation_accuracy": version.validation_accuracy,
        "test_accuracy": version.test_accuracy,
        "answers": champion is not None and champion.id == version.id,
        "has_served": version.id in said["served"],
        "passed": passed,
        "summary": summary,
        "url": url_for(".page", version_id=version.id),
    }


def as_json(version: Version, measured: Computation, champion: Version | None) -> dict[str, Any]:
    with services().database.reading() as db:
        compared, served = db.get(Comparison, version.id), has_served(db, version.id)
    return {
        "version": version.name,
        "source": version.source,
        "run": version.run_id,
        "created_at": version.created_at,
        "sha256": version.sha256,
        "card": version.card,
        "answers": champion is not None and champion.id == version.id,
        "has_served": served,
        "comparison": compared
        and {"champion": f"v{compared.champion_id}", "at": compared.at, **wording.comparison(compared.evidence)},
        "strength": {
            "fraction": measured.fraction,
            "figures": _figures(measured),
            "error": wording.worded(measured.error),
        },
    }


def _version(version_id: int) -> tuple[Version, Version | None]:
    """A version, or 404, and the champion."""
    with services().database.reading() as db:
        found = db.get(Version, version_id) if version_id <= BIGGEST_ROW_ID else None
        if found is None:
            abort(404)
        return found, db.get(Version, champion_id(db) or 0)


def _reason(value: Any) -> str:
    """What was written, on one line; raises BadRequest where that is nothing or too much."""
    said = " ".join("".join(map(_shown, value)).split()) if isinstance(value, str) else ""
    if not 1 <= len(said) <= LONGEST_REASON:
        raise BadRequest(
            400, "no_reason", f"Please say why, in 1 to {LONGEST_REASON} characters: it is kept in the list."
        )
    return said


def _shown(character: str) -> str:
    """The character, or what stands for it where it cannot be seen: a space for what only controls."""
    if character.isprintable():
        return character
    return " " if character.isspace() or unicodedata.category(character) in ("Cc", "Cs") else "\ufffd"


def _try_out(version: Version) -> None:
    """Raises BadRequest where the version cannot be used: damaged weights stay out, whoever wants them in."""
    try:
        services().live.try_out(version.id)
    except WeightsError as error:
        reason = f"Version {version.name} cannot be put into service: {error}."
        raise BadRequest(409, "unusable_version", reason) from error


def _in_service(version: Version) -> Response:
    services().live.refresh()
    if wants_page():
        return redirect(url_for("admin.dashboard"), 303)
    return jsonify({"version": version.name})


def _strength(version: Version) -> Computation:
    return look_up(services().database, version.id, "strength")


def _figures(measured: Computation | None) -> dict[str, Any] | None:
    return json.loads(measured.result) if measured and measured.result else None


def _strength_part(
    version: Version, measured: Computation, other: Version | None, other_measured: Computation | None
) -> dict[str, Any]:
    """What `_strength.html` shows of a version, beside the `other` one that answers where that is another."""
    figures, theirs = _figures(measured), _figures(other_measured)
    waited_for = next((row for row in (measured, other_measured) if row and row.fraction < 1 and not row.error), None)
    return {
        "version": version,
        "measured": measured,
        "other": other,
        "other_measured": other_measured,
        "theirs": theirs,
        "figures": figures,
        "waited_for": waited_for,
        "quiet": waited_for is not None and not within(waited_for.updated_at, QUIET_SECONDS, time.time()),
        "curves": curves.strength_charts(figures, theirs) if figures else [],
        "reliability": curves.reliability_chart(figures, theirs) if figures else None,
    }
