"""Runs that learn from corrections, as they are asked for and shown."""

import re
import time

import pytest
from sqlalchemy import delete

from model.presets import PRESETS, Config
from tests.conftest import TOKEN
from tests.support.administrator import BROWSER, csrf_token
from tests.support.requests import assert_error
from tests.support.versions import evidence
from tests.webapp.training.test_runs import keep_correction
from webapp.presentation.runs import REFERENCE_SECONDS
from webapp.services import services
from webapp.storage.schema import Comparison, Correction, Run, Version
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


def test_pages_say_how_many_hands_it_takes_until_some_are_held_out(client, database):
    def told():
        paths = "/admin/runs", "/admin/corrections"
        pages = (client.get(path, headers=SCRIPT | BROWSER).get_data(as_text=True) for path in paths)
        return [re.findall("Nothing is held out yet: corrections come from (.*?) hands", page) for page in pages]

    assert told() == [[], []]
    for hand in ("one", "two"):
        keep_correction(database, hand=hand)
    assert told() == [["2 of the 5"], ["2 of the 5"]]
    keep_correction(database, held_out=True)
    assert told() == [[], []]


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
    assert "lost 3 times; the last time it ended with code 1." in page and "v1 stays in service" in page
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
    hold.finish(made, b"", Comparison(champion_id=1, passed=False, evidence=evidence(passed=False).as_dict()))
    page = run_page(client, run_id)
    assert (
        "It waits.</strong> Worse in 1 of 4 checks; worst: 9s, −3.2 points." in page
        and f"/admin/versions/{made.id}" in page
    )
    assert services(app).active_model.classifier().version == "v1"


# Settings of a run's own


def test_retrain_settings_are_kept_answered_and_shown(client, database):
    answer = retrain(client, preset="basic", batch_size=64, learning_rate=0.5, schedule="constant")
    assert answer.status_code == 202
    run_id, found = answer.json["id"], client.get(answer.json["url"], headers=SCRIPT).json
    assert (found["batch_size"], found["learning_rate"], found["schedule"]) == (64, 0.5, "constant")
    with database.reading() as session:
        config = runs.config_of(session.get(Run, run_id))
    assert config == Config("basic", batch_size=64, learning_rate=0.5, schedule="constant")
    page = run_page(client, run_id)
    assert "<dt>Batch size</dt><dd>64</dd>" in page and "<dt>Learning rate</dt><dd>0.5, constant</dd>" in page


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"preset": "basic"}},
        {"json": {"preset": "basic", "batch_size": 0, "learning_rate": 0, "schedule": ""}},
        {"data": {"preset": "basic", "batch_size": "", "learning_rate": " ", "schedule": ""}},
    ],
)
def test_retrain_settings_left_out_are_the_presets(client, sent):
    found = client.post("/admin/retrain", headers=SCRIPT, **sent).json
    assert (found["batch_size"], found["learning_rate"], found["schedule"]) == (None, None, None)
    page = run_page(client, found["id"])
    assert "<dt>Batch size</dt><dd>384</dd>" in page and "<dt>Learning rate</dt><dd>0.015, one-cycle</dd>" in page


@pytest.mark.parametrize(
    "sent",
    [
        {"batch_size": -1}, {"batch_size": 1.5}, {"batch_size": None}, {"batch_size": True}, {"batch_size": 4097},
        {"learning_rate": -0.1}, {"learning_rate": "0.1"}, {"learning_rate": 10**400}, {"learning_rate": True},
        {"learning_rate": 1e-9}, {"schedule": "cosine"}, {"schedule": None}, {"schedule": 1},
        {"preset": "standard", "batch_size": 2}, {"preset": "basic", "processes": 8, "batch_size": 8},
    ],
)  # fmt: skip
def test_retrain_settings_out_of_range_are_refused(client, sent):
    assert_error(retrain(client, **sent), 400, "bad_settings")


def test_run_page_of_a_fine_tuning_has_the_rate_it_uses(client, database):
    keep_correction(database)
    run_id = retrain(client, corrections=True).json["id"]
    assert "<dt>Learning rate</dt><dd>0.0001, one-cycle</dd>" in run_page(client, run_id)
    with database.writing() as session:
        session.execute(delete(Correction))
    assert runs.claim(database, run_id) == 1
    assert "<dt>Learning rate</dt><dd>3e-06, one-cycle</dd>" in run_page(client, run_id), "nothing was left to learn"
    used = {"batch_size": 512, "learning_rate": 0.002, "schedule": "constant"}
    change(database, run_id, state="finished", version_id=1, ended_at=time.time())
    with database.writing() as session:
        version = session.get(Version, 1)
        version.card = version.card | {"settings": used}
    assert "<dt>Learning rate</dt><dd>0.002, constant</dd>" in run_page(client, run_id)


# Learning curves

EPOCH = {"epoch": 1, "train_loss": 0.25, "validation_loss": 0.5, "validation_accuracy": 0.875, "seconds": 2.5}


def test_run_curves_are_downloaded_as_csv(client, database):
    run_id = retrain(client).json["id"]
    change(database, run_id, history=[EPOCH | {"epoch": 0, "train_loss": None}, EPOCH])
    answer = client.get(f"/admin/runs/{run_id}.csv", headers=SCRIPT)
    assert answer.status_code == 200 and answer.mimetype == "text/csv"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="training-{run_id}.csv"'
    assert answer.text.splitlines() == [
        "epoch,train_loss,validation_loss,validation_accuracy,test_accuracy,seconds",
        "0,,0.5,0.875,,2.5",
        "1,0.25,0.5,0.875,,2.5",
    ]
    assert f'href="/admin/runs/{run_id}.csv"' in run_page(client, run_id)


def test_run_curves_are_the_administrators(client):
    assert client.get("/admin/runs/1.csv").status_code == 401
    assert_error(client.get("/admin/runs/1.csv", headers=SCRIPT), 404, "not_found")


def test_run_page_of_all_digits_shows_the_test_set(client, database):
    run_id = retrain(client, preset="original").json["id"]
    change(database, run_id, history=[EPOCH | {"epoch": 0, "test_accuracy": 0.1}, EPOCH | {"test_accuracy": 0.9615}])
    page = run_page(client, run_id)
    assert "Test accuracy" in page and "96.15" in page and "only the test digits are new to it" in page
    change(database, run_id, history=[EPOCH])
    assert "Test accuracy" not in run_page(client, run_id)


# The page of the trainings


def trainings(admin):
    return re.sub(r"\s+", " ", admin.get("/admin/runs", headers=BROWSER).text)


@pytest.mark.parametrize(
    ("typed", "field", "sentence"),
    [
        ({"epochs": "1001"}, "epochs", "Epochs must be from 1 to 1000, not 1001."),
        ({"epochs": "7", "seed": "two"}, "seed", "Seed must be a whole number."),
        ({"epochs": "7", "processes": "9"}, "processes", "The processes must be from 1 to 8, not 9."),
        ({"batch_size": "4097"}, "batch_size", "The batch size must be from 1 to 4096, not 4097."),
        ({"batch_size": "1.5"}, "batch_size", "The batch size must be a whole number."),
        ({"learning_rate": "2"}, "learning_rate", "The learning rate must be from 1e-08 to 1, not 2."),
        ({"learning_rate": "0,01"}, "learning_rate", "The learning rate must be a number."),
        ({"epochs": "7", "corrections": "1"}, "corrections", "There is no approved correction to learn from."),
    ],
)
def test_training_form_with_an_error_keeps_what_was_typed(admin, typed, field, sentence):
    form = {"csrf_token": csrf_token(admin), "preset": "basic", **typed}
    answer = admin.post("/admin/retrain", data=form, headers=BROWSER)
    page = re.sub(r"\s+", " ", answer.text)
    assert answer.status_code == 400 and f'<span id="{field}-error" class="field-error">{sentence}</span>' in page
    for name, value in typed.items():
        assert name == "corrections" or re.search(f'<input id="{name}"[^>]* value="{value}"', page)
    assert re.search(r'value="basic"[^>]* checked', page) and page.count(" checked") == 1
    assert (f'aria-describedby="{field}-hint {field}-error" aria-invalid="true"' in page) == (field != "corrections")


def test_training_form_during_another_training_leads_to_it(admin, database):
    run_id = retrain(admin).json["id"]
    form = {"csrf_token": csrf_token(admin), "preset": "basic", "epochs": "7"}
    answer = admin.post("/admin/retrain", data=form, headers=BROWSER)
    page = re.sub(r"\s+", " ", answer.text)
    assert answer.status_code == 409 and f"Training {run_id} is still going" in page and 'value="7"' in page
    assert f'href="/admin/runs/{run_id}" autofocus>Watch training {run_id}</a>' in page


def test_pulse_changes_when_a_training_begins_and_ends(admin, database):
    seen = [trainings(admin)]
    run_id = retrain(admin).json["id"]
    seen.append(trainings(admin))
    admin.post(f"/admin/runs/{run_id}/cancel", headers=SCRIPT)
    seen.append(trainings(admin))
    tokens = [re.search('data-token="([^"]*)"', page)[1] for page in seen]
    assert len(set(tokens)) == 3 and admin.get("/admin/runs?part=1").text == tokens[-1]


def test_training_form_says_how_long_presets_take_here(admin, database):
    assert set(REFERENCE_SECONDS) == set(PRESETS)
    assert (
        '<strong>Best</strong><span class="estimate">, <span class="takes">about an hour</span> on two cores</span>'
        in trainings(admin)
    )
    run_id = retrain(admin, preset="standard").json["id"]
    epochs = [{"epoch": n, "seconds": 10.0 * n, "validation_accuracy": 0.9} for n in range(3)]
    change(database, run_id, state="finished", started_at=100.0, attempt=1, ended_at=180.0, history=epochs)
    assert (
        '<strong>Good</strong><span class="estimate">, <span class="takes">about 6 minutes</span></span><br>'
        in trainings(admin)
    )
    run_id = retrain(admin, preset="standard", batch_size=4).json["id"]
    change(database, run_id, state="finished", started_at=100.0, attempt=1, ended_at=9000.0, history=epochs)
    assert '<span class="takes">about 6 minutes</span>' in trainings(admin), "not by a training of small batches"


def test_list_of_trainings_has_the_accuracy_of_the_version(admin, database):
    """Not the best of the training's epochs, which need not be the one kept."""
    run_id = retrain(admin).json["id"]
    epochs = [{"epoch": n, "seconds": 1.0, "validation_accuracy": 0.9968} for n in range(2)]
    change(database, run_id, state="finished", version_id=1, history=epochs)
    with database.writing() as session:
        session.get(Version, 1).validation_accuracy = 0.9954
    page = trainings(admin)
    assert "99.54" in page and "99.68" not in page


@pytest.mark.parametrize(
    ("ago", "lost"), [(41 * 60 + 5, "41 minutes of training are lost."), (None, "It has not begun.")]
)
def test_cancelling_names_what_is_lost(admin, database, ago, lost):
    run_id = retrain(admin).json["id"]
    if ago:
        runs.claim(database, run_id)
        change(database, run_id, started_at=time.time() - ago)
    page = run_page(admin, run_id)
    assert f"<strong>Cancel training {run_id}?</strong> {lost}" in page and 'popovertarget="cancelling"' in page
