"""What the worker's child process computes about a version, run within this one."""

import sqlite3
import threading

import numpy as np
import pytest
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from model import mnist, seal, strength, train, weights
from model.recognizer import SHIPPED
from model.seal import Sealed
from model.train import Result
from tests.webapp.versions import add_version, damaged
from webapp import trainer
from webapp.computations import WorkerGone, measure_strength
from webapp.database import Promotion, Run, Strength, Version
from webapp.jobs import Jobs
from webapp.runs import Hold, LeaseLost
from webapp.trainer import Watch, train_run


@pytest.fixture
def jobs(settings, database):
    return Jobs(database, settings)


@pytest.fixture
def few(monkeypatch):
    for name, count in {"CURVE_DIGITS": 10, "OTHERS": 60}.items():
        monkeypatch.setattr(strength, name, count)


@pytest.fixture
def broken(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("a secret of the machine")

    monkeypatch.setattr(strength, "strength", fail)


def row(database, version_id):
    with database.reading() as session:
        return session.get(Strength, version_id)


def test_a_versions_strength_is_measured_and_kept(settings, database, jobs, few):
    jobs.measure_strength(1)
    measure_strength(settings, database, 1, threading.Event())
    found = row(database, 1)
    assert (found.fraction, found.error) == (1, None)
    assert found.figures["accuracy"] > 0.99 and found.figures["curve_digits"] == 10
    assert jobs.measure_strength(1).figures == found.figures


def test_damaged_weights_are_named_and_tried_again_later(settings, database, jobs):
    number = add_version(database, damaged(SHIPPED.read_bytes()))
    jobs.measure_strength(number)
    measure_strength(settings, database, number, threading.Event())
    found = row(database, number)
    assert found.fraction < 1 and "damaged" in found.error and found.figures is None


def test_a_failure_says_no_more_than_it_must(settings, database, jobs, broken):
    jobs.measure_strength(1)
    measure_strength(settings, database, 1, threading.Event())
    assert row(database, 1).error == "The computation failed; the server's log says why."


def test_a_new_attempt_begins_at_nothing(settings, database, broken):
    with database.writing() as session:
        session.add(Strength(version_id=1, fraction=0.6))
    measure_strength(settings, database, 1, threading.Event())
    assert row(database, 1).fraction == 0


def test_without_its_worker_it_writes_nothing(settings, database, jobs, few):
    jobs.measure_strength(1)
    gone = threading.Event()
    gone.set()
    with pytest.raises(WorkerGone):
        measure_strength(settings, database, 1, gone)
    assert row(database, 1).fraction == 0 and row(database, 1).error is None


def test_a_failed_measuring_loses_no_version(settings, database, jobs, broken, monkeypatch):
    data = SHIPPED.read_bytes()
    monkeypatch.setattr(train, "train", lambda *_, **__: Result(None, (), 0, 0.5, stopped=False))
    monkeypatch.setattr(seal, "seal", lambda *_: sealed(data))
    run = Run(state="running", attempt=1, preset="seed", epochs=1, seed=0, requested_by="a test")
    with database.writing() as session:
        session.add(run)
    train_run(settings, Hold(database, run.id, 1), threading.Event())
    with database.reading() as session:
        ended = session.get(Run, run.id)
        assert (ended.state, ended.error) == ("finished", None)
        assert session.get(Version, ended.version_id).weights == data
        assert "failed" in session.get(Strength, ended.version_id).error


def fine_tuning(database):
    run = Run(state="running", attempt=1, preset="fine-tune", epochs=1, seed=0, requested_by="a test", parent_id=1)
    with database.writing() as session:
        session.add(run)
    return run.id


def ended(database, run_id):
    with database.reading() as session:
        return session.get(Run, run_id)


def test_fine_tuning_goes_on_from_the_version_in_service(settings, database, few, monkeypatch):
    some = mnist.load(settings.mnist_dir).subset(300)
    monkeypatch.setattr(mnist, "load", lambda folder: some)
    number = fine_tuning(database)
    train_run(settings, Hold(database, number, 1), threading.Event())
    run = ended(database, number)
    assert (run.state, run.error) == ("finished", None)
    assert run.history[0]["validation_accuracy"] > 0.97  # before the first step
    with database.reading() as session:
        card = session.get(Version, run.version_id).card
    assert card["parent"] == weights.digest(SHIPPED.read_bytes())


def test_without_a_version_in_service_there_is_nothing_to_fine_tune(settings, database):
    number = fine_tuning(database)
    with database.writing() as session:
        session.execute(delete(Promotion))
        session.get(Run, number).parent_id = None
    train_run(settings, Hold(database, number, 1), threading.Event())
    assert ended(database, number).state == "failed"
    assert "nothing to go on from" in ended(database, number).error


def sealed(data):
    """The shipped weights as if they had just been trained."""
    return Sealed(data, weights.read_card(data), np.zeros((10_000, 10), np.float32))


def said(words):
    return OperationalError("INSERT", {}, sqlite3.OperationalError(words))


def test_a_checkpoint_that_finds_the_database_busy_is_left_out(database, monkeypatch):
    def fail(*_):
        raise said("database is locked")

    monkeypatch.setattr(Hold, "keep", fail)
    trainer._keep(Hold(database, 1, 1), b"so far")


@pytest.mark.parametrize("error", [said("database or disk is full"), LeaseLost("another has it")])
def test_a_checkpoint_without_room_or_right_ends_the_training(database, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Hold, "keep", fail)
    with pytest.raises(type(error)):
        trainer._keep(Hold(database, 1, 1), b"so far")


def test_a_training_that_does_not_end_when_it_is_over_is_ended(database, monkeypatch):
    monkeypatch.setattr(trainer, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(trainer, "STUCK_SECONDS", 0.01)
    ended = threading.Event()
    monkeypatch.setattr(trainer.os, "_exit", lambda code: ended.set())
    with Watch(Hold(database, 1, 1), threading.Event()):  # a run that nobody has
        assert ended.wait(10)
