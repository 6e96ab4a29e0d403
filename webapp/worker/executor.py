"""Execution of the work that waits: claims a row, has a child process do it, and notes how that process ended."""

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
from webapp.settings import ROOT, Settings
from webapp.storage import disk_reserve
from webapp.storage.engine import Database
from webapp.storage.schema import Correction, Run, champion_id, coded
from webapp.storage.timestamps import within
from webapp.training import runs
from webapp.training.jobs import Jobs
from webapp.versions.artifacts import AGAIN_SECONDS
from webapp.worker import artifacts, liveness

log = logging.getLogger(__name__)

OVERDUE_SECONDS = 5.0
STOP_SECONDS = 10.0
# Training threads that wait for each other must sleep, not spin: while the web workers want the cores too, spinning
# made a training up to seven times slower.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


class Executor:
    """A worker's part of the jobs. `jobs.huey` delivers to it."""

    def __init__(self, database: Database, settings: Settings):
        self.jobs = Jobs(database, settings, self.train, self.import_digits)
        self._database = database
        self._children: set[subprocess.Popen] = set()
        self._could_not_check: tuple[int | None, float] = None, -math.inf  # the champion, and when
        self._at_work: set[tuple[Any, ...]] = set()
        self._choosing = threading.Lock()
        self.stopping = threading.Event()

    def sweep(self) -> None:
        """Remove the leftovers of ended runs, imports and sign-ins, and keep spare room for a full disk."""
        disk_reserve.hold(self._database)
        import_queue.sweep(self._database)
        auth.sweep(self._database)
        runs.sweep(self._database)

    def start_overdue(self) -> None:
        """Start work that has waited for longer than a message takes: the message or its worker may be lost."""
        overdue = Run.state == "queued", ~within(Run.created_at, OVERDUE_SECONDS, time.time())
        with self._database.reading() as session:
            waiting = session.scalar(select(Run.id).where(*overdue))
        if waiting is not None:
            self._beside(self.train, waiting)
        self._beside(self.compute_artifacts)
        self._beside(self.check_labels)
        self._beside(self.import_digits)

    def _beside(self, do: Callable[..., None], *arguments) -> None:
        """Do it in a thread of its own, unless the last one is still at it."""

        def work() -> None:
            with self._once(do, *arguments) as mine:
                if mine:
                    try:
                        do(*arguments)
                    except Exception:
                        log.exception("overdue work failed")

        threading.Thread(target=work, name=do.__name__, daemon=True).start()

    def train(self, run_id: int) -> None:
        """Claim the run and train it in a child process, which stays the only one to write to it."""
        attempt = runs.claim(self._database, run_id)
        if attempt is None:
            log.info("run %s is not waiting any more", run_id)
            return
        code = self._child("run", str(run_id), str(attempt))
        if code and not self.stopping.is_set():
            log.error("attempt %s of run %s ended with code %s", attempt, run_id, code)
            for waiting in runs.lose(self._database, run_id, attempt, _how_it_ended(code)):
                self.jobs.enqueue_run(waiting)

    def compute_artifacts(self) -> None:
        """Compute the artifacts that versions lack, one after the other, each in a child process."""
        while not self.stopping.is_set() and (claimed := artifacts.claim(self._database)):
            kind, version_id = claimed
            code = self._child(kind, str(version_id))
            if code and not self.stopping.is_set():
                log.error("%s of v%s: it ended with code %s", kind, version_id, code)
                artifacts.fail(self._database, kind, version_id, coded("crashed", last=_how_it_ended(code)))

    def check_labels(self) -> None:
        """Have the champion check the labels of new corrections; after a failure, not again for some time."""
        unjudged = select(Correction.id).where(Correction.state == "received", Correction.suspicion.is_(None))
        with self._database.reading() as session:
            waiting, champion = session.scalar(unjudged.limit(1)), champion_id(session)
        who, failed_at = self._could_not_check
        if waiting is None or who == champion and time.monotonic() - failed_at < AGAIN_SECONDS:
            return
        if self._child("suspicion") and not self.stopping.is_set():
            self._could_not_check = champion, time.monotonic()
            log.error("could not judge the corrections")

    def import_digits(self) -> None:
        """Import the files that wait, one after the other, each in a child process."""
        with self._once("imports") as mine:
            while mine and not self.stopping.is_set() and (claimed := import_queue.claim(self._database)):
                code = self._child("import", *map(str, claimed))
                if code and not self.stopping.is_set():
                    log.error("attempt %s of import %s ended with code %s", claimed[1], claimed[0], code)
                    import_queue.lose(self._database, *claimed, _how_it_ended(code))

    @contextmanager
    def _once(self, *what) -> Iterator[bool]:
        """Tell whether this is the only one at it: a message may come twice, or beside overdue work."""
        with self._choosing:
            mine = what not in self._at_work
            self._at_work.add(what)
        try:
            yield mine
        finally:
            if mine:
                self._at_work.discard(what)

    def stop_children(self) -> None:
        """End the child processes: a child whose input is closed puts its run in order and goes."""
        self.stopping.set()
        for child in list(self._children):
            if child.stdin:
                child.stdin.close()
        end = time.monotonic() + STOP_SECONDS  # for all together: a supervisor waits no longer than 20 s for us
        for child in list(self._children):
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _child(self, *arguments: str) -> int:
        # Its own session: a Ctrl-C in the terminal reaches the worker, which then ends the child in order. And the
        # pipe closes when the worker dies, however it dies.
        with subprocess.Popen(
            [sys.executable, "-m", "webapp.worker.child", *arguments],
            cwd=ROOT,
            env=os.environ | CHILD_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as child:
            self._children.add(child)
            try:
                code = liveness.awaited(child)
                if code is None:
                    log.error("%s: killed, without progress for %.0f s", " ".join(arguments), liveness.SILENT_SECONDS)
                    child.kill()
                    code = child.wait()
                return code
            finally:
                self._children.discard(child)


def _how_it_ended(code: int) -> dict[str, Any]:
    return {"code": "killed", "signal": -code} if code < 0 else {"code": "exited", "status": code}
