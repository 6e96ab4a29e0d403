"""What is to be done in the background: rows in the database say it, a queue tells a worker, a child process does it.

The row is the truth. Huey only rings the bell: what a lost message was about is taken up from its row, and one that
comes twice finds the row already claimed. What versions and corrections lack needs no message: a worker looks for it.
"""

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

from model.presets import Config
from webapp import auth
from webapp.corrections import import_queue
from webapp.settings import ROOT, Settings
from webapp.storage import disk_reserve
from webapp.storage.engine import Database
from webapp.storage.schema import Correction, Import, Run, champion_id, coded
from webapp.storage.timestamps import within
from webapp.training import runs
from webapp.training.task_queue import open_queue
from webapp.worker import artifacts, liveness

log = logging.getLogger(__name__)

TAKE_UP_SECONDS = 5.0
STOP_SECONDS = 10.0
# Training threads that wait for each other must sleep, not spin: while the web workers want the cores too, spinning
# made a training up to seven times slower.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}

# Huey names a message by the module that made it. This is where it was made at first, and messages of earlier and later
# releases may lie in one queue.
MESSAGES: dict[str, Any] = {"__module__": "webapp.jobs"}
# What earlier releases asked for by messages, which may lie in the queue still.
FORMER_TASKS = ("do_predictions", "do_strength", "do_suspicion")


class Jobs:
    """What the web asks for, and what a worker does about it."""

    def __init__(self, database: Database, settings: Settings):
        self._database = database
        self._children: set[subprocess.Popen] = set()
        self._could_not_judge: tuple[int | None, float] = None, -math.inf  # the champion, and when
        self._computing: set[tuple[Any, ...]] = set()
        self._choosing = threading.Lock()
        self.stopping = threading.Event()
        self.huey = open_queue(settings, database)
        self._deliver_run = self.huey.task(**MESSAGES)(self.do_run)
        self._deliver_imports = self.huey.task(**MESSAGES)(self.do_imports)
        for name in FORMER_TASKS:
            self.huey.task(name=name, **MESSAGES)(lambda *_: None)

    # What the web asks for

    def start(self, config: Config, by: str, corrections: bool = False) -> Run:
        """A new run, queued; raises RunActive where there is an active one."""
        self.reap()
        run = runs.start(self._database, config, by, corrections)
        self._ring(self._deliver_run, run.id)
        log.info("run %s started by %s: %s", run.id, by, config)
        return run

    def cancel(self, run_id: int, by: str) -> None:
        """Ends a queued run at once, a running one as soon as its trainer sees the wish; an ended one stays."""
        runs.cancel(self._database, run_id)
        log.info("run %s cancelled by %s", run_id, by)

    def take_in(self, name: str, data: bytes, digest: str, digits: int, by: str) -> Import:
        """Has a worker take in a file of so many digits; returns its row, or that of the same file under way."""
        row = import_queue.queue(self._database, name, data, digest, digits, by)
        self._ring(self._deliver_imports)
        log.info("import %s queued by %s: %s digits", row.id, by, digits)
        return row

    def reap(self) -> None:
        """Lets runs whose trainer is lost wait for another one. Cheap, and safe from any process at any time."""
        for run_id in runs.reap(self._database):
            self._ring(self._deliver_run, run_id)

    def _ring(self, deliver: Callable[..., object], *numbers: int) -> None:
        """Sends a message. One that cannot be sent is as good as lost: a worker takes up its row all the same."""
        try:
            deliver(*numbers)
        except Exception as error:  # of SQLite, PostgreSQL or Redis
            log.error("the queue does not take a message: %s", error)

    # What a worker does

    def sweep(self) -> None:
        """Removes what ended runs and imports and old sign-ins leave, and keeps room for when the disk is full."""
        disk_reserve.hold(self._database)
        import_queue.sweep(self._database)
        auth.sweep(self._database)
        runs.sweep(self._database)

    def take_up(self) -> None:
        """Begins what has waited for longer than a message takes: it may be lost with a worker, or the queue away."""
        overdue = Run.state == "queued", ~within(Run.created_at, TAKE_UP_SECONDS, time.time())
        with self._database.reading() as session:
            waiting = session.scalar(select(Run.id).where(*overdue))
        if waiting is not None:
            self._beside(self.do_run, waiting)
        self._beside(self.do_computations)
        self._beside(self.do_suspicion)
        self._beside(self.do_imports)

    def _beside(self, do: Callable[..., None], *arguments) -> None:
        """Does it in a thread of its own, unless the last one is still at it."""

        def work() -> None:
            with self._once(do, *arguments) as mine:
                if mine:
                    try:
                        do(*arguments)
                    except Exception:
                        log.exception("what was taken up could not be done")

        threading.Thread(target=work, name=do.__name__, daemon=True).start()

    def do_run(self, run_id: int) -> None:
        """Claims the run and trains it in a child process, which stays the only one to write to it."""
        attempt = runs.claim(self._database, run_id)
        if attempt is None:
            log.info("run %s is not waiting any more", run_id)
            return
        code = self._child("run", str(run_id), str(attempt))
        if code and not self.stopping.is_set():
            log.error("attempt %s of run %s ended with code %s", attempt, run_id, code)
            for waiting in runs.lose(self._database, run_id, attempt, _how_it_ended(code)):
                self._ring(self._deliver_run, waiting)

    def do_computations(self) -> None:
        """Computes what versions lack, one after the other, each in a child process."""
        while not self.stopping.is_set() and (claimed := artifacts.claim(self._database)):
            kind, version_id = claimed
            code = self._child(kind, str(version_id))
            if code and not self.stopping.is_set():
                log.error("%s of v%s: it ended with code %s", kind, version_id, code)
                artifacts.fail(self._database, kind, version_id, coded("crashed", last=_how_it_ended(code)))

    def do_suspicion(self) -> None:
        """Has the champion judge the corrections that wait unjudged; one that could not do it is given some time."""
        unjudged = select(Correction.id).where(Correction.state == "received", Correction.suspicion.is_(None))
        with self._database.reading() as session:
            waiting, champion = session.scalar(unjudged.limit(1)), champion_id(session)
        who, failed_at = self._could_not_judge
        if waiting is None or who == champion and time.monotonic() - failed_at < artifacts.AGAIN_SECONDS:
            return
        if self._child("suspicion") and not self.stopping.is_set():
            self._could_not_judge = champion, time.monotonic()
            log.error("could not judge the corrections")

    def do_imports(self) -> None:
        """Takes in the files that wait, one after the other, each in a child process."""
        with self._once("imports") as mine:
            while mine and not self.stopping.is_set() and (claimed := import_queue.claim(self._database)):
                code = self._child("import", *map(str, claimed))
                if code and not self.stopping.is_set():
                    log.error("attempt %s of import %s ended with code %s", claimed[1], claimed[0], code)
                    import_queue.lose(self._database, *claimed, _how_it_ended(code))

    @contextmanager
    def _once(self, *what) -> Iterator[bool]:
        """Whether this is the only one at it: a message may come twice, or beside what was taken up."""
        with self._choosing:
            mine = what not in self._computing
            self._computing.add(what)
        try:
            yield mine
        finally:
            if mine:
                self._computing.discard(what)

    def stop_children(self) -> None:
        """Ends the child processes: closing a child's input is the sign for it to put its run in order and go."""
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
