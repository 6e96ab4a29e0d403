"""The review of corrections by HTTP: the queue, decisions, undoing, and what happens to it meanwhile."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from sqlalchemy import delete, select

from model.task import NO_DIGIT
from tests.support.administrator import BROWSER, SCRIPT, csrf_token
from tests.support.corrections import add_correction, digits
from tests.support.requests import assert_error
from webapp.services import services
from webapp.storage.schema import Correction, Review
from webapp.views import corrections

QUEUE = "/admin/corrections"
DECIDE, UNDO = f"{QUEUE}/decide", f"{QUEUE}/undo"


@pytest.fixture
def add(app):
    """Adds corrections, each of a source of its own unless one is named; returns their numbers."""
    found = services(app)

    def add(count=1, start=0, meant=None, address=None):
        return [
            add_correction(
                found.settings, found.database, image, digit if meant is None else meant, address=address, read=8
            )
            for image, digit in digits(count, start)
        ]

    return add


@pytest.fixture
def database(app):
    return services(app).database


@pytest.fixture
def script(client):
    """Asks as a script does, and returns the JSON."""

    def ask(path, json=None, status=200):
        response = client.get(path, headers=SCRIPT) if json is None else client.post(path, json=json, headers=SCRIPT)
        assert response.status_code == status, response.text[:500]
        return response.get_json()

    return ask


def shown(script, state="received", page=1):
    return [row["id"] for row in script(f"{QUEUE}?state={state}&page={page}")["corrections"]]


def stored(database, number):
    with database.reading() as session:
        row = session.get(Correction, number)
        return row and (row.state, row.label, row.reason)


def suspect(database, suspicions):
    with database.writing() as session:
        for number, suspicion in suspicions.items():
            session.get(Correction, number).suspicion = suspicion


# The queue


@pytest.mark.both_databases
def test_queue_begins_with_the_most_suspicious(script, add, database):
    numbers = add(4)
    suspect(database, dict(zip(numbers, (0.2, None, 0.9, 0.5), strict=True)))
    assert shown(script) == [numbers[2], numbers[3], numbers[0], numbers[1]]


def test_queue_of_decided_ones_begins_with_the_latest(script, add):
    numbers = add(3)
    for number in (numbers[1], numbers[2], numbers[0]):
        script(DECIDE, {"ids": [number], "action": "approve"})
    assert shown(script, "approved") == [numbers[0], numbers[2], numbers[1]]


def test_queue_for_a_script_has_everything(script, add, database):
    (number,) = add(meant=4)
    doubt = {"version": "v1", "read": 7, "probability": 0.01, "neighbours": {"7": 9, "1": 1}}
    with database.writing() as session:
        row = session.get(Correction, number)
        row.suspicion, row.doubt = 0.97, doubt
    found = script(QUEUE)
    assert found["counts"] == {"received": 1, "approved": 0, "refused": 0} and found["unjudged"] == 0
    (row,) = found["corrections"]
    assert (row["id"], row["meant"], row["label"], row["state"]) == (number, 4, 4, "received")
    assert (row["suspicion"], row["doubt"], row["version"]) == (0.97, doubt, "v1")
    assert (row["times"], row["sources"], row["answered"]["digits"]) == (1, 1, [8])
    assert row["digit_image"].startswith("data:image/png;base64,")


def test_review_page_says_what_was_meant_and_what_speaks_against_it(admin, add, database):
    (number,) = add(meant=4)
    with database.writing() as session:
        row = session.get(Correction, number)
        row.suspicion = 0.97
        row.doubt = {"version": "v1", "read": 7, "probability": 0.01, "neighbours": {"7": 9, "1": 1}}
    page = admin.get(QUEUE, headers=BROWSER)
    assert page.status_code == 200 and page.cache_control.no_store
    words = re.sub(r"<[^>]+>", " ", page.text)
    words = re.sub(r"\s+", " ", words)
    assert "4 meant" in words and "label doubtful" in words and 'title="Suspicion 97 of 100"' in page.text
    assert "answered 8, 90 % v1" in words and "v1 reads 7; 1 % for 4" in words and "nine 7s , one 1" in words
    assert f'id="c{number}"' in page.text and "Waiting" in words


@pytest.mark.both_databases
def test_queue_folds_twins_into_their_first(script, admin, add):
    addresses = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    first, *twins = [add(address=address)[0] for address in addresses]
    found = script(QUEUE)
    (row,) = found["corrections"]
    assert (row["id"], row["times"], row["sources"]) == (first, 3, 3) and found["counts"]["received"] == 1
    page = admin.get(QUEUE, headers=BROWSER).text
    assert "<b>3 times</b>, from 3 sources" in page and f'id="c{twins[0]}"' not in page


def test_queue_page_beyond_the_last_leads_to_it(script, client, admin, add, monkeypatch):
    monkeypatch.setattr(corrections, "PER_PAGE", 2)
    numbers = add(5)
    assert [shown(script, page=page) for page in (1, 2, 3)] == [numbers[:2], numbers[2:4], numbers[4:]]
    beyond = client.get(f"{QUEUE}?page=4", headers=SCRIPT)
    assert beyond.status_code == 302 and "page=3" in beyond.headers["Location"]
    page = admin.get(f"{QUEUE}?page=2", headers=BROWSER).text
    assert "Page 2 of 3" in page and 'rel="prev"' in page and 'rel="next"' in page


@pytest.mark.parametrize("query", ["state=all", "state=", "page=0", "page=-1", "page=x", "page=1e9", "page=99999999"])
def test_queue_that_does_not_exist_is_refused(reader, query):
    assert_error(reader.get(f"{QUEUE}?{query}", headers=SCRIPT), 400, f"bad_{query.split('=')[0]}")


def test_queue_that_is_empty_says_so(admin):
    said = {"received": "Nothing waits", "approved": "None is approved", "refused": "None is refused"}
    for state, words in said.items():
        assert words in admin.get(f"{QUEUE}?state={state}", headers=BROWSER).text


def test_queue_picture_is_ours_and_not_kept(client, add):
    (number,) = add()
    picture = client.get(f"{QUEUE}/{number}/picture.png", headers=SCRIPT)
    assert picture.mimetype == "image/png" and picture.headers["X-Content-Type-Options"] == "nosniff"
    assert picture.cache_control.no_store
    assert Image.open(io.BytesIO(picture.data)).format == "PNG"
    for missing in (number + 1, 0, 2**31, 10**30):
        assert client.get(f"{QUEUE}/{missing}/picture.png", headers=SCRIPT).status_code == 404


# Decisions


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"action": "approve"}, ("approved", 7, None)),
        ({"action": "refuse", "reason": "It is a face."}, ("refused", 7, "It is a face.")),
        ({"action": "refuse", "reason": "  two\n lines "}, ("refused", 7, "two lines")),
        ({"action": "relabel", "label": 1}, ("approved", 1, None)),
        ({"action": "relabel", "label": 0}, ("approved", 0, None)),
        ({"action": "relabel", "label": "not_a_digit"}, ("approved", NO_DIGIT, None)),
        ({"action": "relabel", "label": 10}, ("approved", NO_DIGIT, None)),
    ],
)
def test_decision_is_stored_with_its_review(script, add, database, wish, expected):
    (number,) = add(meant=7)
    answer = script(DECIDE, {"ids": [number], **wish})
    assert answer["decided"] == [number] and answer["batch"] and answer["gone"] == answer["elsewhere"] == []
    assert stored(database, number) == expected
    assert answer["counts"] == {"received": 0, "approved": 0, "refused": 0} | {expected[0]: 1}
    with database.reading() as session:
        kept = session.scalars(select(Review)).one()
    assert (kept.by, kept.state, kept.label) == ("script", *expected[:2])
    assert (kept.state_before, kept.label_before, kept.reason_before) == ("received", 7, None)


BAD_DECISIONS = {
    "bad_decision": [
        {}, {"action": "delete"}, {"action": ["approve"]}, {"ids": []}, {"ids": 1}, {"ids": "1"}, {"ids": [True]},
        {"ids": [1.5]}, {"ids": [0]}, {"ids": [2**31]}, {"ids": ["\u0661"]}, {"ids": [None]},
        {"ids": list(range(1, 1002))}, {"action": "relabel"}, {"action": "relabel", "label": 11},
        {"action": "relabel", "label": -1}, {"action": "relabel", "label": True},
        {"action": "relabel", "label": "seven"},
    ],
    "bad_reason": [
        {"action": "refuse"}, {"action": "refuse", "reason": ""}, {"action": "refuse", "reason": " \n"},
        {"action": "refuse", "reason": 7}, {"action": "refuse", "reason": "x" * 301},
        {"action": "refuse", "reason": "a\u202eb"},
    ],
    "bad_state": [{"state": "gone"}, {"state": 1}],
}  # fmt: skip


@pytest.mark.parametrize("code", BAD_DECISIONS)
def test_decision_that_cannot_be_is_refused(client, add, database, code):
    (number,) = add()
    for wish in BAD_DECISIONS[code]:
        body = {"ids": [number], "action": "approve"} | wish if wish else {}
        assert_error(client.post(DECIDE, json=body, headers=SCRIPT), 400, code)
    assert stored(database, number)[0] == "received"


@pytest.mark.both_databases
def test_decision_about_many_is_one(script, add, database):
    numbers = add(6)
    assert script(DECIDE, {"ids": numbers[:4], "action": "approve"})["decided"] == numbers[:4]
    assert [stored(database, number)[0] for number in numbers] == ["approved"] * 4 + ["received"] * 2


def test_decision_may_be_changed_later(script, add, database):
    (number,) = add(meant=7)
    script(DECIDE, {"ids": [number], "action": "approve"})
    script(DECIDE, {"ids": [number], "action": "refuse", "reason": "On second thought."})
    assert stored(database, number) == ("refused", 7, "On second thought.")
    script(DECIDE, {"ids": [number], "action": "relabel", "label": 1})
    assert stored(database, number) == ("approved", 1, None)


@pytest.mark.both_databases
def test_decision_is_shared_by_twins(script, add, database):
    first, twin = add(address="192.0.2.1") + add(address="192.0.2.2")
    answer = script(DECIDE, {"ids": [first], "action": "relabel", "label": 1})
    assert answer["decided"] == [first] and answer["counts"]["approved"] == 1
    assert stored(database, twin) == stored(database, first) == ("approved", 1, None)
    (late,) = add(address="192.0.2.3")
    assert stored(database, late) == ("approved", 1, None)
    assert script(UNDO, {})["undone"] == [first]
    assert {stored(database, number)[0] for number in (first, twin, late)} == {"received"}
    assert stored(database, late)[1] == 7
    script(DECIDE, {"ids": [twin], "action": "approve"})  # by a twin's number it is the same
    assert {stored(database, number)[0] for number in (first, twin, late)} == {"approved"}


@pytest.mark.both_databases
def test_decision_about_deleted_ones_says_so(app, script, add, database):
    numbers = add(3)
    services(app).corrections.delete(numbers[1])
    answer = script(DECIDE, {"ids": [*numbers, 999], "action": "approve"})
    assert answer["decided"] == [numbers[0], numbers[2]] and answer["gone"] == [numbers[1], 999]
    assert "Deleted or changed by the author meanwhile: 2 corrections." in answer["said"]
    only = script(DECIDE, {"ids": [999], "action": "approve"})
    assert only["batch"] is None and only["decided"] == []


def test_decision_spares_a_meaning_not_seen(app, script, add, database):
    """Its author sent a 7 as a 7, waited for the reviewer to look, and made a 1 of it before "approve" was pressed."""
    shown_number, _ = add(address="192.0.2.1", meant=7), add(start=1)
    add(address="192.0.2.1", meant=1)
    answer = script(DECIDE, {"ids": shown_number, "action": "approve", "state": "received"})
    assert answer["decided"] == [] and answer["gone"] == shown_number
    with database.reading() as session:
        assert set(session.scalars(select(Correction.state))) == {"received"}


@pytest.mark.both_databases
def test_decision_spares_what_another_decided(script, add, database):
    numbers = add(2)
    script(DECIDE, {"ids": [numbers[0]], "action": "refuse", "reason": "A face.", "state": "received"})
    answer = script(DECIDE, {"ids": numbers, "action": "approve", "state": "received"})
    assert answer["decided"] == [numbers[1]] and answer["elsewhere"] == [numbers[0]]
    assert "by somebody else" in answer["said"]
    assert stored(database, numbers[0])[0] == "refused"


def test_decision_repeated_changes_nothing(script, add, database):
    (number,) = add()
    script(DECIDE, {"ids": [number, number], "action": "approve"})
    again = script(DECIDE, {"ids": [number], "action": "approve"})
    assert again["batch"] is None and again["said"].startswith("Nothing changed")
    with database.reading() as session:
        assert len(session.scalars(select(Review)).all()) == 1


@pytest.mark.both_databases
def test_decisions_at_once_are_taken_in_turn(app, add, database):
    numbers = add(4)

    def approve(_):
        body = {"ids": numbers, "action": "approve", "state": "received"}
        return app.test_client().post(DECIDE, json=body, headers=SCRIPT).get_json()["decided"]

    with ThreadPoolExecutor(4) as pool:
        decided = list(pool.map(approve, range(4)))
    assert sorted(map(len, decided)) == [0, 0, 0, 4]
    with database.reading() as session:
        assert len(session.scalars(select(Review)).all()) == 4


# Undoing


@pytest.mark.both_databases
def test_undo_goes_back_decision_by_decision(client, script, add, database):
    one, two = add(2)
    before = stored(database, one), stored(database, two)
    script(DECIDE, {"ids": [one, two], "action": "approve"})
    script(DECIDE, {"ids": [one], "action": "refuse", "reason": "No."})
    script(DECIDE, {"ids": [one], "action": "relabel", "label": 3})
    answer = script(UNDO, {})
    assert answer["undone"] == [one] and answer["state"] == "refused" and stored(database, one)[2] == "No."
    assert script(UNDO, {})["state"] == "approved"
    assert script(UNDO, {})["undone"] == [one, two]
    assert (stored(database, one), stored(database, two)) == before
    assert_error(client.post(UNDO, json={}, headers=SCRIPT), 409, "nothing_to_undo")


def test_undo_of_a_batch_spares_later_ones(script, add, database):
    mine, theirs = add(2)
    batch = script(DECIDE, {"ids": [mine], "action": "approve"})["batch"]
    script(DECIDE, {"ids": [theirs], "action": "approve"})
    assert script(UNDO, {"batch": batch})["undone"] == [mine]
    assert (stored(database, mine)[0], stored(database, theirs)[0]) == ("received", "approved")


def test_undo_spares_what_was_decided_again(script, add, database):
    one, two = add(2)
    batch = script(DECIDE, {"ids": [one, two], "action": "approve"})["batch"]
    script(DECIDE, {"ids": [one], "action": "refuse", "reason": "No."})
    assert script(UNDO, {"batch": batch})["undone"] == [two]
    assert stored(database, one)[0] == "refused"


def test_undo_spares_what_was_decided_again_alike(script, add, database):
    (number,) = add()
    batch = script(DECIDE, {"ids": [number], "action": "approve"})["batch"]
    script(DECIDE, {"ids": [number], "action": "refuse", "reason": "No."})
    script(DECIDE, {"ids": [number], "action": "approve"})
    assert script(UNDO, {"batch": batch})["undone"] == [] and stored(database, number)[0] == "approved"


@pytest.mark.parametrize("batch", [7, ["x"], {"a": 1}, "\ud800", "a\0b", "a b"])
def test_undo_of_a_bad_batch_is_refused(reader, batch):
    assert_error(reader.post(UNDO, json={"batch": batch}, headers=SCRIPT), 400, "bad_decision")


@pytest.mark.both_databases
def test_undo_does_not_bring_back_what_was_deleted(app, client, script, add, database):
    one, two = add(2)
    script(DECIDE, {"ids": [one, two], "action": "approve"})
    services(app).corrections.delete(one)
    assert script(UNDO, {})["undone"] == [two]
    with database.writing() as session:
        session.execute(delete(Review))
    assert_error(client.post(UNDO, json={"batch": "gone"}, headers=SCRIPT), 409, "nothing_to_undo")


# As plain forms


def test_form_decides_and_undoes(admin, add, database):
    one, two, three, four = add(4, meant=7)
    form = {"csrf_token": csrf_token(admin), "state": "received", "page": "1", "reason": ""}

    def send(**fields):
        answer = admin.post(DECIDE, data=form | fields, headers=BROWSER)
        assert answer.status_code == 303 and answer.headers["Location"].endswith("?state=received")
        return admin.get(answer.headers["Location"], headers=BROWSER).text

    assert "Approved: 1 correction." in send(approve=str(one))
    assert stored(database, one)[0] == "approved" and stored(database, two)[0] == "received"
    assert "Approved as no digit: 1 correction." in send(ids=[str(two)], relabel="10")
    send(ids=[str(three)], because=corrections.REASONS[2])
    assert stored(database, three) == ("refused", 7, corrections.REASONS[2])
    send(refuse=str(four), reason="A <b>cat</b>.")
    page = admin.get(f"{QUEUE}?state=refused", headers=BROWSER).text
    assert "A &lt;b&gt;cat&lt;/b&gt;." in page
    undone = admin.post(UNDO, data={"csrf_token": form["csrf_token"]}, headers=BROWSER)
    assert undone.status_code == 303 and stored(database, four)[0] == "received"
    assert "Taken back: 1 correction, now waiting again." in admin.get(QUEUE, headers=BROWSER).text


@pytest.mark.parametrize("reason", ["", " ", "x" * 301])
def test_form_refusal_without_a_good_reason_stays_in_the_form(admin, add, database, reason):
    number, other = add(2)
    form = {"csrf_token": csrf_token(admin), "refuse": str(number), "reason": reason}
    assert_error(admin.post(DECIDE, data=form), 400, "bad_reason")
    page = admin.post(DECIDE, data=form, headers=BROWSER)
    assert page.status_code == 400 and page.cache_control.no_store
    assert f'value="{number}" checked' in page.text and f'value="{other}" checked' not in page.text
    assert 'class="refusing" open' in page.text and f'value="{reason}" aria-invalid="true"' in page.text
    assert re.search(r'<p id="reason-error" class="field-error">A refusal needs a reason', page.text)
    assert stored(database, number)[0] == "received"


@pytest.mark.parametrize("fields", [{"approve": ""}, {"relabel": "3"}, {"because": "x"}, {"refuse": "", "reason": "x"}])
def test_form_without_any_chosen_is_refused(admin, add, fields):
    add()
    refused = admin.post(DECIDE, data={"csrf_token": csrf_token(admin)} | fields)
    assert "tick some first" in assert_error(refused, 400, "nothing_chosen")
    page = admin.post(DECIDE, data={"csrf_token": csrf_token(admin)} | fields, headers=BROWSER)
    assert page.status_code == 400 and 'id="queue"' in page.text and "tick some first" in page.text


@pytest.mark.parametrize("page", ["", "0", "x", "-1", "9" * 400])
def test_form_with_an_odd_page_leads_to_the_first(admin, add, page):
    (number,) = add()
    form = {"csrf_token": csrf_token(admin), "approve": str(number), "page": page}
    assert admin.post(DECIDE, data=form, headers=BROWSER).headers["Location"].endswith("?state=received")
