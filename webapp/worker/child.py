"""The worker's child process: trains a run, computes an artifact, checks labels or imports digits.

    python -m webapp.worker.child run ID ATTEMPT
    python -m webapp.worker.child predictions VERSION    (or another of webapp.worker.artifacts.ARTIFACTS)
    python -m webapp.worker.child suspicion
    python -m webapp.worker.child import ID ATTEMPT

If several processes train a run, this one starts the followers by the same command.

The end of its standard input means that the worker has exited: the child then releases its row and ends, also when the
worker was killed. On its standard output it sends heartbeats, and the worker kills a child that hangs
(webapp/worker/liveness.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading

from model.rank import is_rank_zero
from webapp.corrections import import_queue
from webapp.logs import REQUEST_ID, set_up_logging
from webapp.settings import Settings
from webapp.storage.engine import WORK_SECONDS, Database
from webapp.storage.installation_lock import share
from webapp.storage.secret_key import with_secret_key
from webapp.training.runs import Lease
from webapp.worker import liveness
from webapp.worker.artifacts import ARTIFACTS, compute
from webapp.worker.import_run import import_file
from webapp.worker.label_check import check_labels
from webapp.worker.liveness import WorkerExited
from webapp.worker.training_run import train_as_follower, train_run

log = logging.getLogger(__name__)

# Web workers have priority, since their users wait.
NICENESS = 10


def main(arguments: list[str]) -> None:
    work, *numbers = arguments[0], *map(int, arguments[1:])
    names = (work, "attempt") if work in ("run", "import") else ("version",)
    request = {"request": os.environ[REQUEST_ID]} if REQUEST_ID in os.environ else {}
    settings = Settings.read()
    set_up_logging(settings.log_level, **dict(zip(names, numbers, strict=False)), **request)
    settings = share(settings, log.warning)  # a child outlives a worker that was killed, for a moment
    database = Database(settings.database_url, WORK_SECONDS)
    if not is_rank_zero():
        train_as_follower(settings, Lease(database, *numbers))
        return
    liveness.open_pipe()
    os.nice(NICENESS)
    worker_exited = threading.Event()
    threading.Thread(target=_await_exit, args=(worker_exited,), daemon=True).start()
    with contextlib.suppress(WorkerExited):
        match work, numbers:
            case "run", [run_id, attempt]:
                train_run(settings, Lease(database, run_id, attempt), worker_exited)
            case "suspicion", []:
                if not check_labels(settings, database, worker_exited):
                    sys.exit(1)
            case "import", [import_id, attempt]:
                _import(settings, import_queue.ImportLease(database, import_id, attempt), worker_exited)
            case kind, [version_id] if kind in ARTIFACTS:
                compute(settings, database, kind, version_id, worker_exited)
            case _:
                sys.exit(f"there is no such work: {' '.join(arguments)}")


def _import(settings: Settings, lease: import_queue.ImportLease, worker_exited: threading.Event) -> None:
    try:
        import_file(with_secret_key(settings), lease.database, lease, worker_exited)
    except WorkerExited:
        raise
    except Exception:
        log.exception("attempt %s of import %s failed", lease.attempt, lease.import_id)
        sys.exit(1)


def _await_exit(worker_exited: threading.Event) -> None:
    # Not through sys.stdin: the interpreter crashes at its end while another thread holds the lock of sys.stdin.
    while os.read(sys.stdin.fileno(), 1):
        pass
    worker_exited.set()


if __name__ == "__main__":
    main(sys.argv[1:])
