"""The real worker and its real child processes, killed, stopped and starved."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import select, text

from model.data import mnist
from model.inference import weights
from model.network.weights import deserialize
from model.presets import Config
from tests.conftest import install, settings_in
from tests.support.corrections import add_correction, digits
from tests.support.servers import wait_until
from tests.support.versions import computed
from webapp.services import Services
from webapp.settings import ROOT
from webapp.storage.schema import Artifact, Checkpoint, Correction, Run, Version, coded
from webapp.storage.workers import Presence, count_alive
from webapp.training.runs import LEASE_SECONDS
from webapp.versions.artifacts import get_artifact
from webapp.worker import consumer
from webapp.worker.executor import Executor
from webapp.worker.training_run import RENEW_SECONDS

LONG = Config("basic", 1000)
FEW = os.pathsep.join([str(ROOT), str(ROOT / "tests/support/few_digits")])


class Installation:
    """A worker process with the database that it works on, in which nothing is left to do."""

    def __init__(self, settings, **environ):
        self.services = Services.open(settings)
        self.jobs, self.database = self.services.jobs, self.services.database
        computed(self.database)
        own = {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.mnist_dir), "CHECKPOINT_SECONDS": "0"}
        self.environ = os.environ | own | environ
        self.worker = None
        self.start_worker()

    def start_worker(self):
        self.worker = subprocess.Popen([sys.executable, "-m", "webapp", "worker"], cwd=ROOT, env=self.environ)

    def run(self, run_id):
        with self.database.reading() as session:
            return session.get(Run, run_id)

    def running(self, config=LONG):
        """A run whose trainer has begun to train; its row and the trainer's process id."""
        started = self.jobs.start(config, "test")
        wait_until(lambda: self.run(started.id).progress.get("fraction"))
        return self.run(started.id), self.child(started.id)

    def child(self, run_id=None):
        """The process id of the worker's only child, or of the one that has this run: None where there is none."""
        threads = Path(f"/proc/{self.worker.pid}/task").iterdir()
        children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
        if run_id:
            order = f"\0run\0{run_id}\0".encode()
            return next((pid for pid in children if order in Path(f"/proc/{pid}/cmdline").read_bytes()), None)
        (child,) = children
        return child

    def expire(self, run_id):
        """As if the trainer had not renewed its lease for long enough."""
        with self.database.writing() as session:
            session.get(Run, run_id).lease_until = time.time() - 1

    def checkpoint(self, run_id):
        with self.database.reading() as session:
            return session.get(Checkpoint, run_id)

    def network(self, version_id):
        with self.database.reading() as session:
            return deserialize(session.get(Version, version_id).weights)[0]

    def made_by(self, run_id):
        """The versions that a run has made: one, or none."""
        with self.database.reading() as session:
            return list(session.scalars(select(Version.id).where(Version.run_id == run_id)))

    def ended(self, run_id, seconds=60):
        wait_until(lambda: self.run(run_id).ended_at, seconds)
        return self.run(run_id)

    def lack(self, kind):
        """Has the worker compute something about the shipped version."""
        with self.database.writing() as session:
            session.delete(session.get(Artifact, (1, kind)))

    def result(self, version_id, kind):
        """What was computed about a version, once it is there."""
        return get_artifact(self.database, version_id, kind).result

    def close(self):
        self.worker.terminate()
        self.worker.wait(20)
        self.database.close()


@pytest.fixture
def installation(settings):
    installation = Installation(settings)
    yield installation
    installation.close()


@pytest.fixture
def eager(settings):
    """One whose worker looks for work twice a second; it knows few digits."""
    installation = Installation(settings, PYTHONPATH=FEW, OVERDUE_SECONDS="0.5")
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def shared(prepared, tmp_path_factory):
    """One whose worker does what several tests ask of it, in their order; it learns from few digits."""
    folder = tmp_path_factory.mktemp("worked") / "data"
    install(prepared, folder)
    installation = Installation(settings_in(folder), PYTHONPATH=FEW)
    yield installation
    installation.close()


def workers_alive(database):
    with database.reading() as session:
        return count_alive(session)


def test_worker_with_nothing_to_do_is_alive_until_it_ends(installation):
    wait_until(lambda: workers_alive(installation.database) == 1)
    installation.worker.terminate()
    assert installation.worker.wait(12) == 0
    assert workers_alive(installation.database) == 0


def gone(pid):
    return not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.stress
def test_version_made_by_a_worker_is_measured(installation):
    run = installation.ended(installation.jobs.start(Config("basic", 1, seed=5), "test").id)
    report = json.loads(wait_until(lambda: installation.result(run.version_id, "strength"), 600))
    assert len(report["curves"]) == 6 and report["seed"] == 0


@pytest.mark.stress
def test_worker_stopped_while_measuring_leaves_the_rest(installation):
    installation.lack("strength")
    wait_until(lambda: get_artifact(installation.database, 1, "strength").fraction)
    child = installation.child()
    installation.worker.terminate()
    assert installation.worker.wait(12) == 0
    assert gone(child)
    row = get_artifact(installation.database, 1, "strength")
    assert 0 < row.fraction < 1 and row.error is None


def test_correction_that_comes_in_is_judged_though_nobody_looks(eager):
    number = add_correction(eager.services.settings, eager.database, *digits(1)[0])

    def suspicion():
        with eager.database.reading() as session:
            return session.get(Correction, number).suspicion

    assert wait_until(lambda: suspicion() is not None) and suspicion() < 0.1


@pytest.mark.stress
def test_run_cancelled_ends(shared):
    run, child = shared.running()
    shared.jobs.cancel(run.id, "test")
    ended = shared.ended(run.id)
    assert (ended.state, ended.error, ended.version_id) == ("cancelled", None, None)
    wait_until(lambda: gone(child))


def test_run_after_a_cancelled_one_makes_a_version(shared):
    started = shared.jobs.start(Config("basic", 5, seed=5), "test")
    run = shared.ended(started.id, 60)
    assert (run.state, run.error) == ("finished", None)
    assert [epoch["epoch"] for epoch in run.history] == list(range(6))
    assert run.progress["fraction"] == 1
    with shared.database.reading() as session:
        version = session.get(Version, run.version_id)
        network, card = deserialize(version.weights)
    likely = np.frombuffer(shared.result(version.id, "predictions"), np.float16).reshape(10_000, 10)
    assert (card.preset, card.epochs, card.seed) == ("basic", 5, 5)
    assert version.sha256 == weights.digest(version.weights)
    assert card.as_dict() == version.card
    _, labels = mnist.read_test()
    assert (likely.argmax(1) == labels).mean() == pytest.approx(version.test_accuracy, abs=0.001)
    assert version.test_accuracy > 0.85  # of 4,000 digits


@pytest.mark.stress
def test_run_cancelled_before_training_ends(installation):
    started = installation.jobs.start(Config("standard", 50), "test")
    wait_until(lambda: installation.run(started.id).state == "running")
    installation.jobs.cancel(started.id, "test")
    ended = installation.ended(started.id)
    assert (ended.state, ended.history) == ("cancelled", [])
    assert not ended.progress or not ended.progress.get("fraction")


@pytest.mark.stress
def test_worker_killed_leaves_a_waiting_run_and_no_child(installation):
    run, child = installation.running()
    installation.worker.kill()
    installation.worker.wait()
    wait_until(lambda: installation.run(run.id).state == "queued", 10)
    wait_until(lambda: gone(child))
    assert installation.run(run.id).failed_attempts == 0
    installation.start_worker()
    wait_until(lambda: installation.run(run.id).attempt == 2, 30)
    installation.jobs.cancel(run.id, "test")
    assert installation.ended(run.id).state == "cancelled"


@pytest.mark.stress
def test_worker_killed_with_its_child_is_noticed_by_the_lease(installation):
    run, child = installation.running()
    installation.worker.kill()
    os.kill(child, signal.SIGKILL)
    installation.worker.wait()
    assert installation.run(run.id).lease_until < time.time() + LEASE_SECONDS
    installation.expire(run.id)
    installation.start_worker()
    wait_until(lambda: installation.run(run.id).attempt == 2, 15)
    installation.jobs.cancel(run.id, "test")


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_trainer_killed_is_followed_to_the_same_version(installation):
    """Killed in the midst of its epochs, the run goes on from the last one to the result of an unbroken run."""
    config = Config("basic", 8, seed=11)
    unbroken = installation.ended(installation.jobs.start(config, "test").id)
    started = installation.jobs.start(config, "test")
    wait_until(lambda: installation.checkpoint(started.id))
    os.kill(installation.child(started.id), signal.SIGKILL)
    broken = installation.ended(started.id)
    assert (broken.state, broken.attempt, broken.failed_attempts) == ("finished", 2, 1)
    figures = [[{**epoch, "seconds": 0} for epoch in run.history] for run in (unbroken, broken)]
    assert figures[0] == figures[1]
    first, second = (installation.network(run.version_id) for run in (unbroken, broken))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert installation.made_by(started.id) == [broken.version_id]
    wait_until(lambda: installation.checkpoint(started.id) is None)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_training_killed_again_and_again_is_given_up(installation):
    """As by the kernel, when it takes more memory than there is."""
    run, child = installation.running()
    for attempt in (1, 2, 3):
        wait_until(lambda number=attempt: installation.run(run.id).attempt == number, 30)
        os.kill(wait_until(lambda: installation.child(run.id)), signal.SIGKILL)
    ended = installation.ended(run.id)
    assert (ended.state, ended.attempt, ended.version_id) == ("lost", 3, None)
    assert ended.error == coded("lost", times=3, last={"code": "killed", "signal": 9})
    run, _ = installation.running()
    installation.jobs.cancel(run.id, "test")


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_trainer_without_its_lease_writes_nothing_more(installation):
    run, child = installation.running(Config("basic", 30))
    os.kill(child, signal.SIGSTOP)
    installation.expire(run.id)
    wait_until(lambda: installation.run(run.id).attempt == 2, 30)
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: gone(child), 30 * RENEW_SECONDS)
    ended = installation.ended(run.id, 120)
    assert (ended.state, ended.attempt) == ("finished", 2)
    assert installation.made_by(run.id) == [ended.version_id]


@pytest.mark.stress
def test_worker_sigterm_ends_in_order(installation):
    run, child = installation.running()
    installation.worker.terminate()
    assert installation.worker.wait(12) == 0
    assert gone(child)
    waiting = installation.run(run.id)
    assert (waiting.state, waiting.failed_attempts, waiting.error) == ("queued", 0, None)
    installation.start_worker()
    wait_until(lambda: len(installation.run(run.id).history) > len(waiting.history), 30)
    installation.jobs.cancel(run.id, "test")


@pytest.fixture
def small_disk(settings, disk):
    """The installation on a disk of its own with 24 MB."""
    url = f"sqlite:///{disk / 'data' / 'inkling.db'}"
    installation = Installation(replace(settings, data_dir=disk / "data", database_url=url))
    yield installation, disk
    installation.close()


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_disk_full_fails_the_run_with_the_reason(small_disk):
    installation, disk = small_disk
    run, _ = installation.running()
    fill(disk / "filler", leaving=300_000)  # less than a checkpoint takes, and enough to say so
    ended = installation.ended(run.id)
    assert (ended.state, ended.version_id) == ("failed", None)
    assert "full" in ended.error and len(ended.error) < 200
    (disk / "filler").unlink()
    with installation.database.reading() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    assert installation.ended(installation.jobs.start(Config("basic", 2), "test").id).state == "finished"


def fill(path, leaving):
    free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
    path.write_bytes(bytes(free - leaving))


def test_housekeeping_survives_any_error(settings, monkeypatch, caplog):
    database = Services.open(settings).database
    executor = Executor(database, settings)
    fails = iter([ZeroDivisionError("a surprise"), sqlite3.OperationalError("the disk is away")])

    def expire_leases():
        for surprise in fails:
            raise surprise
        executor.stopping.set()

    monkeypatch.setattr(executor.jobs, "expire_leases", expire_leases)
    monkeypatch.setattr(consumer, "OVERDUE_SECONDS", 0)
    consumer.housekeep(executor, Presence(database))
    assert "a surprise" in caplog.text and "the disk is away" in caplog.text
