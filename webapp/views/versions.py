"""Versions: their list, their evidence, promotion, and the list of promotions.

A promotion by hand needs a reason; a roll-back, to the version in service before the latest promotion, does not.
"""

from __future__ import annotations

import json
import logging
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from flask import Blueprint, Response, g, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from model.data.mnist import MnistMissing
from model.evaluation import model_card
from model.inference.weights import WeightsError
from webapp.exceptions import BadRequest
from webapp.http.authentication import admin_required, csrf
from webapp.http.errors import refused_form, row_or_404, wants_page
from webapp.http.messages import (
    Answer,
    Fields,
    File,
    NoFields,
    Query,
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
from webapp.presentation import charts, comparison, wording
from webapp.services import services
from webapp.storage.engine import lock_table
from webapp.storage.schema import Artifact, Comparison, Promotion, Removal, Version, champion_id, champion_of, coded
from webapp.storage.timestamps import within
from webapp.versions.artifacts import get_artifact
from webapp.versions.promotions import record_promotion, roll_back_target
from webapp.versions.test_predictions import NotComputed

PER_PAGE = 50
LONGEST_REASON = 500
# Without progress for this long, a computation has perhaps no worker.
QUIET_SECONDS = 10.0

Listed = TypeVar("Listed", Version, Promotion, Removal)

log = logging.getLogger(__name__)

blueprint = Blueprint("versions", __name__, url_prefix="/admin")
blueprint.before_request(admin_required)


def _printable(character: str) -> str:
    """Return a space for white space, controls and surrogates, U+FFFD for any other that is not printable."""
    if character.isprintable():
        return character
    return " " if character.isspace() or unicodedata.category(character) in ("Cc", "Cs") else "\ufffd"


def _on_one_line(text: Any) -> Any:
    """Return text with printable characters only and runs of spaces collapsed; other values unchanged."""
    return " ".join("".join(map(_printable, text)).split()) if isinstance(text, str) else text


class Promote(Fields):
    """The reason of a promotion."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "tried on the tablets of class 4b"}]})

    reason: Annotated[
        str,
        Field(min_length=1, max_length=LONGEST_REASON, json_schema_extra={"pattern": r"[^\s\x00-\x1f\x7f-\x9f]"}),
        BeforeValidator(_on_one_line),
        RejectWith("no_reason", f"Please say why, in 1 to {LONGEST_REASON} characters: it is kept in the list."),
    ]


class Before(Query):
    before: Annotated[
        RowId | SkipJsonSchema[None],
        Field(description="Only those with a smaller number: the next page."),
        RejectWith("bad_page", "The page must begin before a whole number from 1 on."),
    ] = None


class InService(Answer):
    """The version in service."""

    version: VersionName


class VersionInShort(Answer):
    version: VersionName
    preset: str
    run: RowId | None
    created_at: Timestamp
    validation_accuracy: Share
    gate_accuracy: Share | None
    test_accuracy: Share | None
    answers: bool
    has_served: bool
    passed: bool | None
    summary: str | None
    url: Url


class Versions(Answer):
    """A page of versions, the latest first."""

    versions: list[VersionInShort]
    next: Url | None


class Evidence(BaseModel):
    """The comparison of a version with the champion of that time."""

    champion: VersionName
    anchor: VersionName | None
    at: Timestamp
    passed: bool
    gained: bool
    summary: str
    criteria: list[dict[str, Any]]


class StrengthAnswer(Answer):
    fraction: Share
    figures: dict[str, Any] | None
    error: Sentence | None


class VersionAnswer(Answer):
    """A version with its comparison, strength and model card."""

    version: VersionName
    source: Literal["shipped", "run"]
    run: RowId | None
    created_at: Timestamp
    sha256: str
    card: dict[str, Any]
    answers: Annotated[bool, Field(description="Whether it is in service.")]
    has_served: bool
    comparison: Annotated[dict[str, Any], SchemaOf(Evidence)] | None
    strength: StrengthAnswer


class CardEvidence(BaseModel):
    """The result of a version's comparison with the champion of that time."""

    champion: VersionName
    at: Timestamp
    passed: bool
    summary: str


class Card(BaseModel):
    """A model card, with its version's name, the digest of its weights, and the figures stored about it."""

    version: VersionName
    sha256: str
    intervals: Annotated[dict[str, list[Share]], Field(description="Those of 95 % of the accuracies.")]
    measured: Annotated[dict[str, Any], Field(description="Figures of the test digits, as far as they are computed.")]
    evidence: CardEvidence | None


class PromotionAnswer(Answer):
    at: Timestamp
    by: str
    before: Annotated[VersionName | None, Field(alias="from")]
    to: VersionName
    why: Sentence


class Promotions(Answer):
    """A page of promotions, the latest first."""

    promotions: list[PromotionAnswer]
    next: Url | None


@blueprint.get("/versions")
@Operation("versions", {200: Versions}, query=Before)
def index() -> ResponseReturnValue:
    """List the versions with the results of their comparisons, the latest first, fifty at a time."""
    before = Before.read().before
    with services().database.reading() as db:
        found, older = latest(db, Version, before, Version.removed_at.is_(None))
        champion = champion_of(db)
        said = comparison.verdicts(db, found)
    if wants_page():
        shown = {"versions": found, "champion": champion, "older": older, "before": before}
        return render_template("admin/versions.html", page="admin", **shown, **said)
    following = url_for(".index", before=older) if older else None
    return Versions(versions=[_in_short(one, champion, said) for one in found], next=following).response()


@blueprint.get("/versions/<int:version_id>")
@Operation("version", {200: VersionAnswer})
def page(version_id: RowId) -> ResponseReturnValue:
    """Return a version with its comparison, strength and model card."""
    found, champion = _version(version_id)
    if request.args.get("part"):
        return render_template("admin/_robustness.html", **_strength_part(found))
    if wants_page():
        return _page(found, champion)
    return _answer(found, champion).response()


@blueprint.get("/versions/<int:version_id>/weights")
@Operation("weights", {200: File(("application/octet-stream",)), 304: None})
def weights(version_id: RowId) -> ResponseReturnValue:
    """Download a version's weights as a safetensors file."""
    found, _ = _version(version_id)
    with services().database.reading() as db:
        data = db.get_one(Version, version_id).weights
    response = Response(data, mimetype="application/octet-stream")
    response.headers["Content-Disposition"] = f"attachment; filename={found.name}.safetensors"
    response.set_etag(found.sha256)
    return response.make_conditional(request)


@blueprint.get("/versions/<int:version_id>/card")
@Operation("card", {200: Card})
def card(version_id: RowId) -> ResponseReturnValue:
    """Download a version's model card with the figures stored about it."""
    return jsonify(_described(_version(version_id)[0]))


@blueprint.get("/versions/<int:version_id>/card.md")
@Operation("card_text", {200: File(("text/markdown",))})
def card_text(version_id: RowId) -> ResponseReturnValue:
    """Download a version's model card as Markdown."""
    found, _ = _version(version_id)
    response = Response(model_card.markdown(_described(found)), mimetype="text/markdown")
    response.headers["Content-Disposition"] = f"attachment; filename={found.name}.md"
    return response


@blueprint.post("/versions/<int:version_id>/promote")
@Operation("promote_version", {200: InService}, body=Promote, errors={409: ["unusable_version"]})
@csrf.exempt
def promote(version_id: RowId) -> ResponseReturnValue:
    """Put a version into service, whatever its figures, for a reason that is recorded."""
    found, champion = _version(version_id)
    try:
        reason = Promote.read().reason
        return _put_into_service(found, g.by, "%s promoted by %s", lambda _: wording.quoted(reason))
    except BadRequest as error:
        return refused_form(error, partial(_page, found, champion))


@blueprint.post("/versions/<int:version_id>/roll-back")
@Operation(
    "roll_back_version",
    {200: InService},
    body=NoFields,
    errors={409: ["unusable_version", "never_in_service", "not_the_version_before"]},
)
@csrf.exempt
def roll_back(version_id: RowId) -> ResponseReturnValue:
    """Put the version back into service that was in service before the latest promotion.

    Any other version, and one that had failed its comparison, is promoted instead, with a reason.
    """
    found, champion = _version(version_id)
    try:
        NoFields.read()
        return _put_into_service(found, g.by, "rolled back to %s by %s", lambda db: _roll_back(db, found))
    except BadRequest as error:
        return refused_form(error, partial(_page, found, champion))


@blueprint.get("/promotions")
@Operation("promotions", {200: Promotions}, query=Before)
def promotions() -> ResponseReturnValue:
    """List the promotions, the latest first, fifty at a time."""
    before = Before.read().before
    with services().database.reading() as db:
        found, older = latest(db, Promotion, before)
        verdicts = comparison.compared(db, {one.version_id for one in found})
    if wants_page():
        shown = {"promotions": found, "verdicts": verdicts, "older": older, "before": before}
        return render_template("admin/promotions.html", page="admin", **shown)
    following = url_for(".promotions", before=older) if older else None
    listed = [PromotionAnswer.of(one, before=one.from_id, to=one.version_id) for one in found]
    return Promotions(promotions=listed, next=following).response()


def latest(
    db: Session, table: type[Listed], before: int | None, *which: ColumnElement[bool]
) -> tuple[list[Listed], int | None]:
    """Return a page of rows, the latest first, and the id before which the next page begins, if there is one."""
    chosen = select(table).where(*which).order_by(table.id.desc()).limit(PER_PAGE + 1)
    if before is not None:
        chosen = chosen.where(table.id < before)
    found = list(db.scalars(chosen))
    return found[:PER_PAGE], found[PER_PAGE - 1].id if len(found) > PER_PAGE else None


def has_served(db: Session, version_id: int) -> bool:
    """Tell whether a version has ever been in service."""
    return bool(db.scalar(select(exists().where(Promotion.version_id == version_id))))


def _in_short(version: Version, champion: Version | None, said: dict[str, Any]) -> VersionInShort:
    verdict = said["verdicts"].get(version.id)
    return VersionInShort.of(
        version,
        version=version.name,
        run=version.run_id,
        gate_accuracy=version.card.get("gate_accuracy"),
        answers=champion is not None and champion.id == version.id,
        has_served=version.id in said["served"],
        passed=verdict and verdict.passed,
        summary=verdict and verdict.summary,
        url=url_for(".page", version_id=version.id),
    )


def _answer(version: Version, champion: Version | None) -> VersionAnswer:
    measured = get_artifact(services().database, version.id, "strength")
    with services().database.reading() as db:
        compared, served = db.get(Comparison, version.id), has_served(db, version.id)
    return VersionAnswer.of(
        version,
        version=version.name,
        run=version.run_id,
        answers=champion is not None and champion.id == version.id,
        has_served=served,
        comparison=compared and _evidence(compared),
        strength=StrengthAnswer.of(measured, figures=_figures(measured)),
    )


def _evidence(compared: Comparison) -> dict[str, Any]:
    """Return a comparison in words, with fields that those of earlier releases lack."""
    evidence = wording.comparison(compared.evidence)
    anchor = evidence.pop("anchor_id", None)
    return {
        "champion": f"v{compared.champion_id}",
        "anchor": f"v{anchor}" if anchor else None,
        "at": compared.at,
        "gained": comparison.has_gained(evidence.get("gained"), compared.passed),
        **evidence,
    }


def _version(version_id: int) -> tuple[Version, Version | None]:
    """Return a version and the champion. Raises NotFound."""
    with services().database.reading() as db:
        return row_or_404(db, Version, version_id), champion_of(db)


def _page(version: Version, champion: Version | None, error: BadRequest | None = None) -> str:
    """Render a version's page; `error` is why the form that it holds was refused."""
    with services().database.reading() as db:
        report, served = comparison.report(db, version.id), has_served(db, version.id)
        target = roll_back_target(db)
    return render_template(
        "admin/version.html",
        page="admin",
        answers=champion is not None and champion.id == version.id,
        served=served,
        target=target,
        report=report,
        longest=LONGEST_REASON,
        error=error,
        card=_described(version),
        intended_use=model_card.INTENDED_USE,
        limits=model_card.limits(version.card),
        seen=model_card.seen(version.card),
        titles=model_card.TITLES,
        **_strength_part(version),
    )


def _roll_back(db: Session, version: Version) -> str:
    """Return the recorded reason of a roll-back. Raises BadRequest for a version that cannot be rolled back to."""
    if version.id not in (champion_id(db), roll_back_target(db)):
        if not has_served(db, version.id):
            reason = f"Version {version.name} has never been in service: put it in service with a reason instead."
            raise BadRequest(409, "never_in_service", reason)
        reason = (
            f"Only the version in service before the latest change can be rolled back to, and only if it had passed "
            f"its checks: put {version.name} in service with a reason instead."
        )
        raise BadRequest(409, "not_the_version_before", reason)
    return coded("rolled_back", **{"from": champion_id(db)})


def _put_into_service(version: Version, by: str, done: str, why: Callable[[Session], str]) -> ResponseReturnValue:
    """Promote a version, log `done` and answer. `why` makes the recorded reason, in the transaction of the promotion.

    Raises BadRequest if the version's weights cannot be used.
    """
    try:
        services().active_model.try_out(version.id)
    except WeightsError as error:
        reason = f"Version {version.name} cannot be put into service: {error}."
        raise BadRequest(409, "unusable_version", reason) from error
    with services().database.writing() as db:
        lock_table(db, Promotion)
        record_promotion(db, version.id, by, why(db))
    log.info(done, version.name, by)
    services().active_model.refresh()
    if wants_page():
        return redirect(url_for("admin.dashboard"), 303)
    return InService(version=version.name).response()


def _described(version: Version) -> dict[str, Any]:
    """Return a version's model card with the figures stored about it, and the result of its comparison."""
    try:
        report = services().predictions.readings(version.id).report
    except (NotComputed, MnistMissing):
        report = None
    robustness = _figures(get_artifact(services().database, version.id, "strength"))
    with services().database.reading() as db:
        compared = db.get(Comparison, version.id)
    return {
        "version": version.name,
        "sha256": version.sha256,
        **model_card.described(version.card),
        "measured": model_card.measured(report, robustness),
        "evidence": compared
        and CardEvidence(
            champion=f"v{compared.champion_id}",
            at=compared.at,
            passed=compared.passed,
            summary=wording.comparison(compared.evidence)["summary"],
        ).model_dump(mode="json"),
    }


def _figures(measured: Artifact | None) -> dict[str, Any] | None:
    return json.loads(measured.result) if measured and measured.result else None


def _strength_part(version: Version) -> dict[str, Any]:
    """Return the variables of `_robustness.html`."""
    measured = get_artifact(services().database, version.id, "strength")
    figures = _figures(measured)
    measuring = measured if measured and measured.fraction < 1 and not measured.error else None
    return {
        "version": version,
        "measured": measured,
        "figures": figures,
        "measuring": measuring,
        "quiet": measuring is not None and not within(measuring.updated_at, QUIET_SECONDS, time.time()),
        "curves": charts.strength_charts(figures) if figures else [],
        "reliability": charts.reliability_chart(figures) if figures else None,
    }
