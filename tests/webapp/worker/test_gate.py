"""What a run's version has to pass before it answers, as the trainer asks for it."""

import json
import threading

import numpy as np
import pytest
from sqlalchemy import delete, select

from model.data import splits
from model.evaluation import comparison, robustness
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
from webapp.worker.training_run import train_run


@pytest.fixture(scope="module")
def data():
    return splits.load()


@pytest.fixture(autouse=True)
def few(monkeypatch, data):
    """Fewer of everything that is measured; and no digit twice from the disk."""
    monkeypatch.setattr(comparison, "STRENGTH_DIGITS", 20)
    for module, count in {comparison: 120, robustness: 20}.items():
        monkeypatch.setattr(module, "OTHERS", count)
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
    "fine except for nines": (lambda: nines_read_less(1.0), "recall"),
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
    assert [reason["code"] for reason in found.evidence["summary"]["reasons"]] == [code]
    live.refresh()
    assert promotions(database) == [1] and live.classifier().version == "v1"
    assert live.classifier().predict(drawn()).top[0][0] == 1


@ON_POSTGRESQL_UNDER_STRESS
def test_challenger_that_is_good_is_promoted(database, make):
    worse = add_version(database, nines_read_less(3.0))
    promote(database, worse)
    run = make(shipped())
    assert promotions(database) == [1, worse, run.version_id]
    change = get(database, Promotion, 3)
    assert (change.from_id, change.by) == (worse, f"run {run.id}")
    assert json.loads(change.why) == get(database, Comparison, run.version_id).evidence["summary"]


@pytest.mark.stress
def test_champion_that_changes_meanwhile_is_compared_with_too(database, make, monkeypatch):
    """What was found beside the champion of before says nothing about the one of now."""
    worse, better = add_version(database, nines_read_less(3.0)), 1
    promote(database, worse)
    compare, beside = comparison.compare, []

    def compare_slowly(challenger, champion, *more):
        found = compare(challenger, champion, *more)
        beside.append(champion)
        if len(beside) == 1:
            promote(database, better)
        return found

    monkeypatch.setattr(comparison, "compare", compare_slowly)
    run = make(nines_read_less(1.0))  # better than the one, worse than the other
    assert beside == [nines_read_less(3.0), shipped()]
    found = get(database, Comparison, run.version_id)
    assert not found.passed and found.champion_id == better
    assert promotions(database) == [1, worse, better]


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
    assert (run.state, why["code"], why["summary"]["reasons"][0]["least"]) == ("failed", "not_good_enough", 0.95)
    assert promotions(database) == []
    run = make(shipped())
    assert run.state == "finished" and promotions(database) == [run.version_id]
