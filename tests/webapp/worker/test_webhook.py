"""The webhook about a run's end: sent once by one worker, signed, and given up quietly."""

import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.servers import wait_until
from tests.support.versions import add_version, turned
from webapp.settings import ROOT
from webapp.storage.schema import Promotion, Run, champion_id
from webapp.worker import webhook

SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture
def receiver(monkeypatch):
    """A server that answers with `statuses` in turn, then 204, and keeps what it got."""
    monkeypatch.setattr(webhook, "WAITS", (0.0, 0.0))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((self.path, dict(self.headers), body))
            self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.statuses = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/hook/{SECRET}?token={SECRET}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def told(settings, receiver):
    return replace(settings, webhook_url=receiver.url, base_path="/inkling")


def end(database, state="finished", ago=1.0, **values):
    values |= {"preset": "basic", "epochs": 1, "seed": 0, "requested_by": "anna", "ended_at": time.time() - ago}
    with database.writing() as session:
        session.add(run := Run(state=state, **values))
        session.flush()
        return run.id


def announce(settings, database):
    webhook.announce(settings, database, threading.Event())


@pytest.mark.both_databases
def test_webhook_tells_how_a_run_ended_once(told, database, receiver):
    version = add_version(database, turned(1))
    run = end(database, version_id=version)
    with database.writing() as session:
        session.add(Promotion(version_id=version, from_id=champion_id(session), by=f"run {run}", why="{}"))
    lost = end(database, "lost")
    end(database, "running")
    for _ in range(2):
        announce(told, database)
    messages = [json.loads(body) for _, _, body in receiver.got]
    assert [message["run"] for message in messages] == [run, lost]
    first, second = messages
    assert (first["event"], first["state"]) == ("run_ended", "finished")
    assert (first["version"], first["promoted"]) == ("v2", True)
    assert 0 < first["validation_accuracy"] <= 1 and first["requested_by"] == "anna"
    assert first["url"] == f"/inkling/admin/runs/{run}"
    assert (second["state"], second["version"], second["promoted"]) == ("lost", None, False)
    path, headers, _ = receiver.got[0]
    assert path.endswith(f"?token={SECRET}") and headers["Content-Type"] == "application/json"
    assert webhook.SIGNATURE not in headers


@pytest.mark.both_databases
def test_webhook_of_several_workers_is_sent_once(told, database, receiver):
    end(database)
    threads = [threading.Thread(target=announce, args=(told, database)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.got) == 1


def test_webhook_is_signed(told, database, receiver):
    end(database)
    announce(replace(told, webhook_secret=SECRET), database)
    ((_, headers, body),) = receiver.got
    assert headers[webhook.SIGNATURE] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("statuses", "requests"), [([500], 2), ([500, 404], 3), ([500] * 9, 3), ([302] * 9, 3), ([307, 201], 2)]
)
def test_webhook_refused_is_tried_again_and_then_given_up(told, database, receiver, caplog, statuses, requests):
    receiver.statuses = statuses
    end(database)
    with caplog.at_level(logging.INFO):
        announce(told, database)
    assert len(receiver.got) == requests and all(path.startswith("/hook/") for path, _, _ in receiver.got)
    assert ("given up" in caplog.text) == (len(statuses) > 2) and SECRET not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nosuch.invalid/"])
def test_webhook_without_receiver_is_given_up(told, database, url, caplog, receiver):
    end(database)
    announce(replace(told, webhook_url=url), database)
    assert "given up" in caplog.text


def test_webhook_silent_receiver_is_not_waited_for(told, database, monkeypatch, caplog, receiver):
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 0.05)
    with webhook.urllib.request.socket.create_server(("127.0.0.1", 0)) as silent:
        end(database)
        announce(replace(told, webhook_url=f"http://127.0.0.1:{silent.getsockname()[1]}/"), database)
    assert "given up" in caplog.text


def test_webhook_is_neither_for_old_runs_nor_sent_unasked(settings, told, database, receiver):
    end(database, ago=webhook.RECENT_SECONDS + 1)
    announce(told, database)
    end(database)
    announce(settings, database)
    assert receiver.got == []


def test_webhook_of_a_worker_that_stops_is_not_begun(told, database, receiver):
    end(database)
    stopping = threading.Event()
    stopping.set()
    webhook.announce(told, database, stopping)
    assert receiver.got == []
    announce(told, database)
    assert len(receiver.got) == 1


def test_worker_sends_the_webhook_of_a_run_that_another_process_ended(settings, database, receiver):
    environ = {"DATA_DIR": str(settings.data_dir), "WEBHOOK_URL": receiver.url, "OVERDUE_SECONDS": "0.2"}
    environ |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/support/few_digits")])}
    run = end(database, "cancelled")
    environ["MNIST_DIR"] = str(settings.data_dir / "nothing")
    command = [sys.executable, "-m", "webapp", "worker"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, stderr=subprocess.PIPE, text=True) as worker:
        wait_until(lambda: receiver.got)
        worker.terminate()
        assert "MNIST is not in" in worker.stderr.read()
    assert [json.loads(body)["run"] for _, _, body in receiver.got] == [run]
