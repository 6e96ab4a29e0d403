"""The training of a run, up to the stored version, by the process that has its lease."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from model.presets import PRESETS, Config
from model.rank import LOST, Failure, GroupLost
from webapp.corrections.store import images_of, near_copies
from webapp.settings import Settings
from webapp.storage.schema import Comparison, Correction, Run, RunCorrection, Version, champion_of, coded
from webapp.training import runs
from webapp.training.runs import ChampionChanged, Lease, LeaseLost
from webapp.versions.promotions import anchor_of
from webapp.versions.test_predictions import pack
from webapp.worker import liveness

if TYPE_CHECKING:
    from model.data.corrections import Corrections
    from model.data.splits import Mnist
    from model.training.package import Package


log = logging.getLogger(__name__)

RENEW_SECONDS = 1.0
# A training checks before each step whether it is over, a comparison at its end; one that takes longer hangs.
STUCK_SECONDS = 120.0
# The messages of SQLite and PostgreSQL for a full disk.
DISK_FULL = ("disk is full", "No space left on device")


class RunFailed(Exception):
    """The run ends without a version; the message is the reason as it is stored, a code with its numbers."""


class Checkpoints:
    """Stores a training's checkpoints, one at most every so many seconds: each writes tens of megabytes into the
    database's log. A trainer that is killed loses at most so much training and one epoch; one that is stopped in order,
    or loses another process of its group, only an epoch."""

    def __init__(self, lease: Lease, every_seconds: int):
        self._lease, self._every_seconds = lease, every_seconds
        self._stored_at = time.monotonic()
        self._waiting: bytes | None = None
        self._lock = threading.Lock()  # the heartbeat stores too

    def add(self, checkpoint: bytes) -> None:
        """Take the checkpoint of an epoch, and store it if the last one was stored long enough ago."""
        self._waiting = checkpoint
        if time.monotonic() - self._stored_at >= self._every_seconds:
            self.store()

    def store(self) -> None:
        """Store the latest checkpoint unless it is stored. A failure is only logged, and the checkpoint kept for the
        next time, unless the disk is full: then no version could be stored either."""
        with self._lock:
            checkpoint, self._waiting = self._waiting, None
            if checkpoint is None:
                return
            try:
                self._lease.save_checkpoint(checkpoint)
                self._stored_at = time.monotonic()
            except OperationalError as error:
                if any(words in str(error.orig) for words in DISK_FULL):
                    raise
                self._waiting = self._waiting or checkpoint  # unless the training has added a later one meanwhile
                log.warning("a checkpoint could not be stored: %s", error.orig)


class Heartbeat(threading.Thread):
    """Renews the lease, writes the progress, and ends the run when it is cancelled or the worker has exited.

    It does this without waiting for the training, which may still be reading its data and checks `over` only before
    each step.
    """

    def __init__(self, lease: Lease, worker_exited: threading.Event, checkpoints: Checkpoints):
        super().__init__(name="heartbeat", daemon=True)
        self.lease, self.worker_exited, self.checkpoints = lease, worker_exited, checkpoints
        self.stop, self.over = threading.Event(), threading.Event()
        self.values: dict = {}  # the columns that the next renewal writes

    def run(self) -> None:
        while not self.over.is_set() and not self.stop.wait(RENEW_SECONDS):
            try:
                self._renew()
            except LeaseLost:
                self.over.set()
            except Exception:
                # The database may be down for a while; the lease limits how long the training goes on without it.
                log.exception("the lease could not be renewed")
        if self.over.is_set() and not self.stop.wait(STUCK_SECONDS):
            log.error("run %s is over, and its training does not end", self.lease.run_id)
            os._exit(1)

    def _renew(self) -> None:
        if self.worker_exited.is_set():
            self.checkpoints.store()  # the next worker goes on from the last epoch
            self.lease.release()
            self.over.set()
        elif self.lease.renew(**self.values):
            self.lease.end("cancelled", **self.values)
            self.over.set()

    def is_over(self) -> bool:
        """Return whether the training should stop; it calls this before each step."""
        liveness.heartbeat()
        return self.over.is_set()

    def on_progress(self, progress) -> None:
        """Record the progress of the training for the next renewal."""
        self.values = {
            "history": [epoch.as_dict() for epoch in progress.history],
            "progress": {
                "epoch": progress.epoch,
                "fraction": progress.fraction,
                "train_loss": progress.train_loss,
                "seconds_left": progress.seconds_left,
            },
        }

    def on_comparison_progress(self, fraction: float) -> None:
        """Record the progress of the comparison with the champion, 0 to 1, for the next renewal."""
        liveness.heartbeat()
        self.values = self.values | {"progress": self.values.get("progress", {}) | {"comparing": fraction}}

    def __enter__(self) -> Heartbeat:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.join()


def train_run(settings: Settings, lease: Lease, worker_exited: threading.Event) -> None:
    """Train a leased run, by one process or as rank 0 of several, and end it in any case."""
    try:
        checkpoints = Checkpoints(lease, settings.checkpoint_seconds)
        with Heartbeat(lease, worker_exited, checkpoints) as heartbeat:
            try:
                _train(settings, heartbeat)
            except LeaseLost:
                raise
            except GroupLost:
                checkpoints.store()  # the next attempt goes on from the last epoch, which this process still has
                raise
            except Exception as error:
                log.exception("run %s failed", lease.run_id)
                lease.end("failed", error=_reason(error), **heartbeat.values)
    except LeaseLost as error:
        log.warning("%s; its result is dropped", error)
    except GroupLost as error:
        log.error("attempt %s of run %s is lost: %s", lease.attempt, lease.run_id, error)
        runs.fail_attempt(lease.database, lease.run_id, lease.attempt, error.found)


def _reason(error: Exception) -> str:
    """Return why a run failed as it is stored, a code with its numbers."""
    if isinstance(error, RunFailed):
        return str(error)
    if isinstance(error, Failure):
        return coded(**error.found)
    if isinstance(error, DBAPIError):  # its own text includes the statement with all its values
        return coded("database", detail=str(error.orig).splitlines()[0])
    return coded("failed", detail=str(error).partition("\n")[0] or type(error).__name__)


def _train(settings: Settings, heartbeat: Heartbeat) -> None:
    """Train, compare and store the version, unless the run is stopped."""
    from model.data import splits
    from model.network.weights import deserialize
    from model.training.distributed import process_group
    from model.training.package import build_package
    from model.training.train import train

    lease = heartbeat.lease
    lease.drop_refused()
    drop_near_copies(lease)  # before the other processes of the run start, which read its rows
    config, parent, corrections = _inputs(lease)
    command = sys.executable, "-m", "webapp.worker.child", "run", str(lease.run_id), str(lease.attempt)
    with process_group(config.processes, command) as group:
        data = splits.load(settings.mnist_dir)
        result = train(
            config,
            data,
            heartbeat.on_progress,
            heartbeat.is_over,
            start=deserialize(parent)[0] if parent else None,
            corrections=corrections,
            checkpoint=lease.load_checkpoint(),
            on_checkpoint=heartbeat.checkpoints.add,
            group=group,
        )
        if result.stopped:
            return
        heartbeat.on_comparison_progress(0.0)  # calibrating takes some seconds too, and does not say how far it is
        package = build_package(config, result, data, parent, corrections)
    _finish(heartbeat, package, data, corrections)


def train_as_follower(settings: Settings, lease: Lease) -> None:
    """Train in the group of the process that has the lease, and write nothing."""
    from model.data import splits
    from model.network.weights import deserialize
    from model.training.distributed import process_group
    from model.training.train import train

    try:
        config, parent, corrections = _inputs(lease)
        with process_group(config.processes, ()) as group:
            start = deserialize(parent)[0] if parent else None
            train(config, splits.load(settings.mnist_dir), start=start, corrections=corrections, group=group)
    except GroupLost as error:
        log.warning("helping with run %s: %s", lease.run_id, error)
        sys.exit(LOST)
    except Exception:
        log.exception("helping with run %s failed", lease.run_id)
        sys.exit(1)


def drop_near_copies(lease: Lease) -> None:
    """Remove the corrections to learn from that are near copies of the run's held out, which are to compare by."""
    with lease.database.reading() as session:
        corrections = chosen_corrections(session, lease.run_id)
    if corrections is not None:
        learnt = corrections.part(~corrections.held_out)
        lease.drop(learnt.ids[near_copies(learnt.images, corrections.to_compare.images)].tolist())


def _inputs(lease: Lease) -> tuple[Config, bytes | None, Corrections | None]:
    """Return a run's configuration, the weights to start from and its corrections; raises RunFailed."""
    with lease.database.reading() as session:
        run = session.get_one(Run, lease.run_id)
        config = runs.config_of(run)
        parent = session.get_one(Version, run.parent_id).weights if run.parent_id else None
        if parent is None and PRESETS[run.preset].fine_tunes:
            raise RunFailed(coded("no_parent"))
        corrections = chosen_corrections(session, run.id)
    return config, parent, corrections


def chosen_corrections(session: Session, run_id: int) -> Corrections | None:
    """Return a run's corrections that are still approved; None if there are none."""
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


def _finish(heartbeat: Heartbeat, package: Package, data: Mnist, corrections: Corrections | None) -> None:
    """Compare the version with the champion and store both results, unless the run is stopped meanwhile."""
    lease = heartbeat.lease
    while not heartbeat.over.is_set():
        comparison = _compare(heartbeat, package.data, data, corrections)
        version = Version.of(package.data, package.card, "run", lease.run_id)
        try:
            promoted = lease.finish(version, pack(package.test_probabilities), comparison, **heartbeat.values)
        except ChampionChanged:  # compare again, with the new champion
            continue
        log.info("run %s made %s, %s", version.run_id, version.name, "promoted" if promoted else "which waits")
        return


def _compare(heartbeat: Heartbeat, data: bytes, mnist: Mnist, corrections: Corrections | None) -> Comparison | None:
    """Compare a version, as bytes, with the champion; return None if there is no champion.

    Raises RunFailed if there is none and the version is not good enough to be the first.
    """
    from model.evaluation.comparison import compare

    with heartbeat.lease.database.reading() as session:
        champion, anchor = champion_of(session), anchor_of(session)
        champion_weights = champion.weights if champion else None
        anchor_weights = anchor.weights if anchor and champion and anchor.id != champion.id else None
    evidence = compare(
        data, champion_weights, mnist.gate, corrections, heartbeat.on_comparison_progress, anchor_weights
    )
    if champion is None:
        if not evidence.passed:
            raise RunFailed(coded("not_good_enough", summary=evidence.summary))
        return None
    found = evidence.as_dict() | {"anchor_id": anchor.id if anchor else None}
    return Comparison(champion_id=champion.id, passed=evidence.passed, evidence=found)
