"""Versions: putting one into service and going back, the list of that, downloads, and a version's page."""

import json
import re
import threading

import numpy as np
import pytest
from sqlalchemy import delete

from model.data import mnist
from model.evaluation.metrics import wilson_interval
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.network.weights import deserialize
from model.task import ALL_LEARNT, DATA_SHA256
from tests.conftest import ON_POSTGRESQL_UNDER_STRESS
from tests.support.administrator import BROWSER, SCRIPT, csrf_token
from tests.support.challengers import DAMAGED
from tests.support.requests import ONE, assert_error
from tests.support.versions import (
    add_version,
    compared,
    damaged,
    evidence,
    figures,
    measured,
    promote,
    promotions,
    turned,
)
from webapp.services import services
from webapp.storage.schema import Artifact, Promotion, Version


@pytest.fixture
def database(app):
    return services(app).database


@pytest.fixture
def challenger(database):
    """A version that waits, v2."""
    return add_version(database, turned(1), validation_accuracy=0.1)


def changes(client, headers=SCRIPT):
    """The list of promotions, the first one first: from, to, by and why."""
    found = client.get("/admin/promotions", headers=headers).get_json()["promotions"]
    return [(one["from"], one["to"], one["by"], one["why"]) for one in reversed(found)]


def answering(client):
    return client.post("/predict", json=ONE).get_json()["version"]


# Promoting by hand


@pytest.mark.both_databases
def test_promotion_by_hand_is_listed_with_its_reason(app, admin, database, challenger):
    form = {"csrf_token": csrf_token(admin), "reason": "  reads\r\nour  ones "}
    path = f"/admin/versions/{challenger}/promote"
    assert admin.post(path, data=form).get_json() == {"version": "v2"}
    assert changes(admin, {})[-1] == ("v1", "v2", "administrator", "reads our ones")
    assert answering(admin) == "v2"
    assert admin.post(path, data=form).get_json() == {"version": "v2"}  # it answers already
    assert promotions(database) == [1, 2]
    response = admin.post("/admin/versions/1/promote", data=form, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/admin")
    assert promotions(database) == [1, 2, 1]


def test_promotion_by_a_script_is_listed(client, challenger):
    found = client.post(f"/admin/versions/{challenger}/promote", json={"reason": "x" * 500}, headers=SCRIPT)
    assert found.get_json() == {"version": "v2"}
    assert changes(client)[-1] == ("v1", "v2", "script", "x" * 500)


BAD_REASONS = [None, "", " ", "\n\t\r", "\x00\x07", "x" * 501, 1, True, [], ["why"], {"reason": "why"}, "\ud800"]


def test_promotion_without_a_reason_is_refused(client, database, challenger):
    path = f"/admin/versions/{challenger}/promote"
    for reason in BAD_REASONS:
        assert "why" in assert_error(client.post(path, json={"reason": reason}, headers=SCRIPT), 400, "no_reason")
        if isinstance(reason, str) and reason.isprintable():
            assert_error(client.post(path, data={"reason": reason}, headers=SCRIPT), 400, "no_reason")
    assert_error(client.post(path, headers=SCRIPT), 400, "no_reason")
    assert promotions(database) == [1]


@pytest.mark.parametrize("damage", DAMAGED)
def test_promotion_of_damaged_weights_is_refused(client, database, damage):
    make, told = DAMAGED[damage]
    number = add_version(database, make())
    refused = client.post(f"/admin/versions/{number}/promote", json={"reason": "I want it"}, headers=SCRIPT)
    assert told in assert_error(refused, 409, "unusable_version")
    assert promotions(database) == [1] and answering(client) == "v1"
    assert client.get("/readyz").get_json()["checks"]["model"] == "ok, v1"


# Rolling back


@pytest.mark.both_databases
def test_roll_back_takes_one_click_and_never_goes_forward(admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    promote(database, challenger)
    form = {"csrf_token": csrf_token(admin)}
    response = admin.post("/admin/versions/1/roll-back", data=form, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/admin")
    assert changes(admin, {})[-1] == ("v2", "v1", "administrator", "rolled back from v2")
    assert answering(admin) == "v1"
    assert admin.post("/admin/versions/1/roll-back", data=form).get_json() == {"version": "v1"}  # clicked twice
    path = f"/admin/versions/{challenger}/roll-back"
    assert "put v2 in service" in assert_error(admin.post(path, data=form), 409, "not_the_version_before")
    page = admin.post(path, data=form, headers=BROWSER)
    assert page.status_code == 409 and "put v2 in service with a reason" in page.text and 'id="promote"' in page.text
    assert promotions(database) == [1, challenger, 1]
    for path in ("/admin/versions", f"/admin/versions/{challenger}"):
        assert "roll-back" not in admin.get(path, headers=BROWSER).text


@pytest.mark.parametrize("passed", [True, False, None])
def test_roll_back_is_offered_to_the_version_before_unless_it_had_failed(admin, database, challenger, passed):
    if passed is not None:
        compared(database, challenger, evidence(passed=passed))
    promote(database, challenger)
    promote(database, add_version(database, turned(2)))
    offered = passed is not False
    for path in ("/admin/versions", f"/admin/versions/{challenger}"):
        page = admin.get(path, headers=BROWSER).text
        assert (f'formaction="/admin/versions/{challenger}/roll-back"' in page) == offered
        assert "/admin/versions/1/roll-back" not in page
    answer = admin.post(f"/admin/versions/{challenger}/roll-back", data={"csrf_token": csrf_token(admin)})
    assert answer.status_code == (200 if offered else 409)


def test_promotion_against_the_evidence_is_worded_so(admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    page = admin.get(f"/admin/versions/{challenger}", headers=BROWSER).text
    assert '<button class="button button--danger">Put v2 in service although it failed 1 check</button>' in page
    form = {"csrf_token": csrf_token(admin), "reason": "<b>all the same</b>"}
    admin.post(f"/admin/versions/{challenger}/promote", data=form)
    admin.post("/admin/versions/1/roll-back", data=form | {"reason": ""}, headers=BROWSER)
    admin.post("/admin/versions/1/roll-back", data={"csrf_token": form["csrf_token"]})
    assert "despite failed checks" in admin.get("/admin", headers=BROWSER).text
    page = admin.get("/admin/promotions", headers=BROWSER).text
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in page.split('<tr id="promotion-')[1:]]
    assert "v2 → to v1 rolled back administrator rolled back from v2" in rows[0]
    assert (
        "v1 → to v2 despite failed checks administrator v2 had failed 1 check: &lt;b&gt;all the same&lt;/b&gt;"
        in rows[1]
    )
    assert "v1 first set-up it comes with this release" in rows[2]


def test_promotion_form_refused_keeps_what_was_typed(admin, database, challenger):
    form = {"csrf_token": csrf_token(admin), "reason": "<x>" * 200}
    page = admin.post(f"/admin/versions/{challenger}/promote", data=form, headers=BROWSER)
    assert page.status_code == 400 and page.cache_control.no_store
    assert f">{'&lt;x&gt;' * 200}</textarea>" in page.text
    assert re.search(r'<span id="reason-error" class="field-error">Please say why', page.text)
    assert 'aria-describedby="reason-error reason-hint" aria-invalid="true"' in page.text
    number = add_version(database, damaged(SHIPPED.read_bytes()))
    page = admin.post(f"/admin/versions/{number}/promote", data=form | {"reason": "my own"}, headers=BROWSER)
    assert page.status_code == 409 and ">my own</textarea>" in page.text and "cannot be put into service" in page.text
    assert promotions(database) == [1]


def test_roll_back_to_one_never_in_service_is_refused(client, database, challenger):
    response = client.post(f"/admin/versions/{challenger}/roll-back", headers=SCRIPT)
    assert "v2" in assert_error(response, 409, "never_in_service")
    assert client.post("/admin/versions/1/roll-back", headers=SCRIPT).get_json() == {"version": "v1"}
    assert promotions(database) == [1]  # it answers already


def test_roll_back_to_a_damaged_version_is_refused(client, database, challenger):
    number = add_version(database, damaged(SHIPPED.read_bytes()))
    promote(database, number)
    promote(database, challenger)
    assert_error(client.post(f"/admin/versions/{number}/roll-back", headers=SCRIPT), 409, "unusable_version")
    assert answering(client) == "v2"


def test_roll_back_from_a_damaged_champion_succeeds(client, database):
    promote(database, add_version(database, damaged(SHIPPED.read_bytes())))
    assert client.post("/admin/versions/1/roll-back", headers=SCRIPT).get_json() == {"version": "v1"}
    assert answering(client) == "v1" and changes(client)[-1][:2] == ("v2", "v1")


# The list


@ON_POSTGRESQL_UNDER_STRESS
def test_promotions_at_once_leave_a_list_without_gaps(app, database):
    numbers = [1, *(add_version(database, turned(by)) for by in (1, 2, 3))]
    ready = threading.Barrier(len(numbers))

    def insist(number):
        ready.wait()
        for _ in range(5):
            app.test_client().post(f"/admin/versions/{number}/promote", json={"reason": "mine"}, headers=SCRIPT)

    threads = [threading.Thread(target=insist, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = changes(app.test_client())
    assert len(found) > len(numbers) - 1
    assert [one[0] for one in found] == [None, *(one[1] for one in found[:-1])]  # each from where the last one led
    assert all(one[0] != one[1] for one in found)


@pytest.mark.both_databases
def test_promotions_are_listed_page_by_page(admin, database, challenger):
    for number in (challenger, 1) * 30:
        promote(database, number)
    first = admin.get("/admin/promotions").get_json()
    assert len(first["promotions"]) == 50 and first["promotions"][0]["to"] == "v1"
    second = admin.get(first["next"]).get_json()
    assert len(second["promotions"]) == 11 and second["next"] is None
    assert second["promotions"][-1] | {"at": None} == {
        "at": None, "from": None, "to": "v1", "by": "set-up", "why": second["promotions"][-1]["why"]
    }  # fmt: skip
    times = [one["at"] for one in first["promotions"] + second["promotions"]]
    assert times == sorted(times, reverse=True)
    page = admin.get("/admin/promotions", headers=BROWSER).text
    assert page.count('id="promotion-') == 50 and "Older ones" in page
    assert admin.get(first["next"], headers=BROWSER).text.count('id="promotion-') == 11


BAD_PLACES = ["0", "-1", "x", "", "\u0661", str(2**31), str(2**63), "9" * 400, "-" + "9" * 400]


@pytest.mark.parametrize("listed", ["promotions", "versions"])
def test_list_from_any_place_is_answered_or_refused(reader, listed):
    for headers in (SCRIPT, BROWSER | SCRIPT):
        for before in ("1", "17", str(2**31 - 1)):
            assert reader.get(f"/admin/{listed}?before={before}", headers=headers).status_code == 200
        for before in BAD_PLACES:
            assert reader.get(f"/admin/{listed}?before={before}", headers=headers).status_code == 400
    assert_error(reader.get(f"/admin/{listed}?before=x", headers=SCRIPT), 400, "bad_page")


def test_versions_are_listed_page_by_page(admin, database, challenger):
    for _ in range(50):
        last = add_version(database, b"of no matter here")
    compared(database, challenger, evidence(passed=False))
    first = admin.get("/admin/versions").get_json()
    assert [one["version"] for one in first["versions"]] == [f"v{number}" for number in range(last, 2, -1)]
    second = admin.get(first["next"]).get_json()
    assert [one["version"] for one in second["versions"]] == ["v2", "v1"] and second["next"] is None
    waiting, champion = second["versions"]
    assert (waiting["passed"], waiting["summary"]) == (False, "waits: reads 9s 3.2 points worse")
    assert (champion["passed"], champion["answers"], champion["has_served"]) == (None, True, True)
    assert admin.get("/admin/versions", headers=BROWSER).text.count('id="version-') == 50
    older = admin.get(first["next"], headers=BROWSER).text
    assert older.count('id="version-') == 2 and "Worse in 1 of 4 checks; worst: 9s" in older and "in service<" in older


def test_versions_list_offers_promotion_and_roll_back(admin, database, challenger):
    other = add_version(database, turned(2))
    promote(database, challenger)
    page = admin.get("/admin/versions", headers=BROWSER).text
    assert 'formaction="/admin/versions/1/roll-back"' in page
    assert f'href="/admin/versions/{other}#promote"' in page and 'href="/admin/versions/1"' in page
    assert f'formaction="/admin/versions/{challenger}/roll-back"' not in page  # it answers
    assert "to see what happens" in admin.get("/admin", headers=BROWSER).text


def test_versions_are_judged_by_the_gate_digits(admin, database, challenger):
    later = add_version(database, turned(2))
    with database.writing() as session:
        session.get(Version, later).card = {"gate_accuracy": 0.9966, "gate_unseen": True, "test_accuracy": 0.9953}
        session.get(Version, later).test_accuracy = 0.9953
        session.get(Version, challenger).validation_accuracy = 0.9968
    page = admin.get("/admin/versions", headers=BROWSER).text
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in page.split('<tr id="version-')[1:]]
    assert "99.66&nbsp;% (99.46 to 99.79)" in rows[0] and "validation" not in rows[0]
    assert "99.68&nbsp;% (99.48 to 99.80) validation" in rows[1]
    assert "99.53" not in page and "Test digits" not in page
    page = admin.get(f"/admin/versions/{later}", headers=BROWSER).text
    assert "(99.46 to 99.79)</span>, never learnt from</dd>" in page and "learnt from some" not in page
    assert "<dt>Gate digits</dt>" in page and "99.66&nbsp;%" in page and page.count("99.53") == 1
    evidence, _, last = page.partition('id="test"')
    assert "99.53" not in evidence and "(99.38 to 99.65)" in last
    assert admin.get("/admin/versions").get_json()["versions"][0]["gate_accuracy"] == 0.9966
    assert admin.get(f"/admin/versions/{challenger}", headers=BROWSER).text.count("<dt>Validation digits</dt>") == 1


# Downloads


def test_weights_are_downloaded_as_they_are(tmp_path, client, database, challenger):
    response = client.get(f"/admin/versions/{challenger}/weights", headers=SCRIPT)
    assert response.data == turned(1)
    assert response.headers["Content-Disposition"] == "attachment; filename=v2.safetensors"
    assert response.mimetype == "application/octet-stream"
    assert deserialize(response.data)[1].data_sha256 == DATA_SHA256
    again = client.get(
        f"/admin/versions/{challenger}/weights", headers=SCRIPT | {"If-None-Match": response.headers["ETag"]}
    )
    assert again.status_code == 304 and not again.data


def test_card_is_downloaded_as_json(client):
    found = client.get("/admin/versions/1/card", headers=SCRIPT).get_json()
    shipped = json.loads(json.dumps(weights.read_card(SHIPPED.read_bytes()).as_dict()))
    assert {name: found[name] for name in shipped} == shipped
    assert (found["version"], found["sha256"]) == ("v1", weights.digest(SHIPPED.read_bytes()))
    assert found["intervals"]["test_accuracy"] == list(wilson_interval(shipped["test_accuracy"], 10_000))
    assert found["measured"] == {} and found["evidence"] is None


def test_card_has_what_is_measured_and_the_evidence(app, admin, database, challenger):
    measured(database, challenger, figures(accuracy=0.97, area=0.9))
    pack = np.eye(10, dtype=np.float16)[(mnist.read_test()[1] + 1) % 10].tobytes()
    with database.writing() as session:
        session.add(Artifact(version_id=challenger, kind="predictions", fraction=1.0, result=pack))
    compared(database, challenger, evidence(passed=False))
    found = admin.get(f"/admin/versions/{challenger}/card").get_json()
    assert found["measured"]["error"] == 1 and found["measured"]["per_digit"][9]["accuracy"] == 0
    assert found["measured"]["calibration_error"] == 0.0123 and found["measured"]["coverage_reached"] == 0.99
    assert found["evidence"]["champion"] == "v1" and not found["evidence"]["passed"]
    text = admin.get(f"/admin/versions/{challenger}/card.md")
    assert text.mimetype == "text/markdown" and text.headers["Content-Disposition"] == "attachment; filename=v2.md"
    for words in ("# Model card: v2", "## Ethical considerations", "100.00 % (99.96 to 100.00)", "| 9 | 1,009 |"):
        assert words in text.text
    assert "Compared with v1: did not pass; waits: reads 9s 3.2 points worse" in text.text
    page = admin.get(f"/admin/versions/{challenger}", headers=BROWSER).text
    assert "Digit by digit" in page and "Card, Markdown" in page


def test_version_page_says_what_the_version_has_learnt_from(admin, database, challenger):
    with database.writing() as session:
        session.get(Version, challenger).card = {
            "split": ALL_LEARNT,
            "gate_accuracy": 0.9966,
            "created": "2026-11-23T01:50:46+01:00",
        }
    page = admin.get(f"/admin/versions/{challenger}", headers=BROWSER).text
    assert page.count("(99.46 to 99.79)</span>, learnt from, so no measure</dd>") == 2
    assert '<dt>Made</dt><dd><time datetime="2026-11-23T00:50:46Z">' in page


def test_version_page_shows_any_card(admin, database, challenger):
    with database.writing() as session:
        version = session.get(Version, challenger)
        version.card = {
            "command": "python -m model train --preset <seed>",
            "corrections": {"count": 51, "held_out": 12, "sha256": "c0ffee"},
            "hidden": [64, 32],
            "created": "yesterday",
            "threads": 2,
            "a_field_of_later": {"deeply": [{"nested": None}, 0.25]},
        }
    page = admin.get(f"/admin/versions/{challenger}", headers=BROWSER).text
    for words in (
        "python -m model train --preset &lt;seed&gt;",
        "python -m webapp replay v2",
        "count 51, held out 12, sha256 c0ffee",
        "64, 32",
        "<dt>Made</dt><dd>yesterday</dd>",
        "A field of later",
        'href="/admin/versions/2/weights"',
        'href="/admin/versions/2/card"',
    ):
        assert words in page


# A version's page: its strength


def test_version_page_waits_for_the_strength(admin):
    page = admin.get("/admin/versions/1", headers=BROWSER).text
    assert 'data-state="measuring"' in page and "Measuring v1" in page and 'value="0.000"' in page
    assert ">in service</span>" in page and 'id="promote"' not in page
    assert "hesitant mass" not in page and "A picture is refused above" in page


def test_version_page_shows_progress_of_measuring(app, admin):
    measured(services(app).database, 1, fraction=0.42, figures=None)
    part = admin.get("/admin/versions/1?part=1", headers=BROWSER).text
    assert 'value="0.420"' in part and "<html" not in part and "csrf" not in part
    assert "is the worker running" not in part
    with services(app).database.writing() as session:
        session.get(Artifact, (1, "strength")).updated_at -= 20
    assert "is the worker running" in admin.get("/admin/versions/1?part=1", headers=BROWSER).text


def test_version_page_shows_the_strength_of_the_version_alone(app, admin):
    database = services(app).database
    number = add_version(database, turned(1))
    measured(database, 1, figures=figures(accuracy=0.9432, area=0.9))
    measured(database, number, figures=figures(accuracy=0.8765))
    page = admin.get(f"/admin/versions/{number}", headers=BROWSER).text
    assert 'data-state="measured"' in page and "not in service" in page
    assert f'action="/admin/versions/{number}/promote"' in page
    for words in ("1.23", "curve-version", "Scribbles", "refuses nothing"):
        assert words in page
    assert "87.65" not in page and "94.32" not in page, "the test digits decide nothing"
    assert "90.00" not in page and "curve-champion" not in page, "they are no comparison"
    alone = admin.get("/admin/versions/1", headers=BROWSER).text
    assert "90.00" in alone and "curve-version" in alone
    assert "refuses nothing" not in alone


def test_version_page_without_a_champion_names_none(app, admin):
    with services(app).database.writing() as session:
        session.execute(delete(Promotion))
    page = admin.get("/admin/versions/1", headers=BROWSER).text
    assert ">in service</span>" not in page and "not in service" in page
    assert 'action="/admin/versions/1/promote"' in page


def test_version_page_says_why_it_was_not_measured(app, admin):
    number = add_version(services(app).database, turned(1))
    measured(services(app).database, number, fraction=0.5, figures=None, error="MNIST is <gone>.")
    measured(services(app).database, 1)
    page = admin.get(f"/admin/versions/{number}", headers=BROWSER).text
    assert f'role="status">The robustness of v{number} could not be measured.' in page
    assert 'data-state="failed"' in page and "MNIST is &lt;gone&gt;." in page


def test_version_for_a_script_has_its_figures(app, client):
    measured(services(app).database, 1)
    found = client.get("/admin/versions/1", headers=SCRIPT).get_json()
    assert found["version"] == "v1" and found["answers"] and found["card"]["data_sha256"] == DATA_SHA256
    assert found["strength"] == {"fraction": 1.0, "figures": figures(), "error": None}
