"""What the worker's child process computes about a version, run within this one."""

import json
import sqlite3
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from model.data import splits
from model.evaluation import robustness, suite
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.rank import GroupLost
from tests.support.versions import add_version, damaged
from webapp.storage.schema import Artifact, Promotion, Run, Version, coded
from webapp.training.runs import Lease, LeaseLost
from webapp.versions.artifacts import get_artifact
from webapp.worker import training_run
from webapp.worker.artifacts import WorkerExited, compute
from webapp.worker.training_run import Checkpoints, Heartbeat, train_run


@pytest.fixture
def few(monkeypatch):
    for module, name, count in (
        (robustness, "CURVE_DIGITS", 10),
        (robustness, "OTHERS", 60),
        (suite, "HANDS_EACH", 1),
        (suite, "CHANGED", 20),
        (suite, "LETTERS_EACH", 1),
    ):
        monkeypatch.setattr(module, name, count)


@pytest.fixture
def broken(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("a secret of the machine")

    monkeypatch.setattr(robustness, "measure_robustness", fail)


def measure(settings, database, version_id=1, gone=False):
    """Measures a version's strength as a child process does it, and returns the row."""
    with database.writing() as session:
        session.add(Artifact(version_id=version_id, kind="strength", fraction=0.6))
    worker_exited = threading.Event()
    if gone:
        worker_exited.set()
    with suppress(WorkerExited):
        compute(settings, database, "strength", version_id, worker_exited)
    return get_artifact(database, version_id, "strength")


def test_strength_is_measured_and_kept(settings, database, few):
    found = measure(settings, database)
    assert (found.fraction, found.error) == (1, None)
    figures = json.loads(found.result)
    assert figures["accuracy"] > 0.99 and figures["curve_digits"] == 10


def test_strength_of_damaged_weights_says_so(settings, database):
    found = measure(settings, database, add_version(database, damaged(SHIPPED.read_bytes())))
    assert found.fraction < 1 and "damaged" in found.error and found.result is None


def test_strength_that_fails_says_no_more_than_it_must(settings, database, broken):
    found = measure(settings, database)
    assert (found.fraction, found.error) == (0, coded("broken"))


def test_strength_without_its_worker_writes_nothing(settings, database, few):
    found = measure(settings, database, gone=True)
    assert found.fraction == 0.6 and found.error is None


def fine_tuning(database):
    run = Run(state="running", attempt=1, preset="fine-tune", epochs=1, seed=0, requested_by="a test", parent_id=1)
    with database.writing() as session:
        session.add(run)
    return run.id


def ended(database, run_id):
    with database.reading() as session:
        return session.get(Run, run_id)


def test_fine_tuning_goes_on_from_the_version_in_service(settings, database, few, monkeypatch):
    some = splits.load(settings.mnist_dir).subset(300)
    monkeypatch.setattr(splits, "load", lambda folder: some)
    number = fine_tuning(database)
    train_run(settings, Lease(database, number, 1), threading.Event())
    run = ended(database, number)
    assert (run.state, run.error) == ("finished", None)
    assert run.history[0]["validation_accuracy"] > 0.97  # before the first step
    with database.reading() as session:
        card = session.get(Version, run.version_id).card
    assert card["parent"] == weights.digest(SHIPPED.read_bytes())


def test_fine_tuning_without_a_version_fails(settings, database):
    number = fine_tuning(database)
    with database.writing() as session:
        session.execute(delete(Promotion))
        session.get(Run, number).parent_id = None
    train_run(settings, Lease(database, number, 1), threading.Event())
    assert ended(database, number).state == "failed"
    assert ended(database, number).error == coded("no_parent")


def test_run_without_mnist_fails_and_says_what_to_do(settings, database, tmp_path):
    number = fine_tuning(database)
    train_run(replace(settings, mnist_dir=tmp_path / "nothing"), Lease(database, number, 1), threading.Event())
    assert ended(database, number).state == "failed" and "make data" in ended(database, number).error


def said(words):
    return OperationalError("INSERT", {}, sqlite3.OperationalError(words))


def test_checkpoint_on_a_busy_database_is_stored_the_next_time(database, monkeypatch):
    def fail(*_):
        raise said("database is locked")

    lease = Lease(database, fine_tuning(database), 1)
    checkpoints = Checkpoints(lease, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "save_checkpoint", fail)
        checkpoints.add(b"so far")
    checkpoints.store()
    assert lease.load_checkpoint() == b"so far"


@pytest.mark.parametrize("error", [said("database or disk is full"), LeaseLost("another has it")])
def test_checkpoint_without_room_or_right_ends_the_training(database, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Lease, "save_checkpoint", fail)
    with pytest.raises(type(error)):
        Checkpoints(Lease(database, 1, 1), 0).add(b"so far")


@pytest.mark.parametrize(("epochs", "seconds", "most"), [(3, 5, 0), (30, 5, 2), (450, 10, 75), (10, 90, 10)])
def test_checkpoints_are_so_many_seconds_apart(database, monkeypatch, epochs, seconds, most):
    """Each writes tens of megabytes into the database's log: thirteen gigabytes in a long training of short epochs."""
    now, stored = 1000.0, []
    monkeypatch.setattr(training_run.time, "monotonic", lambda: now)
    monkeypatch.setattr(Lease, "save_checkpoint", lambda _, checkpoint: stored.append(checkpoint))
    checkpoints = Checkpoints(Lease(database, 1, 1), 60)
    for epoch in range(1, epochs + 1):
        now += seconds
        checkpoints.add(b"%d" % epoch)
    assert len(stored) == most
    checkpoints.store()
    checkpoints.store()
    assert stored[-1] == b"%d" % epochs and len(stored) == len(set(stored)), "the last one once, on a stop in order"


def test_training_stopped_in_order_goes_on_from_its_last_epoch(database, monkeypatch):
    monkeypatch.setattr(training_run, "RENEW_SECONDS", 0.01)
    lease = Lease(database, fine_tuning(database), 1)
    checkpoints, worker_exited = Checkpoints(lease, 3600), threading.Event()
    with Heartbeat(lease, worker_exited, checkpoints) as heartbeat:
        checkpoints.add(b"epoch 1")
        checkpoints.add(b"epoch 2")
        assert lease.load_checkpoint() is None
        worker_exited.set()
        assert heartbeat.over.wait(10)
    assert ended(database, lease.run_id).state == "queued" and lease.load_checkpoint() == b"epoch 2"


def test_training_that_loses_its_group_goes_on_from_its_last_epoch(settings, database, monkeypatch):
    def lose(_, heartbeat):
        heartbeat.checkpoints.add(b"epoch 1")
        raise GroupLost("process 2 of 2 was killed", "exited", status=1)

    monkeypatch.setattr(training_run, "_train", lose)
    lease = Lease(database, fine_tuning(database), 1)
    train_run(settings, lease, threading.Event())
    assert ended(database, lease.run_id).state == "queued" and lease.load_checkpoint() == b"epoch 1"


def test_training_that_does_not_end_is_ended(database, monkeypatch):
    monkeypatch.setattr(training_run, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(training_run, "STUCK_SECONDS", 0.01)
    ended = threading.Event()
    monkeypatch.setattr(training_run.os, "_exit", lambda code: ended.set())
    lease = Lease(database, 1, 1)  # of a run that nobody has
    with Heartbeat(lease, threading.Event(), Checkpoints(lease, 0)):
        assert ended.wait(10)
