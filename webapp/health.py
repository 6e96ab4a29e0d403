"""For whoever watches the server: is it alive, and can it answer?"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from model.weights import WeightsError
from webapp.live import NoChampion
from webapp.services import services

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def alive() -> Response:
    """Alive: depends on nothing, so that a database that is away does not get the web restarted."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
def ready() -> tuple[Response, int]:
    """Ready: the database answers and the model is loaded; 503 with the reason otherwise."""
    checks = {"database": _database(), "model": _model()}
    ok = all(check == "ok" or check.startswith("ok,") for check in checks.values())
    response = jsonify({"status": "ok" if ok else "not ready", "checks": checks})
    response.cache_control.no_store = True
    return response, 200 if ok else 503


def _database() -> str:
    database = services().database
    try:
        with database.reading() as session:
            session.execute(text("SELECT id FROM version LIMIT 1"))
        return f"ok, {database.describe()}"
    except SQLAlchemyError:
        return "the database does not answer"


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
