"""The webhook: a POST to WEBHOOK_URL when a run has ended, in whatever way and process.

One worker claims the run's row, and so sends it once. What the receiver does, or that it is away, delays no other work.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import exists, select, update

from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.schema import ENDED, Promotion, Run, Version
from webapp.storage.timestamps import within
from webapp.versions.promotions import BY_RUN

log = logging.getLogger(__name__)

SIGNATURE = "X-Inkling-Signature"
ANSWER_SECONDS = 5.0
WAITS = (1.0, 10.0, 60.0)  # seconds before another try; after the last one the webhook is given up
# Runs that ended earlier are not announced: the workers were away, or there was no WEBHOOK_URL.
RECENT_SECONDS = 3600.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Take a redirect for a failure: the setting names the receiver, not whom the receiver names."""

    def redirect_request(self, *_):
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def announce(settings: Settings, database: Database, stopping: threading.Event) -> None:
    """Send the webhooks of the runs that have ended, one after the other, until none is left."""
    while settings.webhook_url and not stopping.is_set() and (message := _claim(settings, database)):
        body = json.dumps(message).encode()
        for wait in (0.0, *WAITS):
            if stopping.wait(wait) or _send(settings, body, message["run"]):
                break
        else:
            log.warning("the webhook of run %s is given up", message["run"])


def _claim(settings: Settings, database: Database) -> dict[str, Any] | None:
    """Mark a run that has ended as announced; return its message, or None if there is none to announce."""
    now = time.time()
    waiting = Run.state.in_(ENDED), Run.announced_at.is_(None), within(Run.ended_at, RECENT_SECONDS, now)
    with database.reading() as session:
        if (run_id := session.scalar(select(Run.id).where(*waiting).order_by(Run.id).limit(1))) is None:
            return None
    with database.writing() as session:
        mine = update(Run).where(Run.id == run_id, *waiting).values(announced_at=now).returning(Run)
        run = session.scalar(mine)
        if run is None:  # another worker was quicker
            return None
        version = session.get(Version, run.version_id or 0)
        promoted = session.scalar(select(exists().where(Promotion.by == f"{BY_RUN}{run.id}")))
    return {
        "event": "run_ended",
        "run": run.id,
        "state": run.state,
        "preset": run.preset,
        "requested_by": run.requested_by,
        "ended_at": run.ended_at,
        "version": version and version.name,
        "promoted": promoted,
        "validation_accuracy": version and version.validation_accuracy,
        "test_accuracy": version and version.test_accuracy,
        "url": f"{settings.base_path}/admin/runs/{run.id}",
    }


def _send(settings: Settings, body: bytes, run_id: int) -> bool:
    """Send a webhook; return whether the receiver has accepted it, with a status of 2xx."""
    headers = {"Content-Type": "application/json", "User-Agent": "Inkling"}
    if settings.webhook_secret:
        digest = hmac.new(settings.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        headers[SIGNATURE] = f"sha256={digest}"
    request = urllib.request.Request(settings.webhook_url, body, headers)
    try:
        with _opener.open(request, timeout=ANSWER_SECONDS):
            return True
    except (OSError, HTTPException, ValueError) as error:  # an HTTP status is an OSError too
        # Neither the path nor the query: either may be a secret.
        reason = getattr(error, "code", None) or getattr(error, "reason", None) or type(error).__name__
        receiver = urlsplit(settings.webhook_url).hostname
        log.info("the webhook of run %s was not accepted by %s: %s", run_id, receiver, reason)
        return False
