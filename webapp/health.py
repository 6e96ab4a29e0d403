"""For whoever watches the server: is it alive, and can it answer?"""

from __future__ import annotations

import ipaddress

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from model.weights import WeightsError
from webapp.auth import requester
from webapp.live import NoChampion
from webapp.reserve import FULL_BYTES, bytes_left
from webapp.services import services

PASSED_ON = ("X-Forwarded-For", "X-Real-IP", "Forwarded")

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def alive() -> Response:
    """Alive: depends on nothing, so that a database that is away does not get the web restarted."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
def ready() -> tuple[Response, int]:
    """Ready: the database answers and has room, and the model is loaded; 503 with the reason otherwise."""
    checks = {"database": _database(), "model": _model()}
    ok = all(check == "ok" or check.startswith("ok,") for check in checks.values())
    response = jsonify({"status": "ok" if ok else "not ready", "checks": checks})
    response.cache_control.no_store = True
    return response, 200 if ok else 503


@blueprint.get("/metrics")
def metrics() -> Response:
    """Counters for Prometheus: for this machine itself, and for whoever has the token or is signed in."""
    if not _from_here():
        requester()
    body, content_type = services().metrics.exposition(services().database, request.headers.get("Accept", ""))
    return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})


def _from_here() -> bool:
    """Whether a process of this machine asks, for itself: a proxy beside us asks for others."""
    if any(header in request.headers for header in PASSED_ON):
        return False
    return bool(request.remote_addr) and ipaddress.ip_address(request.remote_addr).is_loopback


def _database() -> str:
    database = services().database
    try:
        with database.reading() as session:
            session.execute(text("SELECT id FROM version LIMIT 1"))
        left = bytes_left(database)
    except (SQLAlchemyError, OSError):
        return "the database does not answer"
    if left is not None and left < FULL_BYTES:
        return f"the disk is full: {left / 1e6:.1f} MB are left"
    return f"ok, {database.describe()}"


def _model() -> str:
    live = services().live
    try:
        recognizer = live.recognizer()
        recognizer.warm()
        return f"ok, {recognizer.version}"
    except (NoChampion, WeightsError) as error:
        return str(error)
    except SQLAlchemyError:
        return "no version is loaded and the database does not answer"
