"""The id of a request is on every line that is logged on the way to its answer, and of the work that it has started."""

import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
from sqlalchemy import update

from tests.conftest import TOKEN
from tests.support.corrections import digits
from tests.support.servers import wait_until
from tests.support.versions import computed
from tests.webapp.corrections.test_digit_files import npz
from webapp.corrections import digit_files
from webapp.services import services
from webapp.settings import ROOT
from webapp.storage.schema import Import, Run

REQUEST = {"X-Request-ID": "a-request-17", "Authorization": f"Bearer {TOKEN}"}


@contextmanager
def worker(settings, log):
    """A worker that logs to a file."""
    environ = {"DATA_DIR": settings.data_dir, "MNIST_DIR": settings.mnist_dir, "DATABASE_URL": settings.database_url}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "webapp", "worker"], cwd=ROOT, env=os.environ | environ, stderr=file
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_request_is_named_by_the_lines_of_the_run_and_the_import_that_it_started(app, settings, tmp_path, monkeypatch):
    """The run is one of another release, and fails in no time."""
    client, database = app.test_client(), services(app).database
    computed(database)
    answer = client.post("/admin/retrain", json={"preset": "basic"}, headers=REQUEST)
    assert (answer.status_code, answer.get_json()["request_id"]) == (202, answer.headers["X-Request-ID"])
    run_id = answer.get_json()["id"]
    assert client.get(f"/admin/runs/{run_id}", headers=REQUEST).get_json()["request_id"] == "a-request-17"
    images, labels = zip(*digits(2), strict=True)
    monkeypatch.setattr(digit_files, "SHORT_DIGITS", 1)
    file = io.BytesIO(npz(images=np.stack(images), labels=np.array(labels)))
    sent = {"file": (file, "digits.npz")}
    other = REQUEST | {"X-Request-ID": "a-request-18"}
    assert client.post("/admin/corrections/import", data=sent, headers=other).status_code == 202
    import_id = 1
    with database.writing() as session:
        session.execute(update(Run).values(preset="of another release"))

    def have_ended():
        with database.reading() as session:
            return session.get(Run, run_id).ended_at and session.get(Import, import_id).state == "finished"

    log = tmp_path / "log"
    with worker(settings, log):
        wait_until(have_ended)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for work, number, request in (("run", run_id, "a-request-17"), ("import", import_id, "a-request-18")):
        by_worker = [line for line in lines if f"of {work} {number}" in line["message"] and work not in line]
        by_child = [line for line in lines if line.get(work) == number]
        assert by_worker and by_child
        assert {line.get("request") for line in by_worker + by_child} == {request}
    others = [line["message"] for line in lines if "request" not in line]
    assert "the worker is ready" in others and "the worker has ended" in others


def test_run_of_an_earlier_release_has_no_request(app, client):
    with services(app).database.writing() as session:
        session.add(Run(state="finished", preset="basic", epochs=1, seed=0, requested_by="script"))
    answer = client.get("/admin/runs/1", headers=REQUEST)
    assert answer.status_code == 200 and answer.get_json()["request_id"] is None
