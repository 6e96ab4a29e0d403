"""Judging what waits for review, as the worker's child process does it, with the version in service."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import delete, select

from model.data import mnist, splits
from model.task import NO_DIGIT
from tests.support.corrections import add_correction, digits
from tests.support.versions import add_version, damaged, promote, turned
from webapp.storage.schema import Correction, Promotion
from webapp.worker.label_check import check_labels


@pytest.fixture(scope="module", autouse=True)
def less_of_mnist():
    """A tenth of the training digits: enough to know a digit by."""
    whole = splits.load().subset(6_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "load", lambda folder: whole)
        yield


def score(settings, database, worker_exited=False):
    gone = threading.Event()
    if worker_exited:
        gone.set()
    check_labels(settings, database, gone)


def stored(database, correction_id):
    with database.reading() as session:
        return session.get(Correction, correction_id)


def test_label_wrong_is_more_suspicious_than_right(settings, database):
    (image, digit), *_ = digits(1)
    right = add_correction(settings, database, image, digit, address="192.0.2.1")
    wrong = add_correction(settings, database, image, (digit + 1) % 10, address="192.0.2.2")
    none = add_correction(settings, database, image, NO_DIGIT, address="192.0.2.3")
    score(settings, database)
    right, wrong, none = (stored(database, number) for number in (right, wrong, none))
    assert right.suspicion < 0.1 and wrong.suspicion > 0.8 and none.suspicion > 0.8
    assert right.doubt["version"] == "v1" and right.doubt["read"] == digit
    assert right.doubt["probability"] > 0.9 and wrong.doubt["probability"] < 0.1
    assert right.doubt["neighbours"][str(digit)] >= 8


@pytest.mark.both_databases
def test_judging_takes_waiting_unjudged_corrections_alone(settings, database):
    numbers = [add_correction(settings, database, image, label) for image, label in digits(4)]
    with database.writing() as session:
        session.get(Correction, numbers[0]).state = "approved"
        session.get(Correction, numbers[1]).state = "refused"
        session.get(Correction, numbers[2]).suspicion = 0.123
    score(settings, database)
    approved, refused, judged, waiting = (stored(database, number) for number in numbers)
    assert approved.suspicion is None and refused.suspicion is None and judged.suspicion == 0.123
    assert waiting.suspicion is not None


def test_twins_are_judged_too_so_that_nothing_stays_unjudged(settings, database):
    (image, digit), *_ = digits(1)
    add_correction(settings, database, image, digit, address="192.0.2.1")
    twin = add_correction(settings, database, image, digit, address="192.0.2.2")
    assert stored(database, twin).duplicate_of is not None
    score(settings, database)
    assert stored(database, twin).suspicion is not None


def test_many_are_judged_in_batches(settings, database, monkeypatch):
    monkeypatch.setattr("webapp.worker.label_check.BATCH", 3)
    for image, label in digits(8):
        add_correction(settings, database, image, label)
    score(settings, database)
    with database.reading() as session:
        assert None not in session.scalars(select(Correction.suspicion)).all()


def test_judging_without_mnist_asks_the_approved_ones_alone(settings, database, tmp_path, monkeypatch):
    def missing(folder):
        raise mnist.MnistMissing(f"not in {folder}")

    monkeypatch.setattr(splits, "load", missing)
    (image, digit), *_ = digits(1)
    waiting = add_correction(settings, database, image, (digit + 1) % 10, address="192.0.2.9")
    score(settings, database)
    alone = stored(database, waiting)
    assert alone.suspicion == pytest.approx(0.5, abs=0.05) and alone.doubt["neighbours"] == {}
    for number in range(10):  # the same digit, a little different each time
        other = np.clip(image.astype(int) - number, 0, 255).astype(np.uint8)
        approved = add_correction(settings, database, other, digit, address=f"192.0.2.{20 + number}")
        with database.writing() as session:
            row = session.get(Correction, approved)
            row.state, row.duplicate_of = "approved", None
    with database.writing() as session:
        session.get(Correction, waiting).suspicion = None
    score(replace(settings, mnist_dir=tmp_path), database)
    beside = stored(database, waiting)
    assert beside.suspicion > 0.9 and beside.doubt["neighbours"] == {str(digit): 10}


def test_judging_is_by_the_version_in_service(settings, database):
    (image, digit), *_ = digits(1)
    promote(database, add_version(database, turned(1)))
    number = add_correction(settings, database, image, digit)
    score(settings, database)
    row = stored(database, number)
    assert row.doubt["version"] == "v2" and row.doubt["read"] == (digit + 1) % 10
    assert row.suspicion < 0.1  # the neighbours believe it


def test_judging_ends_with_its_worker_and_the_rest_waits(settings, database):
    number = add_correction(settings, database, *digits(1)[0])
    score(settings, database, worker_exited=True)
    assert stored(database, number).suspicion is None


@pytest.mark.parametrize("service", ["none", "damaged"])
def test_judging_without_a_usable_version_does_nothing(settings, database, service, caplog):
    number = add_correction(settings, database, *digits(1)[0])
    if service == "none":
        with database.writing() as session:
            session.execute(delete(Promotion))
    else:
        promote(database, add_version(database, damaged(turned(1))))
    score(settings, database)
    assert stored(database, number).suspicion is None
    assert "corrections cannot be judged" in caplog.text


def test_judging_leaves_alone_what_changes_meanwhile(settings, database, monkeypatch):
    """Its author says another digit, or it is decided, deleted or judged, between the reading and the writing."""
    numbers = [add_correction(settings, database, image, label) for image, label in digits(5)]
    from model.network import predict

    readings = predict.predict

    def meanwhile(network, images):
        with database.writing() as session:
            changed, decided, deleted, elsewhere, _ = (session.get(Correction, number) for number in numbers)
            changed.label = changed.meant = (changed.label + 1) % 10
            decided.state = "approved"
            session.delete(deleted)
            elsewhere.suspicion = 0.125
        return readings(network, images)

    monkeypatch.setattr(predict, "predict", meanwhile)
    score(settings, database)
    changed, decided, deleted, elsewhere, judged = (stored(database, number) for number in numbers)
    assert changed.suspicion is None and decided.suspicion is None and deleted is None
    assert elsewhere.suspicion == 0.125 and judged.suspicion is not None
