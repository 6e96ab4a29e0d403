"""Runs as rows: one at a time, held by attempt and lease, written by nobody else."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from model.presets import Config
from webapp.database import Predictions, Promotion, Run, Strength, Version, champion_id
from webapp.jobs import LOST, STALE_SECONDS, Hold, LeaseLost, RunActive, promote_if_better
from webapp.services import Services

CONFIG = Config("seed", 1)


@pytest.fixture
def services(settings):
    services = Services.open(settings)
    yield services
    services.database.close()


@pytest.fixture
def jobs(services):
    return services.jobs


@pytest.fixture
def database(services):
    return services.database


def get(database, run_id):
    with database.reading() as session:
        return session.get(Run, run_id)


def claimed(jobs, database):
    """A run in the hands of a trainer."""
    run = jobs.start(CONFIG, "test")
    return Hold(database, run.id, jobs._claim(run.id))


def change(database, run_id, **values):
    with database.writing() as session:
        row = session.get(Run, run_id)
        for name, value in values.items():
            setattr(row, name, value)


def version(accuracy, **more):
    return Version(
        source="run",
        preset="seed",
        sha256="0" * 64,
        weights=b"weights",
        card={},
        validation_accuracy=accuracy,
        test_accuracy=accuracy,
        **more,
    )


def test_start_queues_a_row_and_rings_once(jobs, database):
    run = jobs.start(CONFIG, "somebody")
    row = get(database, run.id)
    assert (row.state, row.preset, row.epochs, row.requested_by) == ("queued", "seed", 1, "somebody")
    assert jobs.huey.pending_count() == 1


def test_a_second_start_names_the_first(jobs, database):
    first = jobs.start(CONFIG, "one")
    with pytest.raises(RunActive, match=f"Run {first.id} is under way"):
        jobs.start(CONFIG, "two")
    change(database, first.id, state="running", lease_until=time.time() + 60)
    with pytest.raises(RunActive):
        jobs.start(CONFIG, "three")
    change(database, first.id, state="finished", ended_at=time.time())
    assert jobs.start(CONFIG, "four").id != first.id


def test_many_starts_at_once_make_one_run(settings):
    def start(number):
        services = Services.open(settings)
        try:
            return services.jobs.start(CONFIG, f"caller {number}").id
        except RunActive as error:
            return error
        finally:
            services.database.close()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(start, range(24)))
    started = [result for result in results if isinstance(result, int)]
    assert len(started) == 1
    assert all(error.run_id == started[0] for error in results if not isinstance(error, int))


def test_a_run_is_claimed_once(jobs):
    run = jobs.start(CONFIG, "test")
    assert jobs._claim(run.id) == 1
    assert jobs._claim(run.id) is None


def test_the_holder_alone_may_write(jobs, database):
    hold = claimed(jobs, database)
    assert hold.renew(progress={"epoch": 1}) is False
    stranger = Hold(database, hold.run_id, hold.attempt + 1)
    for write in (
        lambda: stranger.renew(progress={"epoch": 9}),
        lambda: stranger.end("failed", error="no"),
        lambda: stranger.finish(version(1.0), b""),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert get(database, hold.run_id).progress == {"epoch": 1}


def test_a_lost_run_takes_no_version(jobs, database):
    hold = claimed(jobs, database)
    change(database, hold.run_id, lease_until=time.time() - 1)
    jobs.reap()
    with pytest.raises(LeaseLost):
        hold.finish(version(1.0), b"")
    row = get(database, hold.run_id)
    assert (row.state, row.error, row.version_id) == ("failed", LOST, None)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Version)) == 1
        assert session.scalar(select(func.count()).select_from(Predictions)) == 0


def test_reaping_spares_runs_with_a_lease(jobs, database):
    hold = claimed(jobs, database)
    jobs.reap()
    assert get(database, hold.run_id).state == "running"


def test_start_after_a_lost_run_is_accepted(jobs, database):
    hold = claimed(jobs, database)
    change(database, hold.run_id, lease_until=time.time() - 1)
    assert jobs.start(CONFIG, "next").id > hold.run_id


def test_cancelling_in_each_state(jobs, database):
    queued = jobs.start(CONFIG, "test")
    jobs.cancel(queued.id, "test")
    assert get(database, queued.id).state == "cancelled"
    assert jobs._claim(queued.id) is None

    hold = claimed(jobs, database)
    jobs.cancel(hold.run_id, "test")
    assert hold.renew() is True
    hold.end("cancelled")
    jobs.cancel(hold.run_id, "test")
    assert get(database, hold.run_id).state == "cancelled"


@pytest.mark.parametrize(("better_by", "promoted"), [(-0.0002, False), (0.0, True), (0.0002, True)])
def test_a_version_is_promoted_when_at_least_as_good(jobs, database, better_by, promoted):
    with database.reading() as session:
        champion = session.get(Version, champion_id(session))
    hold = claimed(jobs, database)
    challenger = version(champion.validation_accuracy + better_by)
    assert hold.finish(challenger, b"") is promoted
    with database.reading() as session:
        assert champion_id(session) == (challenger.id if promoted else champion.id)
        row = session.get(Run, hold.run_id)
        assert (row.state, row.version_id) == ("finished", challenger.id)
        if promoted:
            last = session.scalars(select(Promotion).order_by(Promotion.id.desc())).first()
            assert last.by == f"run {hold.run_id}" and champion.name in last.why


def test_the_first_version_is_promoted_whatever_it_reads(database):
    with database.writing() as session:
        for row in session.scalars(select(Promotion)):
            session.delete(row)
        session.flush()
        only = version(0.1)
        session.add(only)
        session.flush()
        assert promote_if_better(session, only, by="test")


@pytest.mark.parametrize("ask", ["predict_test_set", "measure_strength"])
def test_what_is_computed_is_asked_for_once_until_it_is_stuck(jobs, monkeypatch, ask):
    ask = getattr(jobs, ask)
    assert ask(1).fraction == 0
    assert ask(1).fraction == 0
    assert jobs.huey.pending_count() == 1
    later = time.time() + STALE_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    ask(1)
    assert jobs.huey.pending_count() == 2


@pytest.mark.parametrize(("ask", "do"), [("predict_test_set", "do_predictions"), ("measure_strength", "do_strength")])
def test_what_a_worker_computes_it_does_not_compute_beside(jobs, monkeypatch, ask, do):
    getattr(jobs, ask)(1)
    children = []

    def second_message_meanwhile(*arguments):
        children.append(arguments)
        getattr(jobs, do)(1)
        return 0

    monkeypatch.setattr(jobs, "_child", second_message_meanwhile)
    getattr(jobs, do)(1)
    assert len(children) == 1
    getattr(jobs, do)(1)
    assert len(children) == 2, "that one has ended, and the row says that there is no result yet"


def test_a_finished_run_leaves_its_versions_strength_to_its_trainer(jobs, database):
    hold = claimed(jobs, database)
    made = version(0.5)
    hold.finish(made, b"")
    assert jobs.measure_strength(made.id).fraction == 0
    assert jobs.huey.pending_count() == 1, "the message of the run, and none beside it"


def test_a_lost_message_is_sent_again(jobs, database):
    run = jobs.start(CONFIG, "test")
    jobs.huey.flush()
    jobs.redeliver()
    assert jobs.huey.pending_count() == 0  # it may still be on its way
    change(database, run.id, created_at=time.time() - 60)
    jobs.redeliver()
    jobs.redeliver()
    assert jobs.huey.pending_count() == 1


IN_THE_FUTURE = 1e12  # whenever the tests are collected


@pytest.mark.parametrize(
    "values, rings",
    [({}, 1), ({"fraction": 1.0}, 0), ({"error": "MNIST is missing."}, 0), ({"updated_at": IN_THE_FUTURE}, 0)],
)
def test_a_measuring_that_its_worker_left_is_taken_up_again(jobs, database, values, rings):
    jobs.measure_strength(1)
    jobs.huey.flush()
    with database.writing() as session:
        row = session.get(Strength, 1)
        for name, value in ({"updated_at": time.time() - 300} | values).items():
            setattr(row, name, value)
    jobs.redeliver()
    jobs.redeliver()
    assert jobs.huey.pending_count() == rings


def test_a_late_message_leaves_finished_predictions_alone(jobs, database):
    jobs.predict_test_set(1)
    with database.writing() as session:
        row = session.get(Predictions, 1)
        row.fraction, row.probabilities = 1.0, b"done"
    jobs.do_predictions(1)
    with database.reading() as session:
        row = session.get(Predictions, 1)
        assert (row.fraction, row.probabilities) == (1.0, b"done")


def test_a_queue_that_takes_no_message_loses_no_run(jobs, database, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(jobs, "_deliver_run", fail)
    run = jobs.start(CONFIG, "test")
    monkeypatch.undo()
    change(database, run.id, created_at=time.time() - 60)
    jobs.redeliver()
    assert jobs.huey.pending_count() == 1
