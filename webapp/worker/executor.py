"""Execution of queued work: claims a row, starts a child process for it, and records how that process ended."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from webapp import auth
from webapp.corrections import import_queue
from webapp.logs import REQUEST_ID, logged_for, request_id
from webapp.presentation.wording import removed_rows
from webapp.removal.retention import BY_SETTING, DAY_SECONDS, all_is_old, remove_old
from webapp.settings import ROOT, Settings
from webapp.storage import disk_reserve
from webapp.storage.engine import Database
from webapp.storage.schema import Correction, Run, champion_id, coded
from webapp.storage.timestamps import within
from webapp.training import runs
from webapp.training.jobs import Jobs
from webapp.versions.artifacts import RETRY_SECONDS
from webapp.worker import artifacts, liveness, webhook

log = logging.getLogger(__name__)

OVERDUE_SECONDS = 5.0
STOP_SECONDS = 10.0
# Training threads that wait for each other must sleep: spinning made a training up to seven times slower while the web
# workers used the cores.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


class Executor:
    """Does the work that `jobs.huey` delivers, and overdue work."""

    def __init__(self, database: Database, settings: Settings):
        self.jobs = Jobs(database, settings, self.train, self.import_digits)
        self._database, self._settings = database, settings
        self._children: set[subprocess.Popen] = set()
        self._retention_days, self._next_retention = settings.retention_days, -math.inf
        self._failed_check: tuple[int | None, float] = None, -math.inf  # of labels: champion and time
        self._in_progress: set[tuple[Any, ...]] = set()
        self._in_progress_lock = threading.Lock()
        self.stopping = threading.Event()

    def sweep(self) -> None:
        """Delete the leftovers of ended runs, imports and sign-ins, and restore the disk reserve."""
        disk_reserve.fill_reserve(self._database)
        import_queue.sweep(self._database)
        auth.sweep(self._database)
        runs.sweep(self._database)

    def start_overdue(self) -> None:
        """Start work that has waited for longer than a message takes: its message may be lost."""
        overdue = Run.state == "queued", ~within(Run.created_at, OVERDUE_SECONDS, time.time())
        with self._database.reading() as session:
            waiting = session.scalar(select(Run.id).where(*overdue))
        if waiting is not None:
            self._start_thread(self.train, waiting)
        self._start_thread(self.compute_artifacts)
        self._start_thread(self.check_labels)
        self._start_thread(self.import_digits)
        self._start_thread(self.apply_retention)

    def announce_ended(self) -> None:
        """Send the webhooks of runs that have ended."""
        self._start_thread(webhook.announce, self._settings, self._database, self.stopping)

    def _start_thread(self, do: Callable[..., None], *arguments) -> None:
        """Call a function in a new thread, unless an earlier thread is still at work on it."""

        def work() -> None:
            with self._exclusive(do, *arguments) as is_first:
                if is_first:
                    try:
                        do(*arguments)
                    except Exception:
                        log.exception("overdue work failed")

        threading.Thread(target=work, name=do.__name__, daemon=True).start()

    def train(self, run_id: int) -> None:
        """Claim the run and train it in a child process, which then is the only one that may write to it."""
        with logged_for(runs.request_of(self._database, run_id)):
            self._train(run_id)

    def _train(self, run_id: int) -> None:
        attempt = runs.claim(self._database, run_id)
        if attempt is None:
            log.info("run %s is not waiting any more", run_id)
            return
        log.info("attempt %s of run %s begins", attempt, run_id)
        code = self._run_child("run", str(run_id), str(attempt))
        if code and not self.stopping.is_set():
            log.error("attempt %s of run %s ended with code %s", attempt, run_id, code)
            for queued in runs.fail_attempt(self._database, run_id, attempt, _exit_reason(code)):
                self.jobs.enqueue_run(queued)

    def compute_artifacts(self) -> None:
        """Compute the missing artifacts one after the other, each in a child process."""
        while not self.stopping.is_set() and (claimed := artifacts.claim(self._database)):
            kind, version_id = claimed
            code = self._run_child(kind, str(version_id))
            if code and not self.stopping.is_set():
                log.error("%s of v%s: it ended with code %s", kind, version_id, code)
                artifacts.fail(self._database, kind, version_id, coded("crashed", last=_exit_reason(code)))

    def check_labels(self) -> None:
        """Check the labels of new corrections by the champion; after a failure, wait for RETRY_SECONDS."""
        unchecked = select(Correction.id).where(Correction.state == "received", Correction.suspicion.is_(None))
        with self._database.reading() as session:
            waiting, champion = session.scalar(unchecked.limit(1)), champion_id(session)
        failed_champion, failed_at = self._failed_check
        if waiting is None or failed_champion == champion and time.monotonic() - failed_at < RETRY_SECONDS:
            return
        if self._run_child("suspicion") and not self.stopping.is_set():
            self._failed_check = champion, time.monotonic()
            log.error("could not judge the corrections")

    def import_digits(self) -> None:
        """Import the queued files one after the other, each in a child process."""
        with self._exclusive("imports") as is_first:
            while is_first and not self.stopping.is_set() and (claimed := import_queue.claim(self._database)):
                with logged_for(import_queue.request_of(self._database, claimed[0])):
                    self._import(*claimed)

    def apply_retention(self) -> None:
        """Remove what is older than RETENTION_DAYS, when the worker has started and once a day.

        Refuses where all is older: a machine may start with a clock that is years ahead.
        """
        if not self._retention_days or time.monotonic() < self._next_retention:
            return
        self._next_retention = time.monotonic() + RETRY_SECONDS  # if it fails
        days = self._retention_days
        if all_is_old(self._database, days):
            log.error(
                "RETENTION_DAYS: all is older than %s days, so nothing is removed; is the clock ahead?"
                " If it is right: python -m webapp purge",
                days,
            )
        else:
            counts = remove_old(self._database, days, BY_SETTING)
            log.info("removed, since older than %s days: %s", days, removed_rows(counts))
        self._next_retention = time.monotonic() + DAY_SECONDS

    def _import(self, import_id: int, attempt: int) -> None:
        log.info("attempt %s of import %s begins", attempt, import_id)
        code = self._run_child("import", str(import_id), str(attempt))
        if code and not self.stopping.is_set():
            log.error("attempt %s of import %s ended with code %s", attempt, import_id, code)
            import_queue.fail_attempt(self._database, import_id, attempt, _exit_reason(code))

    @contextmanager
    def _exclusive(self, *work) -> Iterator[bool]:
        """Yield whether no other thread does this work: a message may come twice, or when the work is overdue."""
        with self._in_progress_lock:
            is_first = work not in self._in_progress
            self._in_progress.add(work)
        try:
            yield is_first
        finally:
            if is_first:
                self._in_progress.discard(work)

    def stop_children(self) -> None:
        """End the child processes: a child whose input is closed releases its row and exits."""
        self.stopping.set()
        for child in list(self._children):
            if child.stdin:
                child.stdin.close()
        end = time.monotonic() + STOP_SECONDS  # for all together: the supervisor kills the worker after 20 s
        for child in list(self._children):
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _run_child(self, *arguments: str) -> int:
        """Run a child process until it ends, or kill it when it hangs; return its exit code."""
        request = request_id.get()
        # In its own session: Ctrl-C reaches only the worker, which then ends the child. The pipe on the standard
        # input closes when the worker ends, also when it is killed.
        with subprocess.Popen(
            [sys.executable, "-m", "webapp.worker.child", *arguments],
            cwd=ROOT,
            env=os.environ | CHILD_ENVIRONMENT | ({REQUEST_ID: request} if request else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as child:
            self._children.add(child)
            try:
                code = liveness.wait_for(child)
                if code is None:
                    log.error("%s: killed, without progress for %.0f s", " ".join(arguments), liveness.SILENT_SECONDS)
                    child.kill()
                    code = child.wait()
                return code
            finally:
                self._children.discard(child)


def _exit_reason(code: int) -> dict[str, Any]:
    return {"code": "killed", "signal": -code} if code < 0 else {"code": "exited", "status": code}
