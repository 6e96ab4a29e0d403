"""Two replicas as one: they answer alike, change over together, and one of them may go at any moment."""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from model.inference.classifier import SHIPPED
from tests.conftest import PASSWORD
from tests.support.cluster import DEPLOY, SCRIPT, STOP_SECONDS, WEB_WORKERS, Browser, Load
from tests.support.requests import ONE, drawn, encoded
from tests.support.servers import wait_until
from tests.support.versions import add_version, promote, read_by, turned

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHANGE_SECONDS = 60  # one on an idle machine
PNG = encoded(drawn())


@pytest.fixture(scope="module")
def versions(shared_cluster):
    """The shipped version and two more that read every digit as another one: by number, what each says of ONE."""
    made = {1: SHIPPED.read_bytes()} | {add_version(shared_cluster.database, turned(by)): turned(by) for by in (1, 2)}
    return {number: read_by(data, PNG) for number, data in made.items()}


def assert_each_is_its_versions(load, versions):
    for sent in load.sent:
        if sent.status != 200:
            continue
        expected = versions[int(sent.answer["version"].removeprefix("v"))]
        np.testing.assert_allclose(sent.answer["probabilities"], expected, atol=1e-5)


def test_replicas_answer_alike(cluster):
    first, second = (replica.ask("POST", "/predict", ONE).json for replica in cluster.replicas)
    assert first == second
    replicas = {line["replica"] for line in cluster.access_log()}
    for _ in range(20):
        assert cluster.ask("POST", "/predict", ONE).json == first
    replicas = {line["replica"] for line in cluster.access_log() if line["path"] == "/predict"}
    assert replicas == {f"127.0.0.1:{replica.port}" for replica in cluster.replicas}


def test_replicas_share_sign_in_and_sign_out(cluster):
    one, other = cluster.replicas
    browser = Browser(one.ask)
    assert browser.sign_in(PASSWORD).status == 303
    assert [browser.get("/admin", replica.ask).status for replica in (one, other)] == [200, 200]
    assert browser.post("/admin/sign-out", other.ask).status == 303
    assert [browser.get("/admin", replica.ask).status for replica in (one, other)] == [303, 303]


@pytest.mark.parametrize("promotions", [5, pytest.param(20, marks=pytest.mark.stress)])
def test_promotion_under_load_reaches_all_replicas(cluster, versions, promotions):
    def all_answer(number):
        answers = [replica.ask("POST", "/predict", ONE).json["version"] for replica in cluster.replicas]
        return set(answers) == {f"v{number}"}

    numbers, waits = list(versions), []
    with Load(cluster, ONE, clients=3) as load:
        for turn in range(promotions):
            number = numbers[(turn + 1) % len(numbers)]
            promoted = cluster.ask("POST", f"/admin/versions/{number}/promote", {"reason": "a test"}, SCRIPT)
            assert promoted.status < 400, promoted.body
            began = time.monotonic()
            wait_until(lambda number=number: all_answer(number), CHANGE_SECONDS)
            waits.append(time.monotonic() - began)
    promote(cluster.database, 1)
    print(f"{len(load.sent)} readings; a promotion reached both replicas in {max(waits):.1f} s at most")
    assert not load.failed
    assert {sent.answer["version"] for sent in load.sent} == {f"v{number}" for number in versions}
    assert_each_is_its_versions(load, versions)


def test_replica_killed_loses_what_was_in_flight_alone(cluster, versions):
    """Asked again elsewhere is what had not begun to be answered, so of each worker one answer at most is lost."""
    with Load(cluster, ONE, pause=0.01) as load:
        load.wait_for(50)
        for replica in cluster.replicas:
            replica.kill()
            load.wait_for(100)
            replica.start()
            wait_until(replica.is_ready)
            load.wait_for(50)
    print(f"{len(load.failed)} of {len(load.sent)} readings lost")
    assert len(load.failed) <= len(cluster.replicas) * WEB_WORKERS
    assert_each_is_its_versions(load, versions)


def test_replicas_restarted_in_turn_lose_nothing(cluster):
    """The second ends while nginx still takes the first, back already, for one that fails. Nor is a POST lost that is
    not sent again, or one that is still on its way."""
    body = json.dumps(ONE).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with (
        Load(cluster, ONE, clients=2, pause=0.01) as readings,
        Load(cluster, {}, clients=3, pause=0.001, path="/nowhere", expected=404) as others,
    ):
        for replica in cluster.replicas:
            others.wait_for(100)
            with socket.create_connection(("127.0.0.1", replica.port), timeout=60) as slow:
                slow.sendall(f"{head}\r\n\r\n".encode() + body[:100])
                wait_until(lambda replica=replica: replica.ask("GET", "/healthz").status == 200)
                replica.process.terminate()
                wait_until(lambda replica=replica: not replica.is_reached())
                slow.sendall(body[100:])
                assert slow.recv(4096).startswith(b"HTTP/1.1 200")
            assert replica.process.wait(STOP_SECONDS) == 0
            others.wait_for(100)
            replica.start()
            wait_until(replica.is_ready)
        readings.wait_for(50)
    for load in (readings, others):
        print(f"{len(load.failed)} of {len(load.sent)} requests lost")
    assert not readings.failed and not others.failed


def test_reload_of_another_release_loses_nothing(cluster):
    replica = cluster.replicas[1]
    module = replica.program / "webapp/views/ops.py"
    release, before = module.read_text(), replica.web_workers()
    with Load(cluster, ONE, pause=0.01) as load:
        load.wait_for(100)
        module.write_text("import nothing_of_this_name\n")
        (code,) = reload(replica)
        assert code != 0
        assert replica.is_ready() and replica.web_workers() == before
        module.write_text(release.replace('Literal["ok"] = "ok"', 'str = "another release"'))
        assert reload(replica) == [0, 0]
        wait_until(lambda: not replica.web_workers() & before and replica.is_ready())
        assert replica.ask("GET", "/healthz").json == {"status": "another release"}
        load.wait_for(100)
    assert not load.failed


def reload(replica) -> list[int]:
    """Carries out the ExecReload= lines of the unit, as systemd does: until one fails. Their exit codes."""
    unit = (DEPLOY / "systemd" / "inkling-web@.service").read_text()
    codes = []
    for line in re.findall("^ExecReload=(.+)$", unit, re.M):
        program, *arguments = shlex.split(line.replace("$MAINPID", str(replica.process.pid)))
        program = program.replace("/opt/inkling/.venv/bin", str(Path(sys.executable).parent))
        done = subprocess.run([program, *arguments], cwd=replica.program, env=replica.environ, capture_output=True)
        codes.append(done.returncode)
        if done.returncode:
            break
    return codes
