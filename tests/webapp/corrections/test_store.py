"""Corrections as they are kept: folded, limited, held out by hand, and gone when they are deleted."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sqlalchemy import func, select, update

from model.imaging.normalise import digit_image
from model.task import NO_DIGIT
from tests.support.corrections import answer, digits
from webapp.corrections.review import DecisionRequest, decide, undo
from webapp.corrections.store import (
    HELD_OUT_EVERY,
    NEARLY_SAME,
    Corrections,
    Limits,
    TooManyCorrections,
    count_hands,
    hands_to_hold_out,
    image_of,
    similarity,
)
from webapp.storage.schema import Comparison, Correction, Review, Run, RunCorrection

HERE, THERE = "203.0.113.7", "198.51.100.9"
DIGITS = digits(60)


@pytest.fixture
def corrections(database, settings):
    return Corrections(database, settings)


@pytest.fixture
def add(corrections):
    def add(image=DIGITS[0][0], meant=7, address=HERE, version_id=1, picture=b"a picture", browser=None, known=True):
        browser = browser or f"at {address}"
        return corrections.add(picture, image, meant, answer(1), version_id, address, browser, known)

    return add


def limit(corrections, **changed):
    corrections.limits = corrections.limits._replace(**changed)


def rows(database):
    with database.reading() as session:
        return session.scalars(select(Correction).order_by(Correction.id)).all()


def change(database, correction_id, **values):
    with database.writing() as session:
        session.execute(update(Correction).where(Correction.id == correction_id).values(values))


def reviewed(database, correction_id, state, label):
    """What a review of this one leaves behind."""
    change(database, correction_id, state=state, label=label)
    review = Review(batch="b", by="a test", correction_id=correction_id, state=state, label=label, reason=None)
    review.state_before, review.label_before, review.reason_before = "received", label, None
    with database.writing() as session:
        session.add(review)


def redrawn(image, edit):
    """A digit image after its picture has been changed a little on the way."""
    large = Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC)
    return digit_image(edit(large))


def as_jpeg(picture):
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=60)
    return Image.open(out)


@pytest.mark.both_databases
def test_correction_kept_is_found_by_its_receipt_alone(add, corrections, database, settings):
    image, label = DIGITS[0]
    kept = add(image, label)
    found = corrections.find_by_receipt(kept.secret)
    assert np.array_equal(image_of(found), image) and found.picture == b"a picture"
    assert (found.meant, found.label, found.state, found.answered) == (label, label, "received", answer(1))
    assert (found.version_id, found.duplicate_of, found.suspicion) == (1, None, None)
    for wrong in ("", kept.secret[:-1], kept.secret.upper(), found.receipt_sha256, "\ud800", "x" * 10_000):
        assert corrections.find_by_receipt(wrong) is None


def test_correction_row_holds_neither_address_nor_secret(add, settings):
    kept = add()
    stored = (settings.data_dir / "inkling.db").read_bytes()
    assert kept.correction.receipt_sha256.encode() in stored
    assert kept.secret.encode() not in stored and HERE.encode() not in stored


SOURCES = [
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("192.0.2.1", "::ffff:192.0.2.1", True),
    ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
    ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
    ("fe80::1%eth0", "fe80::2", True),
    ("::1", "192.0.2.1", False),
    (None, "", True),
    ("unix:", "unix:", True),
]


def test_source_is_an_address_or_its_network(corrections):
    for first, second, same in SOURCES:
        assert (corrections.submitter_of(first) == corrections.submitter_of(second)) == same, (first, second)


def test_source_and_receipt_depend_on_the_secret_key(add, corrections, database, settings):
    kept = add()
    other = Corrections(database, replace(settings, secret_key="another"))
    assert other.submitter_of(HERE) != corrections.submitter_of(HERE)
    again = other.add(b"", DIGITS[0][0], 7, answer(1), 1, HERE, f"at {HERE}")
    assert again.is_new and again.secret != kept.secret


# Folding


def test_correction_sent_twice_is_one(add, database):
    first, second = add(), add()
    assert (first.is_new, second.is_new) == (True, False)
    assert first.secret == second.secret and len(rows(database)) == 1


EDITS = {
    "saved as a JPEG": as_jpeg,
    "reduced": lambda picture: picture.resize((112, 112)),
    "a wider pen": lambda picture: picture.filter(ImageFilter.MinFilter(3)),
}


@pytest.mark.parametrize("name", EDITS)
def test_duplicate_nearly_the_same_is_mostly_found(name):
    found = [
        similarity(redrawn(image, lambda picture: picture), redrawn(image, EDITS[name])[None])[0] for image, _ in DIGITS
    ]
    assert np.mean(np.array(found) >= NEARLY_SAME) > 0.7


def test_duplicate_other_peoples_digit_is_none():
    images, labels = np.array([image for image, _ in DIGITS]), np.array([label for _, label in DIGITS])
    alike = np.array([similarity(image, images) for image in images]) - np.eye(len(images))
    assert alike.max() < 0.999 and not (alike[:, labels != 1] >= NEARLY_SAME).any()


@pytest.mark.both_databases
def test_correction_same_source_is_folded_or_a_twin(add, database):
    image, label = DIGITS[1]
    first = add(redrawn(image, lambda picture: picture), label)
    again = add(redrawn(image, lambda picture: picture), label)
    assert not again.is_new and again.secret == first.secret
    second = add(redrawn(image, as_jpeg), label)
    assert second.is_new and second.secret != first.secret, "it may be another person behind the same address"
    assert add(DIGITS[2][0], DIGITS[2][1]).is_new
    assert [row.duplicate_of for row in rows(database)] == [None, 1, None]


def test_correction_of_another_browser_is_a_twin_and_counts(add, database, corrections):
    limit(corrections, per_submitter=2)
    first = add(browser="one")
    second = add(browser="two")
    assert second.is_new and second.secret != first.secret
    assert [row.duplicate_of for row in rows(database)] == [None, 1]
    with pytest.raises(TooManyCorrections):
        add(browser="three")
    # the browser keeps its receipt wherever it is carried
    moved = add(browser="one", meant=NO_DIGIT, address=THERE)
    assert not moved.is_new and moved.secret == first.secret


def test_corrections_of_a_browser_are_found_with_their_receipts(add, corrections):
    kept = [add(*digit, browser="one") for digit in DIGITS[:3]]
    add(*DIGITS[3], browser="two")
    found = corrections.find_by_browser("one")
    assert [own.secret for own in found] == [each.secret for each in reversed(kept)]
    assert found[0].correction.picture == b"a picture"


def test_correction_misclick_is_put_right_while_it_waits(add, database):
    first = add(meant=1)
    change(database, first.correction.id, suspicion=0.9, doubt={"model": 0.9})
    second = add(meant=NO_DIGIT)
    assert not second.is_new and second.secret == first.secret and second.correction.id != first.correction.id
    (row,) = rows(database)
    assert (row.meant, row.label, row.suspicion, row.doubt) == (NO_DIGIT, NO_DIGIT, None, None)


def test_correction_misclick_stays_in_its_part(add, database, corrections):
    limit(corrections, per_submitter=1)
    for number in range(HELD_OUT_EVERY + 1):
        add(*DIGITS[number], address=f"192.0.2.{number}")
    held_out = HELD_OUT_EVERY - 1
    add(DIGITS[held_out][0], NO_DIGIT, address=f"192.0.2.{held_out}")
    assert [row.meant for row in rows(database) if row.held_out] == [NO_DIGIT]


def test_correction_decided_is_not_changed_by_another_meaning(add, database):
    first = add(meant=1)
    reviewed(database, first.correction.id, "approved", 1)
    second = add(meant=7)
    assert second.is_new and [(row.meant, row.state) for row in rows(database)] == [(1, "approved"), (7, "received")]


def test_correction_of_another_source_is_a_twin(add, database):
    add(address=HERE)
    add(address=THERE)
    add(address="192.0.2.3")
    add(address="192.0.2.4", meant=2)
    assert [row.duplicate_of for row in rows(database)] == [None, 1, 1, None]


def test_twin_has_what_was_decided_on_the_first(add, database):
    first = add()
    change(database, first.correction.id, state="refused", reason="It is a scrawl.")
    late = add(address=THERE).correction
    assert (late.duplicate_of, late.state, late.reason) == (1, "refused", "It is a scrawl.")


def test_twin_is_left_by_a_first_that_changes_its_meaning(add, database):
    for address in (HERE, THERE, "192.0.2.3"):
        add(address=address)
    add(meant=2, address="192.0.2.4")
    add(meant=2, address=HERE)
    assert [(row.id, row.meant, row.duplicate_of) for row in rows(database)] == [
        (2, 7, None),
        (3, 7, 2),
        (4, 2, None),
        (5, 2, 4),
    ]


# Limits


@pytest.mark.both_databases
def test_corrections_per_source_are_limited_by_the_hour(add, database, corrections):
    limit(corrections, per_submitter=3)
    for image, label in DIGITS[:3]:
        add(image, label)
    with pytest.raises(TooManyCorrections) as refused:
        add(*DIGITS[3])
    assert 3500 < refused.value.retry_after <= 3600 and "60 minutes" in str(refused.value)
    assert not add(*DIGITS[0]).is_new, "what is folded takes no room"
    assert add(*DIGITS[3], address=THERE).is_new
    with database.writing() as session:
        session.execute(update(Correction).values(created_at=Correction.created_at - 3600))
    assert add(*DIGITS[3]).is_new


@pytest.mark.both_databases
def test_corrections_in_all_are_limited_by_the_day(add, database, corrections):
    limit(corrections, in_all=3)
    for number, (image, label) in enumerate(DIGITS[:3]):
        add(image, label, address=f"192.0.2.{number}", version_id=None if number == 0 else 1)
    add(*DIGITS[3], address=THERE)  # the imported one did not count
    with pytest.raises(TooManyCorrections, match="24 hours"):
        add(*DIGITS[4], address="192.0.2.9")
    assert len(rows(database)) == 4


@pytest.mark.both_databases
@pytest.mark.parametrize("name", ["per_submitter", "in_all"])
def test_corrections_from_a_clock_ahead_fill_no_limit(add, database, corrections, name):
    limit(corrections, **{name: 2})
    for image, label in DIGITS[:2]:
        add(image, label)
    with pytest.raises(TooManyCorrections):
        add(*DIGITS[2])
    with database.writing() as session:
        session.execute(update(Correction).values(created_at=Correction.created_at + 365 * 24 * 3600))
    for image, label in DIGITS[2:4]:
        assert add(image, label).is_new
    with pytest.raises(TooManyCorrections) as refused:
        add(*DIGITS[4])
    assert refused.value.retry_after <= 24 * 3600


def test_limits_are_those_of_the_settings(settings, database):
    school = replace(settings, corrections_per_hour=5_000, corrections_per_day=10_000)
    assert Corrections(database, settings).limits == Limits(60, 2_000, 5_000)
    assert Corrections(database, school).limits == Limits(5_000, 10_000, 25_000)


def test_corrections_waiting_are_limited(add, database, corrections):
    limit(corrections, waiting=2)
    add(*DIGITS[0])
    add(*DIGITS[1])
    with pytest.raises(TooManyCorrections, match="wait for review"):
        add(*DIGITS[2])
    reviewed(database, 1, "refused", 7)
    assert add(*DIGITS[2]).is_new


def in_threads(work, cases):
    """What `work` returned, or the TooManyCorrections that it raised, for each case at the same time."""

    def tried(case):
        try:
            return work(case)
        except TooManyCorrections as error:
            return error

    with ThreadPoolExecutor(len(cases)) as pool:
        return list(pool.map(tried, cases))


@pytest.mark.both_databases
def test_corrections_at_once_exceed_no_limit(add, database, corrections):
    limit(corrections, per_submitter=5)
    outcomes = in_threads(lambda digit: add(*digit), DIGITS[:16])
    assert sum(isinstance(outcome, TooManyCorrections) for outcome in outcomes) == 11
    assert len(rows(database)) == 5


@pytest.mark.both_databases
def test_correction_sent_at_once_is_kept_once(add, database):
    outcomes = in_threads(lambda _: add(), range(12))
    assert sum(outcome.is_new for outcome in outcomes) == 1 and len({outcome.secret for outcome in outcomes}) == 1
    assert len(rows(database)) == 1


@pytest.mark.both_databases
def test_twins_sent_at_once_have_one_first(add, database):
    in_threads(lambda number: add(address=f"192.0.2.{number}"), range(12))
    assert [row.duplicate_of for row in rows(database)] == [None] + [1] * 11


# Held out


@pytest.mark.both_databases
def test_source_every_fifth_is_held_out(add, database):
    for turn in range(2):
        for number in range(2 * HELD_OUT_EVERY):
            add(*DIGITS[20 * turn + number], address=f"192.0.2.{number}")
    held_out = [row.held_out for row in rows(database)]
    assert held_out == [number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 for number in range(2 * HELD_OUT_EVERY)] * 2


@pytest.mark.both_databases
def test_browser_every_fifth_is_held_out_behind_one_address(add, database):
    """A school has one address: told by it alone, the class would be one hand, of which nothing was held out."""
    for number in range(HELD_OUT_EVERY):
        for each in range(2):
            add(*DIGITS[2 * number + each], browser=f"tablet {number}")
    add(*DIGITS[20], browser="tablet 4", address=THERE)  # the hand stays in its part wherever it goes
    assert [row.id for row in rows(database) if row.held_out] == [9, 10, 11]


@pytest.mark.both_databases
def test_hands_of_requests_without_a_cookie_are_their_addresses(add, database):
    for number in range(HELD_OUT_EVERY):
        for each in range(2):  # each time with a token that no cookie brought
            add(*DIGITS[2 * number + each], address=f"192.0.2.{number}", browser=f"{number} {each}", known=False)
    assert [row.held_out for row in rows(database)] == [False] * 8 + [True] * 2
    add(*DIGITS[10], address="192.0.2.4", browser="new")
    assert rows(database)[-1].held_out is False
    with database.reading() as session:
        assert count_hands(session) == HELD_OUT_EVERY + 1 and hands_to_hold_out(session) is None


def test_hands_that_it_takes_to_hold_out_are_counted(add, database):
    told = []
    for number in range(HELD_OUT_EVERY):
        with database.reading() as session:
            told.append(hands_to_hold_out(session))
        add(*DIGITS[number], browser=f"tablet {number}")
    assert told == [None, *((hands, HELD_OUT_EVERY) for hands in range(1, HELD_OUT_EVERY))]
    with database.reading() as session:
        assert hands_to_hold_out(session) is None


def nearly(image):
    """The same drawing with other pixels."""
    return np.clip(image.astype(int) - 3, 0, 255).astype(np.uint8)


@pytest.mark.both_databases
def test_hand_that_sends_a_near_copy_stays_on_its_side(add, database):
    for number in range(HELD_OUT_EVERY):
        add(*DIGITS[number], browser=f"tablet {number}")
    for place in (HELD_OUT_EVERY - 1, 0):  # of one held out, and of one learnt from
        image, label = DIGITS[place]
        for number in range(HELD_OUT_EVERY):
            add(nearly(image), label, browser=f"{place} {number}")
            add(*DIGITS[10 + number], browser=f"{place} {number}")
    every_fifth = [number == HELD_OUT_EVERY - 1 for number in range(HELD_OUT_EVERY)]
    assert [row.held_out for row in rows(database)] == every_fifth + 2 * [one for one in every_fifth for _ in "12"]
    with database.reading() as session:
        assert count_hands(session) == 3 * HELD_OUT_EVERY


# Deleting


def noise(number):
    """A picture and a digit image that nothing else resembles."""
    random = np.random.default_rng(number)
    return random.bytes(3000), random.integers(0, 256, (28, 28), dtype=np.uint8)


def pieces(data):
    return {data[place : place + 16] for place in range(0, len(data) - 16, 64)}


def test_correction_deleted_is_in_no_file(add, corrections, database, settings):
    sent = [noise(number) for number in range(30)]
    kept = [add(image, 3, picture=picture) for picture, image in sent]

    def found(number):
        files = b"\0".join(path.read_bytes() for path in settings.data_dir.glob("inkling.db*"))
        picture, image = sent[number]
        traces = {kept[number].correction.receipt_sha256.encode(), *pieces(picture), *pieces(image.tobytes())}
        return sum(trace in files for trace in traces)

    everything = found(11)
    assert everything > 50, "the test would see it if it were there"
    for number in (11, 12, 29, 0):
        corrections.delete(kept[number].correction.id)
        assert corrections.find_by_receipt(kept[number].secret) is None
    assert [found(number) for number in (11, 12, 29, 0)] == [0, 0, 0, 0]
    assert found(5) == everything and len(rows(database)) == 26


@pytest.mark.both_databases
def test_correction_deleted_takes_reviews_and_runs_along(add, corrections, database):
    first, second = add().correction, add(*DIGITS[1]).correction
    reviewed(database, first.id, "approved", 7)
    run = Run(state="finished", preset="basic", epochs=1, seed=0, requested_by="a test", corrections=True)
    with database.writing() as session:
        session.add(run)
        session.flush()
        for row in (first, second):
            session.add(RunCorrection(run_id=run.id, correction_id=row.id))
    corrections.delete(first.id)
    corrections.delete(first.id)  # no error
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Review)) == 0
        assert session.scalars(select(RunCorrection.correction_id)).all() == [second.id]


@pytest.mark.both_databases
def test_correction_deleted_leaves_no_picture_in_comparisons(add, corrections, database):
    held_out, other = add().correction.id, add(*DIGITS[1]).correction.id
    run = Run(state="finished", preset="basic", epochs=1, seed=0, requested_by="a test", corrections=True, version_id=1)
    lists = {"gained_pictures": [{"number": held_out, "truth": 7}], "lost_pictures": [{"number": other, "truth": 2}]}
    evidence = {"summary": "x", "drawings": {"count": 2, "gained": 1, "lost": 1} | lists, "digits": lists}
    with database.writing() as session:
        session.add_all((run, Comparison(version_id=1, champion_id=1, passed=True, evidence=evidence)))
        session.flush()
        session.add_all(RunCorrection(run_id=run.id, correction_id=number) for number in (held_out, other))
    corrections.delete(held_out)
    with database.reading() as session:
        left = session.scalar(select(Comparison.evidence))
    assert left == evidence | {"drawings": evidence["drawings"] | {"gained_pictures": []}}


@pytest.mark.both_databases
def test_correction_number_is_never_used_again(add, corrections):
    """A reviewer who still sees the deleted one would decide about another one unseen."""
    old = add()
    corrections.delete(old.correction.id)
    new = add()
    assert new.correction.id > old.correction.id and corrections.find_by_receipt(old.secret) is None


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("state", "of_an_earlier_release"), [("received", False), ("approved", True), ("refused", False)]
)
def test_twins_of_a_deleted_first_wait_under_the_oldest(add, corrections, database, state, of_an_earlier_release):
    """The others stayed approved, though of twins nobody is shown any but the first."""
    for address in (HERE, THERE, "192.0.2.3"):
        add(address=address)
    with database.writing() as session:
        decide(session, DecisionRequest((1,), state, 4, "A face." if state == "refused" else None, None), "a test")
    if of_an_earlier_release:  # which wrote the decision down for each
        for number in (2, 3):
            reviewed(database, number, state, 4)
    corrections.delete(1)
    meant = rows(database)[0].meant
    assert [(row.id, row.duplicate_of, row.state, row.label, row.reason) for row in rows(database)] == [
        (2, None, "received", meant, None),
        (3, 2, "received", meant, None),
    ]
    with database.writing() as session:
        assert undo(session, None) is None
        decide(session, DecisionRequest((2,), "approved", None, None, None), "a test")
    assert {row.state for row in rows(database)} == {"approved"}


def test_twins_stay_approved_when_one_is_deleted(add, corrections, database):
    for address in (HERE, THERE, "192.0.2.3"):
        add(address=address)
    with database.writing() as session:
        decide(session, DecisionRequest((1,), "approved", None, None, None), "a test")
    corrections.delete(2)
    found = [(row.id, row.duplicate_of, row.state) for row in rows(database)]
    assert found == [(1, None, "approved"), (3, 1, "approved")]


def test_correction_keeps_the_answer_as_given(add, database):
    add()
    assert json.loads(json.dumps(rows(database)[0].answered)) == answer(1)
