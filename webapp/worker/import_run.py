"""The import of a file of digits by the process that has its lease."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time

from sqlalchemy.orm import Session

from webapp.corrections import digit_files
from webapp.corrections.digit_files import ImportRefused
from webapp.corrections.import_digits import store
from webapp.corrections.import_queue import ImportLease, ImportLeaseLost
from webapp.corrections.store import Corrections
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.schema import coded
from webapp.worker.liveness import WorkerExited, heartbeat_or_stop

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 500  # in one transaction, which takes about 0.1 s
PROGRESS_SECONDS = 0.5
DECODING = 0.8  # the share of the progress that decoding takes


def import_file(settings: Settings, database: Database, lease: ImportLease, worker_exited: threading.Event) -> None:
    """Import the file of a leased import and write its progress.

    If the worker has exited, return the import to the queue and raise WorkerExited.
    """
    try:
        _import(Corrections(database, settings), database, lease, worker_exited)
    except ImportLeaseLost as error:
        log.warning("%s; it goes on elsewhere", error)
    except WorkerExited:
        with contextlib.suppress(ImportLeaseLost):
            lease.write(state="queued")
        raise


def _import(corrections: Corrections, database: Database, lease: ImportLease, worker_exited: threading.Event) -> None:
    row, data = lease.read()
    added, written_at = row.added, -math.inf

    def on_decoded(done: float) -> None:
        nonlocal written_at
        heartbeat_or_stop(worker_exited)
        if time.monotonic() - written_at > PROGRESS_SECONDS:
            written_at = time.monotonic()
            lease.write(fraction=DECODING * done)

    def on_stored(session: Session, done: int, more: int) -> None:
        nonlocal added
        heartbeat_or_stop(worker_exited)
        added += more
        fraction = DECODING + (1 - DECODING) * done / row.digits
        lease.write_in(session, done=done, added=added, fraction=fraction)

    try:
        bundle = digit_files.inspect(data).unpack(on_decoded)
    except ImportRefused as error:
        lease.write(state="failed", error=coded("not_imported", detail=str(error)))
        return
    store(database, corrections, bundle, row.sha256, ROWS_AT_ONCE, row.done, on_stored)
    lease.write(state="finished", fraction=1.0, error=None)
    log.info("import %s has added %s of %s digits", row.id, added, row.digits)
