"""Runs as rows: one at a time, held by attempt and lease, written by nobody else, and lost without a trace of half."""

import itertools
import time

import numpy as np
import pytest
from sqlalchemy import func, select

from model.presets import Config
from webapp.storage.schema import (
    Artifact,
    Comparison,
    Correction,
    Promotion,
    Run,
    RunCorrection,
    Version,
    champion_id,
    coded,
)
from webapp.storage.timestamps import SKEW_SECONDS
from webapp.training import runs
from webapp.training.runs import ChampionChanged, Lease, LeaseLost
from webapp.worker.training_run import chosen_corrections, drop_near_copies

CONFIG = Config("basic", 1)


def get(database, run_id):
    with database.reading() as session:
        return session.get(Run, run_id)


def count(database, table):
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table))


def start(database, corrections=False, preset="basic"):
    return runs.start(database, Config(preset, 1), "test", corrections).id


def claimed(database, **more) -> Lease:
    """A run in the hands of a trainer."""
    run_id = start(database, **more)
    return Lease(database, run_id, runs.claim(database, run_id))


def change(database, run_id, **values):
    with database.writing() as session:
        row = session.get(Run, run_id)
        for name, value in values.items():
            setattr(row, name, value)


def expire(database, run_id):
    change(database, run_id, lease_until=time.time() - 1)


def version(accuracy=0.99):
    return Version(
        source="run",
        preset="basic",
        sha256="0" * 64,
        weights=b"weights",
        card={},
        validation_accuracy=accuracy,
        test_accuracy=accuracy,
    )


def comparison(passed=True, champion=1, gained=True):
    return Comparison(champion_id=champion, passed=passed, evidence={"summary": {"code": "better"}, "gained": gained})


number = itertools.count()


def drawing(seed):
    """A digit image that no other resembles."""
    return np.uint8(255) * (np.random.default_rng(seed).random((28, 28)) < 0.2)


def keep_correction(database, **values):
    """A correction, approved; returns its number."""
    row = {
        "submitter": "somebody",
        "receipt_sha256": str(time.perf_counter_ns()),
        "meant": 7,
        "label": 7,
        "digit_image": drawing(next(number)).tobytes(),
        "picture": b"png",
        "answered": {},
        "held_out": False,
        "state": "approved",
    }
    correction = Correction(**row | values)
    with database.writing() as session:
        session.add(correction)
    return correction.id


def chosen(database, run_id):
    with database.reading() as session:
        return list(session.scalars(select(RunCorrection.correction_id).where(RunCorrection.run_id == run_id)))


@pytest.mark.both_databases
def test_run_is_claimed_once(database):
    run_id = start(database)
    assert runs.claim(database, run_id) == 1
    assert runs.claim(database, run_id) is None
    assert get(database, run_id).state == "running"


@pytest.mark.both_databases
def test_run_is_written_by_its_holder_alone(database):
    hold = claimed(database)
    hold.save_checkpoint(b"mine")
    assert hold.renew(progress={"epoch": 1}) is False
    stranger = Lease(database, hold.run_id, hold.attempt + 1)
    for write in (
        lambda: stranger.renew(progress={"epoch": 9}),
        lambda: stranger.save_checkpoint(b"another's"),
        lambda: stranger.release(),
        lambda: stranger.end("failed", error="no"),
        lambda: stranger.finish(version(), b"", comparison()),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert get(database, hold.run_id).progress == {"epoch": 1}
    assert hold.load_checkpoint() == b"mine"
    assert (count(database, Version), count(database, Comparison)) == (1, 0)


def test_run_lost_waits_for_another_attempt(database):
    hold = claimed(database)
    hold.save_checkpoint(b"as far as this")
    expire(database, hold.run_id)
    assert runs.expire_leases(database) == [hold.run_id]
    row = get(database, hold.run_id)
    assert (row.state, row.failed_attempts, row.ended_at, row.lease_until) == ("queued", 1, None, None)
    for write in (hold.renew, lambda: hold.save_checkpoint(b"more"), lambda: hold.finish(version(), b"", comparison())):
        with pytest.raises(LeaseLost):
            write()
    assert runs.claim(database, hold.run_id) == 2
    assert Lease(database, hold.run_id, 2).load_checkpoint() == b"as far as this"


@pytest.mark.both_databases
def test_run_lost_three_times_is_given_up(database):
    run_id = start(database)
    for attempt in (1, 2, 3):
        assert runs.claim(database, run_id) == attempt
        Lease(database, run_id, attempt).save_checkpoint(b"so far")
        expire(database, run_id)
        assert runs.expire_leases(database) == ([run_id] if attempt < 3 else [])
    row = get(database, run_id)
    assert (row.state, row.failed_attempts, row.version_id) == ("lost", 3, None)
    assert row.error == coded("lost", times=3, last={"code": "silent"}) and row.ended_at
    assert start(database) > run_id


def test_run_let_go_in_order_is_not_lost(database):
    run_id = start(database)
    for attempt in range(1, 6):
        assert runs.claim(database, run_id) == attempt
        Lease(database, run_id, attempt).release()
        assert runs.expire_leases(database) == []
    assert (get(database, run_id).state, get(database, run_id).failed_attempts) == ("queued", 0)


def test_reap_spares_runs_with_a_lease(database):
    hold = claimed(database)
    assert runs.expire_leases(database) == []
    assert get(database, hold.run_id).state == "running"


YEAR = 365 * 24 * 3600


@pytest.mark.both_databases
@pytest.mark.parametrize(("cancelled", "state"), [(False, "queued"), (True, "cancelled")])
def test_lease_from_a_clock_ahead_has_run_out(database, cancelled, state):
    """Such a run was under way for the year, and cancelling it did nothing."""
    hold = claimed(database)
    change(database, hold.run_id, lease_until=time.time() + YEAR)
    if cancelled:
        runs.cancel(database, hold.run_id)
    runs.expire_leases(database)
    assert get(database, hold.run_id).state == state
    with pytest.raises(LeaseLost):
        hold.renew()


def test_lease_outlasts_a_clock_put_back_a_little(database):
    hold = claimed(database)
    change(database, hold.run_id, lease_until=time.time() + runs.LEASE_SECONDS + SKEW_SECONDS / 2)
    assert runs.expire_leases(database) == [] and get(database, hold.run_id).state == "running"


def test_run_lost_is_taken_from_the_attempt_that_died_alone(database):
    hold = claimed(database)
    assert runs.fail_attempt(database, hold.run_id, hold.attempt + 1, "it died") == []
    assert get(database, hold.run_id).state == "running"
    assert runs.fail_attempt(database, hold.run_id, hold.attempt, "it died") == [hold.run_id]


@pytest.mark.both_databases
def test_run_cancelled_in_each_state_ends(database):
    queued = start(database)
    runs.cancel(database, queued)
    assert get(database, queued).state == "cancelled"
    assert runs.claim(database, queued) is None

    hold = claimed(database)
    hold.save_checkpoint(b"so far")
    runs.cancel(database, hold.run_id)
    assert hold.renew() is True
    hold.end("cancelled")
    runs.cancel(database, hold.run_id)
    assert get(database, hold.run_id).state == "cancelled"


def test_checkpoint_stays_until_its_run_has_ended(database):
    hold = claimed(database)
    hold.save_checkpoint(b"so far")
    for keeps in (lambda: None, hold.release, lambda: runs.claim(database, hold.run_id)):
        keeps()
        runs.sweep(database)
        assert hold.load_checkpoint() == b"so far"
    runs.cancel(database, hold.run_id)
    Lease(database, hold.run_id, 2).end("cancelled")
    runs.sweep(database)
    assert hold.load_checkpoint() is None


@pytest.mark.parametrize("lost", [False, True])
def test_run_cancelled_does_not_begin_again(database, lost):
    hold = claimed(database)
    if lost:
        runs.cancel(database, hold.run_id)
        expire(database, hold.run_id)
        assert runs.expire_leases(database) == []
    else:
        hold.release()
        runs.cancel(database, hold.run_id)
    assert get(database, hold.run_id).state == "cancelled"


@pytest.mark.both_databases
@pytest.mark.parametrize(("passed", "gained"), [(True, True), (True, False), (False, True)])
def test_run_finished_is_promoted_by_its_evidence(database, passed, gained):
    hold = claimed(database)
    hold.save_checkpoint(b"so far")
    challenger = version()
    promoted = passed and gained
    assert hold.finish(challenger, b"", comparison(passed, gained=gained)) is promoted
    with database.reading() as session:
        assert champion_id(session) == (challenger.id if promoted else 1)
        row = session.get(Run, hold.run_id)
        assert (row.state, row.version_id) == ("finished", challenger.id)
        assert session.get(Comparison, challenger.id).passed is passed
        assert session.get(Artifact, (challenger.id, "predictions")).fraction == 1
        last = session.scalars(select(Promotion).order_by(Promotion.id.desc())).first()
        if promoted:
            assert (last.from_id, last.version_id) == (1, challenger.id)
            assert (last.by, last.why) == (f"run {hold.run_id}", coded("better"))


def test_evidence_omits_a_drawing_deleted_meanwhile(database):
    kept, deleted = keep_correction(database, held_out=True), keep_correction(database, held_out=True)
    hold = claimed(database)
    with database.writing() as session:
        session.delete(session.get(Correction, deleted))
    made, challenger = comparison(), version()
    drawings = {"gained_pictures": [{"number": kept}, {"number": deleted}], "lost_pictures": []}
    made.evidence = made.evidence | {"drawings": drawings}
    hold.finish(challenger, b"", made)
    with database.reading() as session:
        left = session.get(Comparison, challenger.id).evidence["drawings"]
    assert left == {"gained_pictures": [{"number": kept}], "lost_pictures": []}


@pytest.mark.both_databases
def test_evidence_against_an_earlier_champion_decides_nothing(database):
    hold = claimed(database)
    with database.writing() as session:
        other = version()
        session.add(other)
        session.flush()
        session.add(Promotion(version_id=other.id, from_id=1, by="somebody", why="meanwhile"))
    with pytest.raises(ChampionChanged):
        hold.finish(version(), b"", comparison())
    assert (get(database, hold.run_id).state, count(database, Version)) == ("running", 2)
    assert hold.finish(version(), b"", comparison(champion=other.id)) is True


def test_run_finished_first_of_all_answers(database):
    with database.writing() as session:
        session.delete(session.scalars(select(Promotion)).one())
    assert claimed(database).finish(version(0.1), b"", None) is True


def test_run_first_attempt_chooses_its_parent(database):
    hold = claimed(database, preset="fine-tune")
    assert get(database, hold.run_id).parent_id == 1
    with database.writing() as session:
        other = version()
        session.add(other)
        session.flush()
        session.add(Promotion(version_id=other.id, from_id=1, by="somebody", why="meanwhile"))
    hold.release()
    assert runs.claim(database, hold.run_id) == 2
    assert get(database, hold.run_id).parent_id == 1


@pytest.mark.both_databases
@pytest.mark.parametrize("corrections", [True, False])
def test_run_first_attempt_chooses_its_corrections(database, corrections):
    first = keep_correction(database)
    held_out = keep_correction(database, held_out=True)
    keep_correction(database, duplicate_of=first)
    keep_correction(database, state="received")
    keep_correction(database, state="refused")
    hold = claimed(database, corrections=corrections)
    expected = [first, held_out] if corrections else [held_out]
    assert chosen(database, hold.run_id) == expected
    keep_correction(database)
    hold.release()
    runs.claim(database, hold.run_id)
    assert chosen(database, hold.run_id) == expected


@pytest.mark.both_databases
def test_run_leaves_out_near_copies_of_drawings_held_out(database, monkeypatch):
    """Whatever they mean; its other processes read the rows that are left."""
    monkeypatch.setattr(runs, "IDS_AT_ONCE", 2)
    images = [drawing(1000 + place) for place in range(5)]
    near = [keep_correction(database, digit_image=(image // 51 * 50).tobytes()) for image in images]
    far = keep_correction(database, digit_image=drawing(999).tobytes())
    held_out = [keep_correction(database, digit_image=image.tobytes(), held_out=True, label=3) for image in images]
    keep_correction(database, digit_image=drawing(999).tobytes(), held_out=True, state="refused")
    hold = claimed(database, corrections=True)
    assert chosen(database, hold.run_id) == [*near, far, *held_out]
    drop_near_copies(hold)
    assert chosen(database, hold.run_id) == [far, *held_out]


def test_near_copies_dropped_by_a_lost_attempt_stay(database):
    image = drawing(1000)
    keep_correction(database, digit_image=image.tobytes())
    keep_correction(database, digit_image=image.tobytes(), held_out=True)
    hold = claimed(database, corrections=True)
    change(database, hold.run_id, attempt=2)
    with pytest.raises(LeaseLost):
        drop_near_copies(hold)
    assert len(chosen(database, hold.run_id)) == 2


@pytest.mark.both_databases
def test_run_does_not_learn_what_was_deleted_or_refused(database):
    ink = np.full((28, 28), 9, np.uint8).tobytes()
    kept = keep_correction(database, label=3, held_out=True, digit_image=ink)
    refused, deleted = (keep_correction(database, label=label) for label in (4, 5))
    hold = claimed(database, corrections=True)
    with database.writing() as session:
        session.get(Correction, refused).state = "refused"
        session.delete(session.get(Correction, deleted))
    hold.drop_refused()
    assert chosen(database, hold.run_id) == [kept], "and no receipt says that the others were used"
    with database.reading() as session:
        found = chosen_corrections(session, hold.run_id)
    assert (found.ids.tolist(), found.labels.tolist(), found.held_out.tolist()) == ([kept], [3], [True])
    assert found.images.shape == (1, 28, 28) and (found.images == 9).all()
    with database.reading() as session:
        assert chosen_corrections(session, 99) is None
