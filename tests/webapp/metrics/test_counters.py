"""What is counted, over all web workers, and who may read it."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import TOKEN
from tests.support.exposition import sample
from tests.support.gunicorn import serve
from tests.support.requests import ONE, assert_error
from tests.support.servers import wait_until
from tests.support.versions import add_version, damaged, promote, turned
from webapp.metrics import counters
from webapp.services import services


def scrape(server):
    answer = server.request("GET", "/metrics")
    assert answer.status == 200
    return answer.body.decode()


@pytest.fixture(scope="module")
def server(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("counted") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder, ADMIN_TOKEN=TOKEN) as server:
        held = {os.path.realpath(link) for link in Path(f"/proc/{min(server.workers())}/fd").iterdir()}
        shared = next(Path(path).parent for path in held if counters.PREFIX in path and path.endswith(".db"))
        yield server
    assert not shared.exists(), "a server's counters end with it"


def test_metrics_add_up_all_workers(server):
    before = scrape(server)
    for _ in range(10):
        assert server.json("POST", "/predict", ONE).status == 200
    for _ in range(4):
        assert server.json("POST", "/predict", {}).status == 400
    for _ in range(4):
        text = scrape(server)
        for name, labels, grown in (
            ("inkling_requests_total", {"route": "/predict", "method": "POST", "status": "200"}, 10),
            ("inkling_requests_total", {"route": "/predict", "method": "POST", "status": "400"}, 4),
            ("inkling_request_seconds_count", {"route": "/predict"}, 14),
            ("inkling_request_seconds_bucket", {"route": "/predict", "le": "+Inf"}, 14),
            ("inkling_errors_total", {"code": "no_image"}, 4),
            ("inkling_readings_total", {"verdict": "digit"}, 10),
        ):
            assert sample(text, name, **labels) - sample(before, name, **labels) == grown, name
        assert sample(text, "inkling_database_up") == sample(text, "inkling_promoted_version") == 1


def test_metrics_have_no_name_from_a_caller(server):
    for method, path in (("GET", "/made-up/by-me"), ("BREW", "/"), ("GET", "/receipts/made-up"), ("GET", "/?made-up")):
        server.request(method, path)
    text = scrape(server)
    assert "made-up" not in text and "BREW" not in text and TOKEN not in text
    assert sample(text, "inkling_requests_total", route="none", method="GET", status="404") > 0
    assert sample(text, "inkling_requests_total", route="none", method="other", status="405") > 0


@pytest.mark.parametrize(
    ("sent", "method", "status"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET", "414"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: odd\r\n\r\n", "POST", "501"),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n", "other", "417"),
        (b"\x16\x03\x01", "other", "400"),
    ],
    ids=["address", "coding", "expectation", "TLS"],
)
def test_metrics_count_once_what_the_server_refuses_before_the_application(server, sent, method, status):
    labels = {"route": "none", "method": method, "status": status}
    before = sample(scrape(server), "inkling_requests_total", **labels)
    assert server.raw(sent).status == int(status)
    assert sample(scrape(server), "inkling_requests_total", **labels) == before + 1


def test_metrics_of_a_dead_worker_are_counted_without_its_version(server):
    wait_until(lambda: versions_told(server) == server.workers())
    before = sample(scrape(server), "inkling_readings_total", verdict="digit")
    for _ in range(10):
        server.json("POST", "/predict", ONE)
    died = min(server.workers())
    os.kill(died, signal.SIGKILL)
    wait_until(lambda: died not in versions_told(server) and versions_told(server) == server.workers())
    assert sample(scrape(server), "inkling_readings_total", verdict="digit") == before + 10


def test_metrics_show_promotions_by_worker(server):
    database = server.database()
    number = add_version(database, turned(1))
    promote(database, number)
    wait_until(lambda: versions_told(server, number) == server.workers())
    assert sample(scrape(server), "inkling_promoted_version") == number
    promote(database, add_version(database, damaged(turned(2))))
    wait_until(lambda: sample(scrape(server), "inkling_versions_not_loaded_total") == len(server.workers()))
    assert versions_told(server, number) == server.workers()
    promote(database, 1)
    database.close()


def versions_told(server, number=None):
    found = re.findall(r'inkling_version\{pid="(\d+)"\} (\S+)', scrape(server))
    return {int(pid) for pid, told in found if number is None or float(told) == number}


def test_metrics_behind_a_proxy_need_the_token(server):
    for passed_on in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        headers = {passed_on: "127.0.0.1"}
        assert server.request("GET", "/metrics", headers=headers).status == 401
        assert server.request("GET", "/metrics", headers=headers | {"Authorization": "Bearer wrong"}).status == 401
        told = server.request("GET", "/metrics", headers=headers | {"Authorization": f"Bearer {TOKEN}"})
        assert told.status == 200 and told.headers["Cache-Control"] == "no-store"


def test_metrics_for_another_machine_are_refused(app):
    client = app.test_client()
    assert client.get("/metrics").status_code == 200
    for address in ("192.0.2.1", "::2", "10.0.0.1"):
        answer = client.get("/metrics", environ_base={"REMOTE_ADDR": address})
        assert_error(answer, 401, "not_signed_in")


def test_metrics_without_a_database_are_those_of_the_workers(app, settings):
    client = app.test_client()
    client.post("/predict", json=ONE)
    services(app).database.close()
    (settings.data_dir / "inkling.db").unlink()
    text = client.get("/metrics").text
    assert sample(text, "inkling_database_up") == 0 and "inkling_runs" not in text
    assert sample(text, "inkling_readings_total", verdict="digit") == 1


def test_metrics_have_the_form_asked_for(reader):
    plain = reader.get("/metrics")
    assert plain.mimetype == "text/plain" and not plain.text.endswith("# EOF\n")
    open_metrics = reader.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.mimetype == "application/openmetrics-text" and open_metrics.text.endswith("# EOF\n")
    for odd in ("text/plain; version=zz", "application/openmetrics-text; version=abc"):
        assert reader.get("/metrics", headers={"Accept": odd}).mimetype == "text/plain"


def share(parent, monkeypatch):
    """The folder that a server shares its counters in."""
    monkeypatch.setattr(counters, "SHARED_MEMORY", str(parent))
    monkeypatch.setattr(counters.values, "ValueClass", counters.values.ValueClass)
    monkeypatch.setenv(counters.FOLDER, "")
    counters.share_counters("name")
    return Path(os.environ[counters.FOLDER])


def test_metrics_of_a_killed_server_are_removed_by_the_next(tmp_path, monkeypatch):
    left = share(tmp_path, monkeypatch)
    (left / "counter_1.db").touch()
    folder = share(tmp_path, monkeypatch)
    assert folder == left and not list(folder.iterdir())


@pytest.mark.parametrize("plant", [os.mkfifo, Path.touch, lambda path: path.symlink_to(path.parent.parent / "target")])
def test_metrics_folder_planted_by_others_is_let_be(tmp_path, monkeypatch, plant):
    parent, target = tmp_path / "shared", tmp_path / "target"
    parent.mkdir()
    target.mkdir()
    (target / "file").touch()
    plant(parent / f"{counters.PREFIX}{os.geteuid()}-name")
    folder = share(parent, monkeypatch)
    assert folder.parent == parent and folder.is_dir() and folder.stat().st_mode & 0o077 == 0
    assert len(list(parent.iterdir())) == 2 and (target / "file").exists()
