"""Which workers count as alive: those that have reported lately and have not stopped."""

import time

import pytest
from sqlalchemy import func, select, update

from webapp.storage import workers
from webapp.storage.schema import Worker
from webapp.storage.workers import ALIVE_SECONDS, Presence, count_alive, last_seen

pytestmark = pytest.mark.both_databases


def alive(database):
    with database.reading() as session:
        return count_alive(session)


def rows(database):
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Worker))


def age(database, seconds):
    """As if every worker had reported so long ago."""
    with database.writing() as session:
        session.execute(update(Worker).values(seen_at=time.time() - seconds))


def test_workers_alive_are_those_that_report_and_have_not_stopped(database):
    assert alive(database) == 0
    one, two = Presence(database), Presence(database)
    one.report()
    two.report()
    assert alive(database) == 2
    two.stop()
    two.report()
    assert alive(database) == 1, "a stop is final, though housekeeping may still be under way"


def test_worker_killed_is_alive_until_it_has_been_silent_for_long_enough(database):
    Presence(database).report()
    age(database, ALIVE_SECONDS - 5)
    assert alive(database) == 1
    age(database, ALIVE_SECONDS + 5)
    assert alive(database) == 0


def test_worker_dated_ahead_by_a_wrong_clock_is_not_alive(database):
    Presence(database).report()
    age(database, -3600)
    assert alive(database) == 0


def test_report_is_written_now_and_then(database, monkeypatch):
    worker = Presence(database)
    worker.report()
    age(database, ALIVE_SECONDS + 5)
    worker.report()
    assert alive(database) == 0, "too soon to write again"
    monkeypatch.setattr(workers, "REPORT_SECONDS", 0.0)
    worker.report()
    assert alive(database) == 1


def test_last_seen_outlives_the_worker_until_another_starts(database):
    with database.reading() as session:
        assert last_seen(session) is None
    for _ in range(3):
        Presence(database).report()
    age(database, 300)
    with database.reading() as session:
        assert time.time() - last_seen(session) == pytest.approx(300, abs=30)
    Presence(database).report()
    assert rows(database) == 1
