"""The real worker and its real child processes, killed, stopped and starved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from model import mnist, weights
from model.presets import Config
from webapp.database import Predictions, Run, Strength, Version
from webapp.jobs import LOST, RENEW_SECONDS
from webapp.services import Services
from webapp.settings import ROOT

LONG = Config("seed", 1000)


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not come true within {seconds} s")


class Installation:
    """A worker process with the database that it works on."""

    def __init__(self, settings, mnist_dir=None):
        self.services = Services.open(settings)
        self.jobs, self.database = self.services.jobs, self.services.database
        self.environ = os.environ | {
            "DATA_DIR": str(settings.data_dir),
            "MNIST_DIR": str(mnist_dir or settings.mnist_dir),
        }
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
        return self.run(started.id), self.child()

    def child(self):
        """The trainer's process id: the worker's only child, whichever of its threads started it."""
        threads = Path(f"/proc/{self.worker.pid}/task").iterdir()
        (child,) = [pid for thread in threads for pid in (thread / "children").read_text().split()]
        return int(child)

    def ended(self, run_id, seconds=60):
        wait_until(lambda: self.run(run_id).ended_at, seconds)
        return self.run(run_id)

    def report(self, version_id):
        """The strength report of a version, once it is there."""
        with self.database.reading() as session:
            return session.get(Strength, version_id).figures

    def close(self):
        self.worker.terminate()
        self.worker.wait(20)
        self.database.close()


@pytest.fixture
def installation(settings):
    installation = Installation(settings)
    yield installation
    installation.close()


def gone(pid):
    return not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_run_makes_a_version_with_card_and_predictions(installation):
    started = installation.jobs.start(Config("seed", 1, seed=5), "test")
    run = installation.ended(started.id, 60)
    assert (run.state, run.error) == ("finished", None)
    assert [epoch["epoch"] for epoch in run.history] == [0, 1]
    assert run.progress["fraction"] == 1
    with installation.database.reading() as session:
        version = session.get(Version, run.version_id)
        stored = session.get(Predictions, run.version_id)
        network, card = weights.from_bytes(version.weights)
        likely = np.frombuffer(stored.probabilities, np.float16).reshape(10_000, 10)
    assert (card.preset, card.epochs, card.seed) == ("seed", 1, 5)
    assert version.sha256 == weights.digest(version.weights)
    assert card.as_dict() == version.card
    _, labels = mnist.read_test()
    assert (likely.argmax(1) == labels).mean() == pytest.approx(version.test_accuracy, abs=0.001)
    assert version.test_accuracy > 0.9
    report = wait_until(lambda: installation.report(version.id), 100)
    assert report["accuracy"] == pytest.approx(version.test_accuracy)
    assert len(report["curves"]) == 6 and report["seed"] == 0


def test_a_worker_that_is_stopped_while_it_measures_leaves_the_rest_for_later(installation):
    installation.jobs.measure_strength(1)
    wait_until(lambda: installation.jobs.measure_strength(1).fraction)
    child = installation.child()
    installation.worker.terminate()
    assert installation.worker.wait(12) == 0
    assert gone(child)
    row = installation.jobs.measure_strength(1)
    assert 0 < row.fraction < 1 and row.error is None


def test_predictions_of_the_shipped_version(installation):
    installation.jobs.predict_test_set(1)

    def stored():
        with installation.database.reading() as session:
            return session.get(Predictions, 1).probabilities

    data = wait_until(stored)
    _, labels = mnist.read_test()
    assert (np.frombuffer(data, np.float16).reshape(10_000, 10).argmax(1) == labels).mean() >= 0.992


def test_cancelling_takes_less_than_five_seconds_and_the_next_run_starts(installation):
    run, child = installation.running()
    installation.jobs.cancel(run.id, "test")
    asked = time.monotonic()
    ended = installation.ended(run.id)
    assert time.monotonic() - asked < 5
    assert (ended.state, ended.error, ended.version_id) == ("cancelled", None, None)
    wait_until(lambda: gone(child))
    run, _ = installation.running()
    installation.jobs.cancel(run.id, "test")


def test_cancelling_does_not_wait_until_the_training_has_begun(installation):
    started = installation.jobs.start(Config("standard", 50), "test")
    wait_until(lambda: installation.run(started.id).state == "running")
    installation.jobs.cancel(started.id, "test")
    asked = time.monotonic()
    assert installation.ended(started.id).state == "cancelled"
    assert time.monotonic() - asked < 5


def test_a_killed_worker_leaves_a_failed_run_and_no_child(installation):
    run, child = installation.running()
    installation.worker.kill()
    installation.worker.wait()
    ended = installation.ended(run.id, 10)
    assert (ended.state, ended.error) == ("failed", LOST)
    wait_until(lambda: gone(child))
    installation.start_worker()
    run, _ = installation.running()
    installation.jobs.cancel(run.id, "test")


def test_a_worker_killed_with_its_child_is_noticed_by_the_lease(installation):
    run, child = installation.running()
    installation.worker.kill()
    os.kill(child, signal.SIGKILL)
    installation.worker.wait()
    assert installation.run(run.id).lease_until < time.time() + 60
    with installation.database.writing() as session:
        session.get(Run, run.id).lease_until = time.time() - 1  # as if the time had passed
    installation.jobs.reap()
    ended = installation.run(run.id)
    assert (ended.state, ended.error) == ("failed", LOST)


def test_a_killed_trainer_fails_its_run_with_the_reason(installation):
    run, child = installation.running()
    os.kill(child, signal.SIGKILL)
    ended = installation.ended(run.id)
    assert ended.state == "failed" and "killed by signal 9" in ended.error


def test_a_stopped_trainer_that_lost_its_lease_writes_nothing_more(installation):
    run, child = installation.running()
    os.kill(child, signal.SIGSTOP)
    with installation.database.writing() as session:
        session.get(Run, run.id).lease_until = time.time() - 1
    installation.jobs.reap()
    before = installation.run(run.id)
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: gone(child), 10 * RENEW_SECONDS)
    after = installation.run(run.id)
    assert (after.state, after.error, after.version_id) == ("failed", LOST, None)
    assert (after.progress, after.history, after.ended_at) == (before.progress, before.history, before.ended_at)


def test_sigterm_ends_worker_and_training_in_order(installation):
    run, child = installation.running()
    installation.worker.terminate()
    assert installation.worker.wait(12) == 0
    assert gone(child)
    ended = installation.run(run.id)
    assert (ended.state, ended.error) == ("failed", LOST)


def test_without_mnist_the_run_fails_and_says_what_to_do(settings, tmp_path):
    installation = Installation(settings, mnist_dir=tmp_path / "nothing")
    try:
        ended = installation.ended(installation.jobs.start(Config("seed", 1), "test").id)
        assert ended.state == "failed" and "make data" in ended.error
    finally:
        installation.close()


def test_a_message_lost_with_a_worker_is_delivered_again(installation):
    installation.worker.kill()
    installation.worker.wait()
    run = installation.jobs.start(LONG, "test")
    installation.jobs.huey.flush()
    with installation.database.writing() as session:
        session.get(Run, run.id).created_at -= 60
    installation.start_worker()
    wait_until(lambda: installation.run(run.id).state == "running", 20)
    installation.jobs.cancel(run.id, "test")
