"""The import of a file of digits, by the process that holds its lease."""

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
from webapp.worker.liveness import WorkerGone, beat_or_stop

log = logging.getLogger(__name__)

# Stored in one transaction, which takes about a tenth of a second.
ROWS_AT_ONCE = 500
TELL_SECONDS = 0.5
# The part of the work that decoding is, as a page shows it.
DECODING = 0.8


def take_in(settings: Settings, database: Database, hold: ImportLease, worker_gone: threading.Event) -> None:
    """Takes in the file of an import that this process holds, and tells its progress.

    Raises WorkerGone where the worker has ended; the import waits for the next one then.
    """
    try:
        _take_in(Corrections(database, settings), database, hold, worker_gone)
    except ImportLeaseLost as error:
        log.warning("%s; it goes on elsewhere", error)
    except WorkerGone:
        with contextlib.suppress(ImportLeaseLost):
            hold.write(state="queued")
        raise


def _take_in(corrections: Corrections, database: Database, hold: ImportLease, worker_gone: threading.Event) -> None:
    row, data = hold.read()
    added, told_at = row.added, -math.inf

    def decoded(done: float) -> None:
        nonlocal told_at
        beat_or_stop(worker_gone)
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            hold.write(fraction=DECODING * done)

    def stored(session: Session, done: int, more: int) -> None:
        nonlocal added
        beat_or_stop(worker_gone)
        added += more
        fraction = DECODING + (1 - DECODING) * done / row.digits
        hold.write_in(session, done=done, added=added, fraction=fraction)

    try:
        bundle = digit_files.inspect(data).unpack(decoded)
    except ImportRefused as error:
        hold.write(state="failed", error=coded("not_imported", detail=str(error)))
        return
    store(database, corrections, bundle, row.sha256, ROWS_AT_ONCE, row.done, stored)
    hold.write(state="finished", fraction=1.0, error=None)
    log.info("import %s has added %s of %s digits", row.id, added, row.digits)
