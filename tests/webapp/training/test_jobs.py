"""What is to be done in the background: asked for, delivered, taken up again, and by child processes that die."""

import logging
import signal
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from sqlalchemy import select

from model.presets import Config
from tests.support.corrections import add_correction, digits
from tests.support.servers import wait_until
from tests.support.versions import add_version, computed, promote, turned
from webapp.services import Services
from webapp.storage.schema import AdminSession, Artifact, Run, SignInAttempt, coded
from webapp.training import runs
from webapp.training.jobs import FORMER_TASKS
from webapp.training.runs import Lease, RunActive
from webapp.training.task_queue import open_queue
from webapp.versions.artifacts import RETRY_SECONDS, STALE_SECONDS, get_artifact
from webapp.worker.artifacts import ARTIFACTS
from webapp.worker.executor import Executor
from webapp.worker.training_run import train_run

CONFIG = Config("basic", 1)


@pytest.fixture
def services(settings):
    services = Services.open(settings)
    yield services
    services.close()


@pytest.fixture
def executor(services, settings):
    executor = Executor(services.database, settings)
    yield executor
    executor.jobs.huey.storage.close()


@pytest.fixture
def jobs(executor):
    return executor.jobs


@pytest.fixture
def database(services):
    return services.database


def get(database, run_id):
    with database.reading() as session:
        return session.get(Run, run_id)


def claimed(jobs, database):
    """A run in the hands of a trainer."""
    run = jobs.start(CONFIG, "test")
    return Lease(database, run.id, runs.claim(database, run.id))


def change(database, run_id, **values):
    with database.writing() as session:
        row = session.get(Run, run_id)
        for name, value in values.items():
            setattr(row, name, value)


@pytest.mark.both_databases
def test_start_queues_a_row_and_rings_once(jobs, database):
    run = jobs.start(CONFIG, "somebody")
    row = get(database, run.id)
    assert (row.state, row.preset, row.epochs, row.requested_by) == ("queued", "basic", 1, "somebody")
    assert jobs.huey.pending_count() == 1


def test_run_waiting_again_is_told_to_the_worker(jobs, database):
    hold = claimed(jobs, database)
    jobs.huey.flush()
    change(database, hold.run_id, lease_until=time.time() - 1)
    jobs.expire_leases()
    jobs.expire_leases()
    assert (get(database, hold.run_id).state, jobs.huey.pending_count()) == ("queued", 1)


def test_trainer_that_dies_is_followed_by_two_others_at_most(jobs, executor, database, monkeypatch):
    run = jobs.start(CONFIG, "test")
    codes = iter((-9, 1, -9))
    monkeypatch.setattr(executor, "_run_child", lambda *_: next(codes))
    for losses in (1, 2, 3):
        executor.train(run.id)
        row = get(database, run.id)
        assert (row.failed_attempts, row.attempt) == (losses, losses)
        assert row.state == ("queued" if losses < 3 else "lost")
    assert row.error == coded("lost", times=3, last={"code": "killed", "signal": 9})
    assert row.ended_at and jobs.start(CONFIG, "next")


def test_trainer_ended_with_its_worker_counts_as_no_loss(jobs, executor, database, monkeypatch):
    run = jobs.start(CONFIG, "test")

    def stopped(_, run_id, attempt):
        executor.stopping.set()
        Lease(database, int(run_id), int(attempt)).release()
        return -15

    monkeypatch.setattr(executor, "_run_child", stopped)
    executor.train(run.id)
    assert (get(database, run.id).state, get(database, run.id).failed_attempts) == ("queued", 0)


def test_judging_without_corrections_starts_no_process(executor, monkeypatch):
    monkeypatch.setattr(executor, "_run_child", lambda *arguments: pytest.fail("there is nothing to judge"))
    executor.check_labels()


@pytest.mark.both_databases
def test_judging_failed_waits_for_some_time_or_another_champion(executor, settings, database, monkeypatch):
    add_correction(settings, database, *digits(1)[0])
    begun = []
    monkeypatch.setattr(executor, "_run_child", lambda *arguments: begun.append(arguments) or 1)
    for number in (1, 1, 2):
        promote(database, add_version(database, turned(1))) if number == 2 else None
        executor.check_labels()
        assert begun == number * [("suspicion",)]
    later = time.monotonic() + RETRY_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    executor.check_labels()
    assert len(begun) == 3


@pytest.mark.parametrize("stops", [False, True])
def test_judging_ended_with_its_worker_is_no_failure(executor, settings, database, monkeypatch, caplog, stops):
    add_correction(settings, database, *digits(1)[0])

    def ended(*_):
        if stops:
            executor.stopping.set()
        return -15

    monkeypatch.setattr(executor, "_run_child", ended)
    with caplog.at_level(logging.ERROR):
        executor.check_labels()
    assert ("could not judge" in caplog.text) == (not stops)


def test_children_that_do_not_end_are_killed(executor, monkeypatch):
    monkeypatch.setattr("webapp.worker.executor.STOP_SECONDS", 1.0)
    children = [subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE) for _ in range(20)]
    executor._children.update(children)
    executor.stop_children()
    assert all(child.returncode == -signal.SIGKILL for child in children)


@pytest.mark.both_databases
def test_starts_at_once_make_one_run(settings):
    def start(number):
        services = Services.open(settings)
        try:
            return services.jobs.start(CONFIG, f"caller {number}").id
        except RunActive as error:
            return error
        finally:
            services.close()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(start, range(16)))
    started = [result for result in results if isinstance(result, int)]
    assert len(started) == 1
    assert all(error.details["run"] == started[0] for error in results if not isinstance(error, int))


@pytest.fixture
def children(executor, database, monkeypatch):
    """What the worker's child processes, which end at once and well, were begun for; nothing is left to compute."""
    computed(database)
    begun = []
    monkeypatch.setattr(executor, "_run_child", lambda *arguments: begun.append(arguments) or 0)
    return begun


def start_overdue(executor):
    """The same, until all that was started is done."""
    executor.start_overdue()
    wait_until(lambda: not any(thread.name in STARTED for thread in threading.enumerate()))


STARTED = ("train", "compute_artifacts", "check_labels", "import_digits")


YEAR = 365 * 24 * 3600  # ahead of us, where the clock was until it was put right


@pytest.mark.both_databases
@pytest.mark.parametrize("age", [60, -YEAR])
def test_run_whose_message_was_lost_is_taken_up(jobs, executor, database, children, age):
    run = jobs.start(CONFIG, "test")
    jobs.huey.flush()
    start_overdue(executor)
    assert children == []  # the message may still be on its way
    change(database, run.id, created_at=time.time() - age)
    start_overdue(executor)
    start_overdue(executor)
    assert children == [("run", str(run.id), "1")]


def leave(database, kind, age=0.0, **values):
    """Leaves a computation about v1 as it was some seconds ago; without a row where no values are given."""
    with database.writing() as session:
        session.delete(session.get(Artifact, (1, kind)))
        session.flush()
        if values:
            session.add(Artifact(version_id=1, kind=kind, updated_at=time.time() - age, **values))


# Of a computation's row: its age, its other values (none where there is no row), and how often it is begun.
DUE = [
    (0, {}, 1),
    (0, {"fraction": 0.4}, 0),
    (STALE_SECONDS + 1, {"fraction": 0.4}, 1),
    (-YEAR, {"fraction": 0.4}, 1),
    (YEAR, {"fraction": 1.0}, 0),
    (STALE_SECONDS + 1, {"error": "MNIST is missing."}, 0),
    (RETRY_SECONDS + 1, {"error": "MNIST is missing."}, 1),
    (-YEAR, {"error": "MNIST is missing."}, 1),
]


@pytest.mark.both_databases
def test_computation_due_is_begun_once(executor, database, children):
    for age, values, times in DUE:
        children.clear()
        leave(database, "strength", age, **values)
        start_overdue(executor)
        start_overdue(executor)  # somebody is at it, by its row
        assert children == times * [("strength", "1")], (age, values)
        assert times == 0 or get_artifact(database, 1, "strength").error is None


@pytest.mark.both_databases
def test_computations_of_the_champion_come_first(executor, database, children):
    add_version(database, turned(1))
    add_version(database, turned(2))
    for kind in ARTIFACTS:
        leave(database, kind)
    start_overdue(executor)
    assert children == [(kind, version) for kind in ARTIFACTS for version in ("1", "3", "2")]


def test_message_of_an_earlier_release_is_passed_over(jobs, settings, database, children):
    def task(*_):
        pytest.fail("it is not done")

    task.__module__ = "webapp.jobs"
    for task.__name__ in FORMER_TASKS:
        earlier = open_queue(settings, database)
        earlier.task()(task)(1)
        earlier.storage.close()
        jobs.huey.execute(jobs.huey.dequeue())
    assert children == []


@pytest.mark.both_databases
def test_overdue_work_is_started_by_one_of_two_workers(settings, executor, database, children, monkeypatch):
    other = Executor(database, settings)
    monkeypatch.setattr(other, "_run_child", executor._run_child)
    leave(database, "strength")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Executor.start_overdue, (executor, other)))
    start_overdue(executor)
    other.jobs.huey.storage.close()
    assert children == [("strength", "1")]


def test_overdue_work_that_fails_is_logged_and_tried_again(jobs, executor, database, monkeypatch, caplog):
    computed(database)
    run = jobs.start(CONFIG, "test")
    change(database, run.id, created_at=time.time() - 60)
    monkeypatch.setattr(executor, "train", Mock(__name__="train", side_effect=[ZeroDivisionError("a surprise"), None]))
    start_overdue(executor)
    assert "a surprise" in caplog.text
    start_overdue(executor)
    assert executor.train.call_count == 2


def test_queue_that_takes_no_message_loses_no_run(jobs, executor, database, children, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(jobs, "_deliver_run", fail)
    run = jobs.start(CONFIG, "test")
    change(database, run.id, created_at=time.time() - 60)
    start_overdue(executor)
    assert children == [("run", str(run.id), "1")]


def test_computation_killed_says_so_and_waits(executor, database, children, monkeypatch):
    """As by the kernel, when it takes more memory than there is."""
    leave(database, "strength")
    monkeypatch.setattr(executor, "_run_child", lambda *arguments: children.append(arguments) or -9)
    start_overdue(executor)
    start_overdue(executor)
    assert children == [("strength", "1")]
    error = get_artifact(database, 1, "strength").error
    assert error == coded("crashed", last={"code": "killed", "signal": 9})


def test_run_of_an_unknown_preset_fails_with_the_reason(settings, executor, database, monkeypatch):
    """As after an upgrade: a run that could not be claimed would wait for ever, and no other could start."""
    run = Run(state="queued", preset="gone", epochs=1, seed=0, requested_by="a test")
    with database.writing() as session:
        session.add(run)
    lease = Lease(database, run.id, 1)
    monkeypatch.setattr(executor, "_run_child", lambda *_: train_run(settings, lease, threading.Event()))
    executor.train(run.id)
    assert get(database, run.id).state == "failed" and "no preset 'gone'" in get(database, run.id).error


@pytest.mark.both_databases
def test_sweep_removes_what_is_kept_of_sign_ins(executor, database):
    """A failed attempt stayed until the next one, however long that took."""
    now = time.time()
    with database.writing() as session:
        session.add_all(SignInAttempt(address=f"password:{age}", at=now - age) for age in (0, 400, -YEAR))
        session.add_all(
            AdminSession(token_sha256=str(age), created_at=now - age, seen_at=now - age) for age in (0, YEAR, -YEAR)
        )
    executor.sweep()
    with database.reading() as session:
        assert session.scalars(select(SignInAttempt.address)).all() == ["password:0"]
        assert session.scalars(select(AdminSession.token_sha256)).all() == ["0"]
