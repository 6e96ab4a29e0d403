"""What a run's version has to pass before it answers, as the trainer asks for it."""

import json
import threading

import numpy as np
import pytest
from sqlalchemy import delete, select

from model.data import splits
from model.evaluation import comparison, robustness, suite
from model.inference import weights
from model.training import package, train
from model.training.package import Package
from model.training.train import Result
from tests.conftest import ON_POSTGRESQL_UNDER_STRESS
from tests.support.challengers import DAMAGED, nines_read_less, shipped, wider
from tests.support.requests import drawn
from tests.support.versions import add_version, promote, promotions
from webapp.storage.schema import Comparison, Promotion, Run, Version
from webapp.training import runs
from webapp.training.runs import Lease
from webapp.versions.active import ActiveModel
from webapp.versions.promotions import record_promotion
from webapp.worker.training_run import train_run


@pytest.fixture(scope="module")
def data():
    return splits.load()


@pytest.fixture(scope="module")
def hard(data):
    """The suite, small and drawn once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "HANDS_EACH", 2)
        patch.setattr(suite, "CHANGED", 60)
        return suite.hard_pictures(data.gate)


@pytest.fixture(autouse=True)
def few(monkeypatch, data, hard):
    """Fewer of everything that is measured; and no digit twice from the disk."""
    monkeypatch.setattr(comparison, "hard_pictures", lambda gate, tell: hard)
    monkeypatch.setattr(robustness, "OTHERS", 20)
    monkeypatch.setattr(robustness, "CURVE_DIGITS", 5)
    monkeypatch.setattr(splits, "load", lambda folder: data)


@pytest.fixture
def make(settings, database, monkeypatch):
    """Ends a run as if it had trained these weights; its row."""

    def make(data: bytes) -> Run:
        card = weights.read_card(shipped())
        result = Package(data, card, np.zeros((10_000, 10), np.float32))
        monkeypatch.setattr(train, "train", lambda *_, **__: Result(None, (), 0, 0.5, stopped=False))
        monkeypatch.setattr(package, "build_package", lambda *_: result)
        run = Run(state="running", attempt=1, preset="basic", epochs=1, seed=0, requested_by="a test")
        with database.writing() as session:
            session.add(run)
        train_run(settings, Lease(database, run.id, 1), threading.Event())
        with database.reading() as session:
            return session.get(Run, run.id)

    return make


def get(database, table, key):
    with database.reading() as session:
        return session.get(table, key)


BAD = {
    **{name: (damaged, "unusable") for name, (damaged, _) in DAMAGED.items()},
    "fine except for nines": (lambda: nines_read_less(3.0), "recall"),
    "larger": (wider, "multiplications"),
}
"""Challengers, and the code of why each waits."""


@pytest.mark.parametrize(
    "bad",
    [
        "one bit flipped",
        "fine except for nines",
        *(pytest.param(bad, marks=pytest.mark.stress) for bad in ("truncated", "NaN", "wrong shape", "larger")),
    ],
)
def test_challenger_that_is_bad_is_kept_and_waits(database, make, bad):
    make_weights, code = BAD[bad]
    data = make_weights()
    live = ActiveModel(database)
    live.classifier().warm()
    run = make(data)
    assert (run.state, run.error) == ("finished", None)
    with database.reading() as session:
        assert session.get(Version, run.version_id).weights == data
    found = get(database, Comparison, run.version_id)
    assert not found.passed and found.champion_id == 1
    assert code in [one["reason"]["code"] for one in found.evidence["criteria"] if not one["passed"]]
    live.refresh()
    assert promotions(database) == [1] and live.classifier().version == "v1"
    assert live.classifier().predict(drawn()).top[0][0] == 1


@ON_POSTGRESQL_UNDER_STRESS
def test_challenger_that_is_good_is_promoted(database, make):
    worse = add_version(database, nines_read_less(4.0))
    promote(database, worse)
    run = make(shipped())
    assert promotions(database) == [1, worse, run.version_id]
    change = get(database, Promotion, 3)
    assert (change.from_id, change.by) == (worse, f"run {run.id}")
    assert json.loads(change.why) == get(database, Comparison, run.version_id).evidence["summary"]


@pytest.mark.stress
def test_champion_that_changes_meanwhile_is_compared_with_too(database, make, monkeypatch):
    """What was found beside the champion of before says nothing about the one of now."""
    worse, better = add_version(database, nines_read_less(4.0)), 1
    promote(database, worse)
    compare, beside = comparison.compare, []

    def compare_slowly(challenger, champion, *more):
        found = compare(challenger, champion, *more)
        beside.append(champion)
        if len(beside) == 1:
            promote(database, better)
        return found

    monkeypatch.setattr(comparison, "compare", compare_slowly)
    run = make(nines_read_less(3.0))  # better than the one, worse than the other
    assert beside == [nines_read_less(4.0), shipped()]
    found = get(database, Comparison, run.version_id)
    assert not found.passed and found.champion_id == better
    assert promotions(database) == [1, worse, better]


def test_challenger_that_gained_nothing_waits_although_it_is_no_worse(database, make):
    run = make(shipped())
    found = get(database, Comparison, run.version_id)
    assert found.passed and not found.evidence["gained"] and promotions(database) == [1]


def test_challenger_is_compared_with_the_version_last_put_in_service_by_a_person(database, make):
    """What runs promote one after the other may lose no more than the margin in all."""
    by_hand, by_run = (add_version(database, nines_read_less(logit)) for logit in (4.0, 5.0))
    promote(database, by_hand)
    with database.writing() as session:
        record_promotion(session, by_run, by="run 1", why="{}")
    run = make(nines_read_less(6.0))
    found = get(database, Comparison, run.version_id)
    assert (found.champion_id, found.evidence["anchor_id"]) == (by_run, by_hand)
    lost = {one["versus"]: one["champion"] for one in found.evidence["criteria"] if one["name"] == "all"}
    assert lost["anchor"] > lost["champion"]


def test_run_cancelled_while_compared_leaves_no_version(database, make, monkeypatch):
    compare = comparison.compare

    def cancelled_meanwhile(*arguments):
        found = compare(*arguments)
        with database.reading() as session:
            run_id = session.scalar(select(Run.id))
        runs.cancel(database, run_id)
        Lease(database, run_id, 1).end("cancelled")  # as the watch does within a second
        return found

    monkeypatch.setattr(comparison, "compare", cancelled_meanwhile)
    make(shipped())
    assert get(database, Run, 1).state == "cancelled" and get(database, Version, 2) is None
    assert promotions(database) == [1]


def test_challenger_without_a_champion_has_floors_to_pass(database, make):
    with database.writing() as session:
        session.execute(delete(Promotion))
    run = make(nines_read_less(1000.0))  # reads no nine at all
    why = json.loads(run.error)
    assert (run.state, why["code"], why["summary"]["reasons"][0]["code"]) == ("failed", "not_good_enough", "accuracy")
    assert promotions(database) == []
    run = make(shipped())
    assert run.state == "finished" and promotions(database) == [run.version_id]
