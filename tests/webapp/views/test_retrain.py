"""Runs that learn from corrections, as they are asked for and shown."""

import time

import pytest

from tests.conftest import TOKEN
from tests.support.requests import assert_error
from tests.webapp.training.test_runs import keep_correction
from webapp.services import services
from webapp.storage.schema import Comparison, Run, Version
from webapp.training import runs

SCRIPT = {"Authorization": f"Bearer {TOKEN}"}


def retrain(client, **json):
    return client.post("/admin/retrain", headers=SCRIPT, json={"preset": "fine-tune", **json})


def run_page(client, run_id):
    headers = SCRIPT | {"Accept": "text/html"}
    return client.get(f"/admin/runs/{run_id}?part=1", headers=headers).get_data(as_text=True)


def change(database, run_id, **values):
    with database.writing() as session:
        row = session.get(Run, run_id)
        for name, value in values.items():
            setattr(row, name, value)


def test_retrain_with_corrections_learns_the_approved_ones(client, database):
    keep_correction(database)
    keep_correction(database, held_out=True)
    answer = retrain(client, corrections=True)
    assert answer.status_code == 202 and answer.json["corrections"] is True
    run_id = answer.json["id"]
    assert runs.claim(database, run_id) == 1
    assert "1 learnt from, 1 held out to compare by" in run_page(client, run_id)


@pytest.mark.parametrize("sent", [{}, {"json": {"corrections": False}}, {"data": {"corrections": "0"}}])
def test_retrain_without_being_asked_learns_no_corrections(client, database, sent):
    keep_correction(database)
    answer = client.post("/admin/retrain", headers=SCRIPT, **sent)
    assert answer.json["corrections"] is False


@pytest.mark.parametrize("sent", [2, -1, "yes", None, [], {}, [True], "1 "])
def test_retrain_corrections_are_wanted_or_not(client, database, sent):
    keep_correction(database)
    assert_error(retrain(client, corrections=sent), 400, "bad_settings")


@pytest.mark.parametrize("state", [{"state": "received"}, {"state": "refused"}, {"held_out": True}])
def test_retrain_without_anything_to_learn_is_refused(client, database, state):
    keep_correction(database, **state)
    assert_error(retrain(client, corrections=True), 400, "no_corrections")
    with database.reading() as session:
        assert session.get(Run, 1) is None


def test_run_page_waiting_for_another_attempt_says_so(client, database, app):
    run_id = retrain(client).json["id"]
    runs.claim(database, run_id)
    change(database, run_id, lease_until=time.time() - 1)
    services(app).jobs.expire_leases()
    page = run_page(client, run_id)
    assert "interrupted; waiting for a worker to go on" in page
    runs.claim(database, run_id)
    assert "2, 1 lost" in run_page(client, run_id)


def test_run_page_lost_for_good_says_why(client, database):
    run_id = retrain(client).json["id"]
    for _ in range(3):
        runs.claim(database, run_id)
        attempt = client.get(f"/admin/runs/{run_id}", headers=SCRIPT).json["attempt"]
        runs.fail_attempt(database, run_id, attempt, {"code": "exited", "status": 1})
    page = run_page(client, run_id)
    assert "lost 3 times; the last time it ended with code 1." in page and "v1 goes on answering" in page
    assert client.get(f"/admin/runs/{run_id}", headers=SCRIPT).json["state"] == "lost"


def test_run_page_shows_progress_of_the_comparison(client, database):
    run_id = retrain(client).json["id"]
    runs.claim(database, run_id)
    change(database, run_id, progress={"epoch": 1, "fraction": 1.0, "comparing": 0.25})
    page = run_page(client, run_id)
    assert "comparing with v1" in page and 'value="0.250"' in page


def test_run_page_version_that_waits_says_why(client, database, app):
    run_id = retrain(client).json["id"]
    hold = runs.Lease(database, run_id, runs.claim(database, run_id))
    made = Version(
        source="run", preset="basic", sha256="0", weights=b"", card={}, validation_accuracy=0.5, test_accuracy=None
    )
    hold.finish(made, b"", Comparison(champion_id=1, passed=False, evidence={"summary": "waits: it reads 9s worse"}))
    page = run_page(client, run_id)
    assert "It waits</strong>: it reads 9s worse" in page and f"/admin/versions/{made.id}" in page
    assert services(app).active_model.classifier().version == "v1"
