"""Removal of corrections by HTTP: the question before, what goes, what stays, and the audit."""

import re

import pytest
from sqlalchemy import select, update

from model.presets import Config
from tests.conftest import ON_SQLITE
from tests.support.administrator import BROWSER, SCRIPT, csrf_token
from tests.support.corrections import add_correction, digits
from tests.support.requests import ONE, assert_error
from tests.support.versions import add_version, compared, evidence, turned
from webapp.services import services
from webapp.storage.schema import Comparison, Correction, Removal, Review, Run, RunCorrection
from webapp.training import runs

QUEUE = "/admin/corrections"
ASK, REMOVE = f"{QUEUE}/removal", f"{QUEUE}/remove"


@pytest.fixture
def database(app):
    return services(app).database


@pytest.fixture
def add(app, database):
    def add(count=1, start=0, **how):
        return [
            add_correction(services(app).settings, database, image, digit, **how)
            for image, digit in digits(count, start)
        ]

    return add


@pytest.fixture
def ask(client):
    def ask(path, status=200, **json):
        response = client.post(path, json=json, headers=SCRIPT)
        assert response.status_code == status, response.text[:500]
        return response.get_json()

    return ask


def numbers(database):
    with database.reading() as session:
        return session.scalars(select(Correction.id).order_by(Correction.id)).all()


def audit(database):
    with database.reading() as session:
        columns = Removal.by, Removal.kind, Removal.number, Removal.counts
        return [tuple(row) for row in session.execute(select(*columns).order_by(Removal.id))]


def learnt_from(database, ids):
    """A version that learnt from these corrections, or was compared by those held out; returns its number."""
    run = runs.start(database, Config("basic", 1), "test", True)
    with database.writing() as session:
        session.add_all(RunCorrection(run_id=run.id, correction_id=each) for each in ids)
    version = add_version(database, turned(1))
    with database.writing() as session:
        row = session.get(Run, run.id)
        row.state, row.version_id, row.ended_at = "finished", version, 1.0
    return version


@pytest.mark.both_databases
def test_removal_takes_all_that_belongs_to_a_correction(ask, add, database):
    gone, stays = add(2)
    ask(f"{QUEUE}/decide", ids=[gone, stays], action="approve")
    version = learnt_from(database, [gone, stays])
    compared(database, version, evidence(corrections=[gone, stays]))
    preview = ask(ASK, ids=[gone, 99])
    assert preview == {"ids": [gone], "same_sender": 1, "duplicates": 0, "learnt": [f"v{version}"], "compared": []}
    assert numbers(database) == [gone, stays] and audit(database) == []
    assert ask(REMOVE, ids=[gone]) == {"removed": 1, "left": 0}
    with database.reading() as session:
        for table in (Review, RunCorrection):
            assert session.scalars(select(table.correction_id)).all() == [stays]
        pictures = session.get(Comparison, version).evidence["drawings"]["gained_pictures"]
    assert [each["number"] for each in pictures] == [stays]
    assert numbers(database) == [stays] and audit(database) == [("script", "corrections", None, {"corrections": 1})]
    assert ask(REMOVE, ids=[gone]) == {"removed": 0, "left": 0}, "to remove it again is no error"
    assert len(audit(database)) == 1, "and nothing to note"


@pytest.mark.parametrize(
    "words", ["http://localhost{receipt}", "{receipt}?a=b", "{secret}", " {secret}\n", "{number}", "#{number}"]
)
def test_correction_is_found_by_what_a_parent_has(client, ask, database, words):
    sent = client.post("/feedback", json=ONE | {"meant": 1}).get_json()
    (number,) = numbers(database)
    receipt = words.format(receipt=sent["receipt"], secret=sent["receipt"].rpartition("/")[2], number=number)
    assert ask(ASK, receipt=receipt)["ids"] == [number]
    assert ask(REMOVE, receipt=receipt) == {"removed": 1, "left": 0}
    assert client.get(sent["receipt"]).status_code == 404
    assert_error(client.post(REMOVE, json={"receipt": receipt}, headers=SCRIPT), 404, "no_correction")


@pytest.mark.both_databases
def test_all_from_the_same_browser_go_and_no_other(ask, add, database):
    mine = add(3, address="192.0.2.1")
    other = add(1, start=5, address="192.0.2.2")
    assert ask(ASK, ids=mine[:1])["same_sender"] == 3
    assert ask(REMOVE, ids=mine[:1], same_sender=True) == {"removed": 3, "left": 0}
    assert numbers(database) == other and audit(database) == [("script", "corrections", None, {"corrections": 3})]


@pytest.mark.both_databases
@pytest.mark.parametrize(("imported", "sent"), [(True, 3), (False, 1)])
def test_sources_are_followed_for_imports_alone(ask, add, database, imported, sent):
    """Of a drawing sent to a release before browsers were known, the source is the address: perhaps a school's."""
    mine = add(3, address="192.0.2.1")
    with database.writing() as session:
        session.execute(update(Correction).values(browser=None, **{"version_id": None} if imported else {}))
    assert ask(ASK, ids=mine[:1])["same_sender"] == sent
    assert ask(REMOVE, ids=mine[:1], same_sender=True) == {"removed": sent, "left": 0}


@pytest.mark.both_databases
def test_duplicates_that_stay_wait_for_review_again(ask, add, database):
    first, second, third = (add(1, address=f"192.0.2.{each}")[0] for each in (1, 2, 3))
    ask(f"{QUEUE}/decide", ids=[first], action="approve")
    assert ask(ASK, ids=[first, third])["duplicates"] == 1
    assert ask(REMOVE, ids=[third, first])["removed"] == 2
    with database.reading() as session:
        (row,) = session.scalars(select(Correction))
        assert (row.id, row.duplicate_of, row.state) == (second, None, "received")


def test_large_removals_go_in_parts_and_stand_in_one_line_of_the_audit(ask, add, database, monkeypatch):
    monkeypatch.setattr("webapp.removal.corrections.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("webapp.views.removals.MOST_AT_ONCE", 4)
    mine = add(5, address="192.0.2.1")
    assert ask(REMOVE, ids=mine[:1], same_sender=True) == {"removed": 4, "left": 1}
    assert audit(database) == [("script", "corrections", None, {"corrections": 4})]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 400, "nothing_chosen"),
        ({"ids": []}, 400, "nothing_chosen"),
        ({"ids": ["x"]}, 400, "bad_removal"),
        ({"ids": [0]}, 400, "bad_removal"),
        ({"ids": [2**31]}, 400, "bad_removal"),
        ({"ids": 1}, 400, "bad_removal"),
        ({"ids": list(range(1, 1002))}, 400, "bad_removal"),
        ({"ids": [1], "same_sender": 1}, 400, "bad_removal"),
        ({"ids": [1], "all": True}, 400, "unknown_field"),
        ({"ids": [1], "receipt": "1"}, 400, "bad_removal"),
        ({"ids": [1], "receipt": ""}, 400, "bad_removal"),
        ({"receipt": 7}, 400, "bad_removal"),
        ({"receipt": ""}, 400, "nothing_chosen"),
        ({"receipt": "7" * 501}, 400, "bad_removal"),
        ({"receipt": "no such thing"}, 404, "no_correction"),
        ({"receipt": "9999999999"}, 404, "no_correction"),
        ({"receipt": "0" * 40}, 404, "no_correction"),
    ],
)
def test_bad_requests_change_nothing(client, add, database, sent, status, code):
    before = add(1)
    for path in (ASK, REMOVE):
        assert_error(client.post(path, json=sent, headers=SCRIPT), status, code)
    assert numbers(database) == before


def test_page_asks_says_what_stays_and_then_removes(admin, add, database):
    gone, stays = add(2, address="192.0.2.1")
    version = learnt_from(database, [gone])
    queue = admin.get(QUEUE, headers=BROWSER).text
    assert f'name="remove" formaction="{ASK}"' in queue and 'name="receipt"' in queue
    form = {"csrf_token": csrf_token(admin), "state": "received", "page": "1", "reason": "", "remove": "", "ids": gone}
    page = admin.post(ASK, data=form, headers=BROWSER)
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text))
    assert page.status_code == 200 and page.cache_control.no_store and "Remove this drawing?" in words
    assert (
        f"v{version} learnt from it and keeps what was learnt" in words
        and "Remove all 2 from the same browser" in words
    )
    assert numbers(database) == [gone, stays]
    answer = admin.post(
        REMOVE, data={"csrf_token": form["csrf_token"], "ids": gone, "state": "refused"}, headers=BROWSER
    )
    assert answer.status_code == 303 and answer.location == f"{QUEUE}?state=refused"
    assert "Removed: 1 correction." in admin.get(answer.location, headers=BROWSER).text
    assert numbers(database) == [stays]
    assert audit(database) == [("administrator", "corrections", None, {"corrections": 1})]


def test_page_shows_what_was_wrong_beside_the_form(admin, add):
    add(1)
    form = {"csrf_token": csrf_token(admin), "state": "received"}
    page = admin.post(ASK, data=form | {"receipt": "nowhere"}, headers=BROWSER)
    assert page.status_code == 404 and 'id="receipt-error"' in page.text and 'value="nowhere"' not in page.text
    page = admin.post(ASK, data=form | {"remove": ""}, headers=BROWSER)
    assert page.status_code == 400 and "No correction is chosen" in page.text


def test_form_without_token_removes_nothing(admin, add, database):
    before = add(1)
    assert admin.post(REMOVE, data={"ids": before}, headers=BROWSER).status_code == 400
    assert numbers(database) == before


def test_audit_keeps_nothing_of_what_was_removed(client, ask, database):
    sent = client.post("/feedback", json=ONE | {"meant": 1}).get_json()
    ask(REMOVE, receipt=sent["receipt"])
    listed = client.get("/admin/removals", headers=SCRIPT).get_json()
    (entry,) = listed["removals"]
    assert entry.pop("at") > 0
    assert entry == {"by": "script", "kind": "corrections", "number": None, "counts": {"corrections": 1}}
    page = client.get("/admin/removals", headers=SCRIPT | BROWSER).text
    assert "1 correction" in page and sent["receipt"] not in page


@ON_SQLITE
def test_removed_pictures_are_nowhere_in_the_files(ask, add, database):
    """SQLite leaves deleted rows in free pages and its log, unless it is told to overwrite them."""
    (number,) = add(1)
    with database.reading() as session:
        image, picture = session.execute(select(Correction.digit_image, Correction.picture)).one()

    def readable():
        found = b"".join(file.read_bytes() for file in database.files if file.exists())
        return image in found or picture in found

    assert readable()
    ask(REMOVE, ids=[number])
    assert not readable()
