"""The worker's child process: trains a run, computes something about a version, judges corrections or imports them.

    python -m webapp.worker.child run ID ATTEMPT
    python -m webapp.worker.child predictions VERSION    (or another of webapp.worker.artifacts.ARTIFACTS)
    python -m webapp.worker.child suspicion
    python -m webapp.worker.child import ID ATTEMPT

Where several processes train a run, this one starts the others by the same command, and they help.

It reads nothing from its standard input but the end of it, which says that the worker has gone: then it puts its row in
order and ends. So a training never outlives its worker, and dies with it in order even when the worker is killed.
On its standard output it beats, and the worker kills one that hangs (webapp/worker/liveness.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading

from model.rank import is_rank_zero
from webapp.corrections import import_queue
from webapp.logs import set_up_logging
from webapp.settings import Settings
from webapp.storage.engine import WORK_SECONDS, Database
from webapp.storage.secret_key import with_secret_key
from webapp.training.runs import Lease
from webapp.worker import liveness
from webapp.worker.artifacts import ARTIFACTS, compute
from webapp.worker.import_run import take_in
from webapp.worker.label_check import check_labels
from webapp.worker.liveness import WorkerGone
from webapp.worker.training_run import train_as_follower, train_run

log = logging.getLogger(__name__)

# A training gives way to the web workers, whose answers somebody waits for.
NICENESS = 10


def main(arguments: list[str]) -> None:
    what, *numbers = arguments[0], *map(int, arguments[1:])
    names = (what, "attempt") if what in ("run", "import") else ("version",)
    set_up_logging(**dict(zip(names, numbers, strict=False)))
    settings = Settings.read()
    database = Database(settings.database_url, WORK_SECONDS)
    if not is_rank_zero():
        train_as_follower(settings, Lease(database, *numbers))
        return
    liveness.begin()
    os.nice(NICENESS)
    worker_gone = threading.Event()
    threading.Thread(target=_await_worker, args=(worker_gone,), daemon=True).start()
    with contextlib.suppress(WorkerGone):
        match what, numbers:
            case "run", [run_id, attempt]:
                train_run(settings, Lease(database, run_id, attempt), worker_gone)
            case "suspicion", []:
                if not check_labels(settings, database, worker_gone):
                    sys.exit(1)
            case "import", [import_id, attempt]:
                _import(settings, import_queue.ImportLease(database, import_id, attempt), worker_gone)
            case kind, [version_id] if kind in ARTIFACTS:
                compute(settings, database, kind, version_id, worker_gone)
            case _:
                sys.exit(f"there is no such work: {' '.join(arguments)}")


def _import(settings: Settings, hold: import_queue.ImportLease, worker_gone: threading.Event) -> None:
    try:
        take_in(with_secret_key(settings), hold.database, hold, worker_gone)
    except WorkerGone:
        raise
    except Exception:
        log.exception("attempt %s of import %s failed", hold.attempt, hold.import_id)
        sys.exit(1)


def _await_worker(gone: threading.Event) -> None:
    # Not through sys.stdin: the interpreter dies on its way out while another thread holds that one's lock.
    while os.read(sys.stdin.fileno(), 1):
        pass
    gone.set()


if __name__ == "__main__":
    main(sys.argv[1:])
