"""Monitoring: liveness, readiness and metrics; and the icon that browsers ask for unasked."""

from __future__ import annotations

import ipaddress
import time
from typing import Literal

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from model.inference.weights import WeightsError
from webapp.http.authentication import authenticate
from webapp.http.errors import no_store
from webapp.http.messages import Answer, File
from webapp.http.openapi import ADMIN_ERRORS, BEARER_OR_SESSION, Operation
from webapp.middleware.assets import FILES
from webapp.presentation.wording import time_spent
from webapp.services import services
from webapp.storage.disk_reserve import MIN_FREE_BYTES
from webapp.storage.health import Health
from webapp.versions.active import NoChampion

ICON_SECONDS = 30 * 24 * 3600
START_WORKER = "`python -m webapp worker`, or the service inkling-worker"
PROXY_HEADERS = ("X-Forwarded-For", "X-Real-IP", "Forwarded")

blueprint = Blueprint("health", __name__)


class Alive(Answer):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Checks(Answer):
    database: str
    model: str
    worker: str


class Readiness(Answer):
    """The checks of the database, with its disk, of the model and of the workers: "ok", with details, or the reason.

    The workers do not count for the status, since pictures are read without one.
    """

    status: Literal["ok", "not ready"]
    checks: Checks


@blueprint.get("/healthz")
@Operation("alive", {200: Alive}, is_probe=True)
def alive() -> Response:
    """Confirm that the process is alive.

    Independent of the database, so that the web server is not restarted while the database is down.
    """
    return Alive().response()


@blueprint.get("/readyz")
@Operation("ready", {200: Readiness, 503: Readiness}, is_probe=True)
def ready() -> Response:
    """Check that the database answers and suits this release, that its disk has space and that the model is loaded.

    Tells besides whether a worker is alive, which is somebody's business and not a load balancer's.
    """
    found = _health()
    checks = Checks(database=_database(found), model=_model(), worker=_worker(found))
    ok = all(check == "ok" or check.startswith("ok,") for check in (checks.database, checks.model))
    return no_store(Readiness(status="ok" if ok else "not ready", checks=checks).response(200 if ok else 503))


@blueprint.get("/metrics")
@Operation(
    "metrics",
    {200: File(("text/plain",))},
    errors=ADMIN_ERRORS,
    security=[*BEARER_OR_SESSION, {}],
    is_probe=True,
)
def metrics() -> Response:
    """Return the metrics for Prometheus.

    In its text format, or in OpenMetrics if accepted. A process on the same machine needs no token; METRICS_TOKEN opens
    this route alone.
    """
    if not _is_local():
        authenticate(services().settings.metrics_token)
    body, content_type = services().metrics.exposition(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})


@blueprint.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    """Return the icon, for whatever asks for it without reading a page; pages link to the SVG."""
    response = Response((FILES / "favicon.ico").read_bytes(), mimetype="image/x-icon")
    response.cache_control.public = True
    response.cache_control.max_age = ICON_SECONDS
    response.add_etag()
    return response.make_conditional(request)


def _is_local() -> bool:
    """Tell whether the client is a process on this machine, other than a proxy for remote clients."""
    address = request.remote_addr
    if not address or any(header in request.headers for header in PROXY_HEADERS):
        return False
    return ipaddress.ip_address(address).is_loopback


def _health() -> Health | None:
    """Return what the database tells in time; None if it does not answer."""
    try:
        return services().health.answer()
    except (SQLAlchemyError, OSError):  # TimeoutError is an OSError
        return None


def _database(found: Health | None) -> str:
    if found is None:
        return "the database does not answer"
    if found.misfit:
        return found.misfit
    if found.free_bytes is not None and found.free_bytes < MIN_FREE_BYTES:
        return f"the disk is full: {found.free_bytes / 1e6:.1f} MB are left"
    return f"ok, {services().database.describe()}"


def _model() -> str:
    try:
        classifier = services().active_model.classifier()
        classifier.warm()
        return f"ok, {classifier.version}"
    except (NoChampion, WeightsError) as error:
        return str(error)
    except SQLAlchemyError:
        return "no version is loaded and the database does not answer"


def _worker(found: Health | None) -> str:
    if found is None:
        return "not known: the database does not answer"
    if found.misfit:
        return "not known: the schema does not suit this release"
    if found.workers:
        return f"ok, {found.workers} alive"
    seen_at = found.worker_seen_at
    since = "yet" if seen_at is None else f"for {time_spent(time.time() - seen_at)}"
    return f"no worker has answered {since}: start one, or trainings, imports and checks wait ({START_WORKER})"
