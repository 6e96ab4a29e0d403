"""Runs that several processes train: asked for, shown, and trained by a real worker whose processes are killed."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.network.weights import deserialize
from model.presets import Config
from tests.support.administrator import csrf_token, sign_in
from tests.support.requests import assert_error
from tests.webapp.views.test_retrain import retrain, run_page
from tests.webapp.worker.test_worker import Installation, gone, wait_until
from webapp.settings import ROOT
from webapp.storage.schema import Run, Version
from webapp.views import runs

LONG = Config("basic", 1000, processes=2)


@pytest.mark.parametrize("sent, processes", [(0, 1), (1, 1), (8, 8)])
def test_run_has_the_processes_asked_for(client, database, sent, processes):
    answer = retrain(client, processes=sent)
    assert (answer.status_code, answer.json["processes"]) == (202, processes)
    with database.reading() as session:
        assert session.get(Run, answer.json["id"]).processes == processes
    assert ("<dt>Processes</dt><dd>8</dd>" in run_page(client, answer.json["id"])) == (processes == 8)


@pytest.mark.parametrize("sent", [9, -1, "2", 1.5, True, None, []])
def test_run_processes_out_of_range_are_refused(client, database, sent):
    assert_error(retrain(client, processes=sent), 400, "bad_settings")
    with database.reading() as session:
        assert session.get(Run, 1) is None


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_run_form_offers_the_machines_processes(client, settings, monkeypatch, cores):
    monkeypatch.setattr(runs, "cores", lambda: cores)
    most = min(cores, 8)
    assert sign_in(client).status_code == 303
    form = client.get("/admin/runs").get_data(as_text=True)
    assert (f'name="processes" type="number" min="1" max="{most}"' in form) == (cores > 1)
    token = csrf_token(client)
    assert client.post("/admin/retrain", data={"csrf_token": token, "processes": "2"}).json["processes"] == 2
    elsewhere = replace(settings, database_url="postgresql://a-machine/with/a/worker")
    assert runs.useful_processes(elsewhere) == 8


class Several(Installation):
    """A worker whose runs two processes train."""

    def pair(self, run_id):
        """The process ids of both."""
        first = self.child(run_id)
        return first, wait_until(lambda: children(first))[0]

    def moving(self, run_id, after=0):
        """Waits until an attempt after that one has come further than to a checkpoint; returns it."""
        epochs = len(self.run(run_id).history) + 1

        def moved():
            run = self.run(run_id)
            return run.attempt > after and len(run.history) > epochs and self.checkpoint(run_id)

        wait_until(moved, 90)
        return self.run(run_id).attempt

    def network(self, version_id):
        with self.database.reading() as session:
            return deserialize(session.get(Version, version_id).weights)


def children(process):
    threads = Path(f"/proc/{process}/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


@pytest.fixture
def several(settings):
    installation = Several(settings)
    yield installation
    installation.close()


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_run_that_loses_a_process_goes_on_and_is_cancelled(several):
    run = several.jobs.start(LONG, "test")
    attempt = several.moving(run.id)
    pair = several.pair(run.id)
    os.kill(pair[1], signal.SIGKILL)
    epochs = len(several.run(run.id).history)
    several.moving(run.id, attempt)
    assert all(map(gone, pair))
    assert several.run(run.id).failed_attempts >= 1 and len(several.run(run.id).history) > epochs
    pair = several.pair(run.id)
    several.jobs.cancel(run.id, "test")
    assert several.ended(run.id).state == "cancelled"
    wait_until(lambda: all(map(gone, pair)))


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", [0, 1])
def test_run_broken_ends_like_an_unbroken_one(several, settings, which):
    config = Config("basic", 8, 11, processes=2)
    unbroken = several.ended(several.jobs.start(config, "test").id, 120)
    started = several.jobs.start(config, "test")
    wait_until(lambda: several.checkpoint(started.id))
    os.kill(several.pair(started.id)[which], signal.SIGKILL)
    broken = several.ended(started.id, 120)
    assert (broken.state, broken.attempt) == ("finished", broken.failed_attempts + 1) and broken.failed_attempts
    (first, card), (second, _) = (several.network(run.version_id) for run in (unbroken, broken))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert card.processes == 2
    replay = [sys.executable, "-m", "webapp", "replay", f"v{broken.version_id}"]
    again = subprocess.run(replay, cwd=ROOT, env=several.environ, capture_output=True, text=True)
    assert again.returncode == 0 and "came out the same" in again.stdout, again.stderr


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", [0, 1])
def test_run_process_that_hangs_is_given_up(several, which):
    run = several.jobs.start(LONG, "test")
    attempt = several.moving(run.id)
    pair = several.pair(run.id)
    os.kill(pair[which], signal.SIGSTOP)
    try:
        wait_until(lambda: several.run(run.id).attempt > attempt, 90)
        several.moving(run.id, attempt)
        wait_until(lambda: gone(pair[1]), 90)
    finally:
        several.jobs.cancel(run.id, "test")
        with suppress(ProcessLookupError):
            os.kill(pair[which], signal.SIGCONT)
    wait_until(lambda: all(map(gone, pair)))


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_run_processes_end_with_their_worker(several):
    run = several.jobs.start(LONG, "test")
    attempt = several.moving(run.id)
    pair = several.pair(run.id)
    several.worker.kill()
    several.worker.wait()
    wait_until(lambda: several.run(run.id).state == "queued", 10)
    wait_until(lambda: all(map(gone, pair)))
    losses = several.run(run.id).failed_attempts
    several.start_worker()
    several.moving(run.id, attempt)
    assert several.run(run.id).failed_attempts == losses
    several.jobs.cancel(run.id, "test")
    assert several.ended(run.id).state == "cancelled"
