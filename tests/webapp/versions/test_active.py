"""Which version answers in a process, and how it changes over."""

import logging
import threading

import pytest
from sqlalchemy import delete

from model.inference.classifier import SHIPPED
from model.inference.weights import WeightsError
from tests.support.requests import drawn
from tests.support.versions import add_version, damaged, promote, turned
from webapp.storage.schema import Promotion, Version
from webapp.versions.active import ActiveModel, NoChampion


@pytest.fixture
def live(database):
    live = ActiveModel(database)
    yield live
    live.stop()


def digit(live):
    return live.classifier().predict(drawn()).top[0][0]


def test_live_first_question_loads_the_champion(live):
    classifier = live.classifier()
    assert classifier.version == "v1"
    assert live.classifier() is classifier
    assert digit(live) == 1


@pytest.mark.both_databases
def test_live_promotion_is_followed_by_one_look(live, database):
    first = live.classifier()
    number = add_version(database, turned(1))
    live.refresh()
    assert live.classifier() is first  # being there is not being promoted
    promote(database, number)
    assert live.classifier() is first  # a request never goes to look
    live.refresh()
    assert (live.classifier().version, digit(live)) == (f"v{number}", 2)
    assert first.predict(drawn()).top[0][0] == 1  # for a request that is still at it


@pytest.mark.both_databases
def test_live_last_promotion_counts_not_the_highest_version(live, database):
    promote(database, add_version(database, turned(1)))
    promote(database, 1)
    assert live.classifier().version == "v1"


@pytest.mark.parametrize(
    "data",
    [b"", b"not weights", SHIPPED.read_bytes()[:-1], SHIPPED.read_bytes()[:5000], damaged(SHIPPED.read_bytes())],
    ids=["empty", "text", "one byte short", "cut", "one bit flipped"],
)
def test_live_unloadable_version_leaves_the_old_one(live, database, caplog, data):
    first = live.classifier()
    first.warm()
    bad = add_version(database, data)
    promote(database, bad)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            live.refresh()
    assert live.classifier() is first and digit(live) == 1
    assert len(caplog.records) == 1 and f"v{bad} cannot be loaded and v1 goes on" in caplog.text
    good = add_version(database, turned(1))
    promote(database, good)
    live.refresh()
    assert (live.classifier().version, digit(live)) == (f"v{good}", 2)


def test_live_mended_version_is_taken_up(live, database, monkeypatch):
    live.classifier().warm()
    bad = add_version(database, damaged(turned(1)))
    promote(database, bad)
    live.refresh()
    with database.writing() as session:
        session.get_one(Version, bad).weights = turned(1)
    live.refresh()
    assert live.classifier().version == "v1", "it is not tried again each second"
    monkeypatch.setattr("webapp.versions.active.RETRY_SECONDS", 0)
    live.refresh()
    assert (live.classifier().version, digit(live)) == (f"v{bad}", 2)


def test_live_damaged_first_version_is_said(live, database):
    promote(database, add_version(database, damaged(SHIPPED.read_bytes())))
    with pytest.raises(WeightsError):
        digit(live)
    promote(database, 1)
    live.refresh()
    assert digit(live) == 1


@pytest.mark.both_databases
def test_live_without_version_is_said(live, database):
    with database.writing() as session:
        session.execute(delete(Promotion))
    with pytest.raises(NoChampion, match="make setup"):
        live.classifier()
    promote(database, 1)
    assert digit(live) == 1


def test_live_many_threads_load_once(live, monkeypatch):
    loads = []
    load = ActiveModel._weights
    monkeypatch.setattr(ActiveModel, "_weights", lambda self, number: loads.append(number) or load(self, number))
    gate, digits = threading.Barrier(8), []

    def ask():
        gate.wait()
        digits.append(digit(live))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digits == [1] * 8 and loads == [1]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("webapp.versions.active.FOLLOW_SECONDS", 0.01)


def test_live_follower_warms_keeps_house_and_changes_over(database, quick):
    housekept, changed = threading.Event(), threading.Event()

    def keep_house():
        housekept.set()
        if live.classifier().version == "v2":
            changed.set()

    live = ActiveModel(database, keep_house)
    live.follow()
    assert housekept.wait(10)
    promote(database, add_version(database, turned(1)))
    assert changed.wait(10)
    live.stop()
    assert digit(live) == 2


def test_live_follower_survives_any_error(database, quick, caplog):
    fails, again = iter([ZeroDivisionError("a surprise")]), threading.Event()

    def keep_house():
        for surprise in fails:
            raise surprise
        again.set()

    live = ActiveModel(database, keep_house)
    live.follow()
    assert again.wait(10)
    live.stop()
    assert "a surprise" in caplog.text


def test_live_follower_survives_a_missing_database(database, quick, caplog, settings):
    path = settings.data_dir / "inkling.db"
    data = path.read_bytes()
    database.close()
    path.write_bytes(b"")
    housekept = threading.Event()
    live = ActiveModel(database, housekept.set)
    with caplog.at_level(logging.WARNING):
        live.follow()
        assert not housekept.wait(0.1)
        database.close()
        path.write_bytes(data)
        assert housekept.wait(10)
    live.stop()
    assert "cannot look for a newer version" in caplog.text
    assert digit(live) == 1
