"""The training of a run, by the process that holds its lease, up to the stored version."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from model.presets import PRESETS, Config
from model.rank import LOST, Failure, GroupLost
from webapp.corrections.store import images_of
from webapp.settings import Settings
from webapp.storage.schema import Comparison, Correction, Run, RunCorrection, Version, champion_of, coded
from webapp.training import runs
from webapp.training.runs import ChampionChanged, Lease, LeaseLost
from webapp.versions.test_predictions import pack
from webapp.worker import liveness

if TYPE_CHECKING:
    from model.data.corrections import Corrections
    from model.data.splits import Mnist
    from model.training.package import Package


log = logging.getLogger(__name__)

RENEW_SECONDS = 1.0
# A training looks whether it is over before each step, a comparison at its end; what takes longer has got stuck.
STUCK_SECONDS = 120.0
# What SQLite and PostgreSQL say of a disk without room.
FULL = ("disk is full", "No space left on device")


class RunFailed(Exception):
    """Nothing comes of the run; the message is the reason as it is stored, a code with its numbers."""


class Heartbeat(threading.Thread):
    """Renews the lease, passes the progress on, and ends the run when it is cancelled or the worker has gone.

    It does not wait for the training to notice: that may be reading its data still, and asks `over` only before each
    step.
    """

    def __init__(self, hold: Lease, worker_gone: threading.Event):
        super().__init__(name="watch", daemon=True)
        self.hold, self.worker_gone = hold, worker_gone
        self.stop, self.over = threading.Event(), threading.Event()
        self.news: dict = {}

    def run(self) -> None:
        while not self.over.is_set() and not self.stop.wait(RENEW_SECONDS):
            try:
                self._look()
            except LeaseLost:
                self.over.set()
            except Exception:
                # The database may be away for a while; the lease decides for how long that is bearable.
                log.exception("the lease could not be renewed")
        if self.over.is_set() and not self.stop.wait(STUCK_SECONDS):
            log.error("run %s is over, and its training does not end", self.hold.run_id)
            os._exit(1)

    def _look(self) -> None:
        if self.worker_gone.is_set():
            self.hold.release()
            self.over.set()
        elif self.hold.renew(**self.news):
            self.hold.end("cancelled", **self.news)
            self.over.set()

    def is_over(self) -> bool:
        """Whether the training should stop, which it asks before each step."""
        liveness.beat()
        return self.over.is_set()

    def tell(self, progress) -> None:
        """Takes the news from the training; the next renewal writes them."""
        self.news = {
            "history": [epoch.as_dict() for epoch in progress.history],
            "progress": {
                "epoch": progress.epoch,
                "fraction": progress.fraction,
                "train_loss": progress.train_loss,
                "seconds_left": progress.seconds_left,
            },
        }

    def tell_comparing(self, fraction: float) -> None:
        """Takes how far the comparison with the champion has come, 0 to 1."""
        liveness.beat()
        self.news = self.news | {"progress": self.news.get("progress", {}) | {"comparing": fraction}}

    def __enter__(self) -> Heartbeat:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.join()


def train_run(settings: Settings, hold: Lease, worker_gone: threading.Event) -> None:
    """Trains the run that is held, alone or as the first of several processes, and ends it, one way or another."""
    try:
        with Heartbeat(hold, worker_gone) as watch:
            try:
                _make(settings, watch)
            except (LeaseLost, GroupLost):
                raise
            except Exception as error:
                log.exception("run %s failed", hold.run_id)
                hold.end("failed", error=_why(error), **watch.news)
    except LeaseLost as error:
        log.warning("%s; its result is dropped", error)
    except GroupLost as error:
        log.error("attempt %s of run %s is lost: %s", hold.attempt, hold.run_id, error)
        runs.lose(hold.database, hold.run_id, hold.attempt, error.found)


def _why(error: Exception) -> str:
    if isinstance(error, RunFailed):
        return str(error)
    if isinstance(error, Failure):
        return coded(**error.found)
    if isinstance(error, DBAPIError):  # its own text carries the statement, with all that was to be stored
        return coded("database", detail=str(error.orig).splitlines()[0])
    return coded("failed", detail=str(error).partition("\n")[0] or type(error).__name__)


def _make(settings: Settings, watch: Heartbeat) -> None:
    """Trains, compares and stores the version, unless the run is stopped."""
    from model.data import splits
    from model.network.weights import deserialize
    from model.training.distributed import process_group
    from model.training.package import build_package
    from model.training.train import train

    hold = watch.hold
    hold.drop_refused()
    config, parent, corrections = _order(hold)
    command = sys.executable, "-m", "webapp.worker.child", "run", str(hold.run_id), str(hold.attempt)
    with process_group(config.processes, command) as group:
        data = splits.load(settings.mnist_dir)
        result = train(
            config,
            data,
            watch.tell,
            watch.is_over,
            start=deserialize(parent)[0] if parent else None,
            corrections=corrections,
            checkpoint=hold.checkpoint(),
            on_checkpoint=functools.partial(_keep, hold),
            group=group,
        )
        if result.stopped:
            return
        package = build_package(config, result, data, parent, corrections)
    _finish(watch, package, data, corrections)


def train_as_follower(settings: Settings, hold: Lease) -> None:
    """Trains along with the process that has the hold, as it says, and writes nothing."""
    from model.data import splits
    from model.network.weights import deserialize
    from model.training.distributed import process_group
    from model.training.train import train

    try:
        config, parent, corrections = _order(hold)
        with process_group(config.processes, ()) as group:
            start = deserialize(parent)[0] if parent else None
            train(config, splits.load(settings.mnist_dir), start=start, corrections=corrections, group=group)
    except GroupLost as error:
        log.warning("helping with run %s: %s", hold.run_id, error)
        sys.exit(LOST)
    except Exception:
        log.exception("helping with run %s failed", hold.run_id)
        sys.exit(1)


def _keep(hold: Lease, checkpoint: bytes) -> None:
    """Stores a checkpoint. Without one for a while, less is kept; without room for one, there is none for a version."""
    try:
        hold.keep(checkpoint)
    except OperationalError as error:
        if any(words in str(error.orig) for words in FULL):
            raise
        log.warning("a checkpoint could not be stored: %s", error.orig)


def _order(hold: Lease) -> tuple[Config, bytes | None, Corrections | None]:
    """What is to be trained, from which weights, and with which corrections."""
    with hold.database.reading() as session:
        run = session.get_one(Run, hold.run_id)
        config = Config(run.preset, run.epochs, run.seed, run.processes)
        parent = session.get_one(Version, run.parent_id).weights if run.parent_id else None
        if parent is None and PRESETS[run.preset].fine_tunes:
            raise RunFailed(coded("no_parent"))
        corrections = chosen_corrections(session, run.id)
    return config, parent, corrections


def chosen_corrections(session: Session, run_id: int) -> Corrections | None:
    """A run's corrections that are still approved; None where there are none."""
    from model.data.corrections import Corrections

    rows = session.execute(
        select(Correction.digit_image, Correction.label, Correction.held_out, Correction.id)
        .join(RunCorrection, RunCorrection.correction_id == Correction.id)
        .where(RunCorrection.run_id == run_id, Correction.state == "approved")
        .order_by(Correction.id)
    ).all()
    if not rows:
        return None
    _, labels, held_out, ids = zip(*rows, strict=True)
    return Corrections(images_of(rows), np.array(labels, np.int64), np.array(held_out, bool), np.array(ids, np.int64))


def _finish(watch: Heartbeat, package: Package, data: Mnist, corrections: Corrections | None) -> None:
    """Compares the version with the one that answers and stores both, unless the run is stopped meanwhile."""
    while not watch.over.is_set():
        comparison = _compare(watch, package.data, data, corrections)
        version = Version.of(package.data, package.card, "run", watch.hold.run_id)
        try:
            promoted = watch.hold.finish(version, pack(package.test_probabilities), comparison, **watch.news)
        except ChampionChanged:
            continue
        log.info("run %s made %s, %s", version.run_id, version.name, "promoted" if promoted else "which waits")
        return


def _compare(watch: Heartbeat, data: bytes, mnist: Mnist, corrections: Corrections | None) -> Comparison | None:
    """A version, as bytes, measured beside the one that answers; None where there is none.

    Raises RunFailed where the version is not even good enough to be the first.
    """
    from model.evaluation.comparison import compare

    with watch.hold.database.reading() as session:
        champion = champion_of(session)
        theirs = champion.weights if champion else None
    drawings = corrections.to_compare if corrections else None
    evidence = compare(data, theirs, mnist.validation, drawings, watch.tell_comparing)
    if champion is None:
        if not evidence.passed:
            raise RunFailed(coded("not_good_enough", summary=evidence.summary))
        return None
    return Comparison(champion_id=champion.id, passed=evidence.passed, evidence=evidence.as_dict())
