"""For whoever watches the server: is it alive, and can it answer?"""

from __future__ import annotations

import ipaddress
from typing import Literal

from flask import Blueprint, Response, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from model.inference.weights import WeightsError
from webapp.http.authentication import authenticate
from webapp.http.errors import unstored
from webapp.http.messages import Answer, File
from webapp.http.openapi import BEARER_OR_SESSION, DOOR, Operation
from webapp.services import services
from webapp.storage.disk_reserve import MIN_FREE_BYTES, free_bytes
from webapp.versions.active import NoChampion

PASSED_ON = ("X-Forwarded-For", "X-Real-IP", "Forwarded")

blueprint = Blueprint("health", __name__)


class Alive(Answer):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Checks(Answer):
    database: str
    model: str


class Readiness(Answer):
    """Whether database and model answer and the disk has room, and why not."""

    status: Literal["ok", "not ready"]
    checks: Checks


@blueprint.get("/healthz")
@Operation("alive", {200: Alive}, is_probe=True)
def alive() -> Response:
    """Tell that the process is alive.

    Depends on nothing, so that a database that is away does not get the web restarted.
    """
    return Alive().response()


@blueprint.get("/readyz")
@Operation("ready", {200: Readiness, 503: Readiness}, is_probe=True)
def ready() -> Response:
    """Tell whether the database answers and has room, and the model is loaded."""
    checks = Checks(database=_database(), model=_model())
    ok = all(check == "ok" or check.startswith("ok,") for check in (checks.database, checks.model))
    return unstored(Readiness(status="ok" if ok else "not ready", checks=checks).response(200 if ok else 503))


@blueprint.get("/metrics")
@Operation("metrics", {200: File(("text/plain",))}, refuses=DOOR, security=[*BEARER_OR_SESSION, {}], is_probe=True)
def metrics() -> Response:
    """Tell the counters, for Prometheus.

    In its own text, or in OpenMetrics where that is asked for. A process of the same machine needs no token.
    """
    if not _from_here():
        authenticate()
    body, content_type = services().metrics.exposition(services().database, request.headers.get("Accept", ""))
    return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})


def _from_here() -> bool:
    """Whether a process of this machine asks, for itself: a proxy beside us asks for others."""
    address = request.remote_addr
    if not address or any(header in request.headers for header in PASSED_ON):
        return False
    return ipaddress.ip_address(address).is_loopback


def _database() -> str:
    database = services().database
    try:
        with database.reading() as session:
            session.execute(text("SELECT id FROM version LIMIT 1"))
        left = free_bytes(database)
    except (SQLAlchemyError, OSError):
        return "the database does not answer"
    if left is not None and left < MIN_FREE_BYTES:
        return f"the disk is full: {left / 1e6:.1f} MB are left"
    return f"ok, {database.describe()}"


def _model() -> str:
    live = services().active_model
    try:
        recognizer = live.recognizer()
        recognizer.warm()
        return f"ok, {recognizer.version}"
    except (NoChampion, WeightsError) as error:
        return str(error)
    except SQLAlchemyError:
        return "no version is loaded and the database does not answer"
