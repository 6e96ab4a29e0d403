"""Two real workers under gunicorn: what only shows on the wire, or between processes."""

import json
import os
import re
import shutil
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from sqlalchemy import delete, select

from model.inference.classifier import SHIPPED
from tests.conftest import PASSWORD, TOKEN
from tests.support.gunicorn import serve
from tests.support.requests import ONE, drawn, encoded
from tests.support.servers import wait_until
from tests.support.versions import add_version, damaged, promote, read_by, turned
from webapp.auth import ATTEMPT_WINDOW_SECONDS, ATTEMPTS_PER_ADDRESS
from webapp.http.pictures import MAX_BODY_BYTES
from webapp.storage.schema import Run, SignInAttempt, Version, champion_id

JSON = {"Content-Type": "application/json"}
BODY = json.dumps(ONE).encode()
PREDICT = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PNG = encoded(drawn())


@pytest.fixture(scope="module")
def server(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder, ADMIN_TOKEN=TOKEN) as server:
        yield server
    log = server.log.read_text()
    assert "Traceback" not in log and "TIMEOUT" not in log, log


@pytest.fixture
def database(server):
    database = server.database()
    yield database
    database.close()


@pytest.fixture
def post(server):
    return lambda body=BODY: server.request("POST", "/predict", body, JSON)


@pytest.fixture(autouse=True)
def still_answers(post):
    """Whatever a test did to the server, afterwards both workers answer as if nothing had been."""
    yield
    assert {post().status for _ in range(6)} == {200}


def chunks(body, size=50_000):
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]


def assert_json_error(answer, status, code):
    assert answer.status == status, answer
    assert answer.headers.get_content_type() == "application/json"
    assert json.loads(answer.body)["error"]["code"] == code


FORM = b"POST /admin/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    ("head", "pieces"),
    [
        (PREDICT, chunks(BODY)),
        (PREDICT, chunks(BODY.ljust(MAX_BODY_BYTES + 1))),
        (PREDICT, chunks(BODY.ljust(12_000_000))),
        (PREDICT, chunks(b"")),
        (PREDICT, [b"zz\r\nabc\r\n0\r\n\r\n"]),
        (FORM, chunks(b"password=" + b"x" * 3_000_000)),
    ],
    ids=["under the limit", "just over", "12 MB", "empty", "broken", "a form"],
)
def test_body_in_chunks_is_refused(server, head, pieces):
    """One over the limit would be cut there without a word, and what is left could be taken for the whole."""
    assert_json_error(server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n", *pieces), 411, "length_required")


@pytest.mark.parametrize(
    ("path", "content_type", "status", "code"),
    [
        ("/predict", "application/json", 413, "body_too_large"),
        ("/admin/sign-in", "application/x-www-form-urlencoded", 413, "body_too_large"),
        ("/predict", "text/plain", 415, "not_json"),
        ("/nowhere", "application/json", 404, "not_found"),
        ("/healthz", "application/json", 405, "method_not_allowed"),
        ("/admin/retrain", "application/json", 401, "not_signed_in"),
    ],
)
@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 20_000_000], ids=["just over", "20 MB"])
def test_body_too_large_is_read_before_the_answer(server, path, content_type, status, code, size):
    """An answer given without reading the body closes the connection under its sender, who then sees no answer."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
    assert_json_error(server.raw(head.encode(), b" " * size), status, code)


def test_body_over_the_limit_is_refused_before_it_is_sent(server):
    # `raw` gives up long before the server would give up waiting for the body.
    assert_json_error(server.raw(PREDICT + b"Content-Length: 100000000\r\n\r\n"), 413, "body_too_large")


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (PREDICT + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n", {400}),
        (PREDICT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", {400}),
        (PREDICT + b"Content-Length: -5\r\n\r\n", {400}),
        (PREDICT + b"Content-Length: 0x10\r\n\r\n", {400}),
        (PREDICT + b"Transfer-Encoding: gzip\r\n\r\n", {400, 501}),
        (PREDICT + b"Host: elsewhere.example\r\nContent-Length: 2\r\n\r\n{}", {400}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 9_000 + b"\r\n\r\n", {400, 431}),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 414}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX bad: 1\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", {400}),
        (b"GET http://localhost/ HTTP/1.1\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", {400}),
    ],
    ids=[
        "length and chunks", "two lengths", "negative length", "hexadecimal length", "unknown encoding", "two hosts",
        "9 kB header", "9 kB address", "space in a header's name",
        "no host", "two hosts in one", "a host in the address alone", "TLS",
    ],
)  # fmt: skip
def test_request_that_is_ambiguous_is_refused(server, head, statuses):
    answer = server.raw(head)
    assert answer.status in statuses
    assert b"Traceback" not in answer.body


@pytest.mark.parametrize("sent", [b"", b"{", BODY[:1000]])
def test_sender_who_goes_away_harms_nobody(server, sent):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(PREDICT + b"Content-Length: 5000\r\n\r\n" + sent)


def test_worker_reads_without_torch_in_one_thread(server, post):
    """Torch would weigh more than all the rest, and its threads, like numpy's, would fight the other workers."""
    post()
    for pid in server.workers():
        libraries = Path(f"/proc/{pid}/maps").read_text()
        assert "libtorch" not in libraries and "openblas" in libraries
        names = {path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")}
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) <= 2, names  # the worker, and who follows promotions


class Browser:
    """A cookie and a CSRF token, as one gets them from the sign-in page."""

    def __init__(self, server):
        self.server = server
        page = server.request("GET", "/admin/sign-in")
        self.cookie = page.headers["Set-Cookie"].split(";")[0]
        self.token = re.search(rb'name="csrf_token" value="([^"]+)"', page.body)[1].decode()

    def sign_in(self, password, **headers):
        headers |= {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        form = urlencode({"csrf_token": self.token, "password": password})
        return self.server.request("POST", "/admin/sign-in", form.encode(), headers)


@pytest.fixture
def browser(server, database):
    yield Browser(server)
    with database.writing() as session:
        session.execute(delete(SignInAttempt))


def test_wrong_passwords_at_once_are_counted_across_workers(browser):
    wrong = [browser.sign_in("wrong").status for _ in range(ATTEMPTS_PER_ADDRESS - 1)]
    assert set(wrong) == {403}
    assert browser.sign_in(PASSWORD).status == 303  # one is left, and success takes them all back
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda number: browser.sign_in(f"wrong {number}").status, range(12)))
    assert statuses == {403: ATTEMPTS_PER_ADDRESS, 429: 12 - ATTEMPTS_PER_ADDRESS}
    spoofed = {"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.1.1", "Forwarded": "for=10.0.2.1"}
    answer = browser.sign_in("wrong", **spoofed)
    assert answer.status == 429 and 0 < int(answer.headers["Retry-After"]) <= ATTEMPT_WINDOW_SECONDS
    assert browser.sign_in(PASSWORD).status == 429


def test_starts_at_once_make_one_run(server, database):
    def start(number):
        headers = JSON | {"Authorization": f"Bearer {TOKEN}"}
        return server.request("POST", "/admin/retrain", json.dumps({"seed": number}).encode(), headers)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(start, range(20)))
    assert Counter(answer.status for answer in answers) == {202: 1, 409: 19}
    assert {json.loads(answer.body)["error"]["code"] for answer in answers if answer.status == 409} == {"run_active"}
    with database.writing() as session:
        run = session.scalars(select(Run)).one()
        session.delete(run)


class Asking:
    """Somebody who asks for readings all the time."""

    def __init__(self, post):
        self._post, self._stop = post, threading.Event()
        self.answers: list[tuple[int, dict]] = []

    def __enter__(self):
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        while not self._stop.wait(0.01):
            answer = self._post()
            self.answers.append((answer.status, json.loads(answer.body)))

    def only(self, version, count=40):
        """Whether the last `count` answers, from both workers, are all this version's."""
        return len(self.answers) >= count and {answer["version"] for *_, answer in self.answers[-count:]} == {version}


def test_promotion_reaches_both_workers_without_a_failure(post, database):
    with Asking(post) as asking:
        for by in (1, 2):
            name = f"v{add_version(database, turned(by))}"
            promote(database, int(name[1:]))
            wait_until(lambda name=name: asking.only(name))
    assert {status for status, _ in asking.answers} == {200}
    expected = {"v1": read_by(SHIPPED.read_bytes(), PNG), "v2": read_by(turned(1), PNG), "v3": read_by(turned(2), PNG)}
    assert {answer["version"] for *_, answer in asking.answers} == set(expected)
    for *_, answer in asking.answers:
        np.testing.assert_allclose(answer["probabilities"], expected[answer["version"]], atol=1e-5)


@pytest.mark.parametrize("lose", [damaged, lambda data: b""])
def test_champion_damaged_or_gone_stays_in_workers_that_have_it(server, post, database, lose):
    with database.reading() as session:
        number = champion_id(session)
        whole = session.get(Version, number).weights
    with Asking(post) as asking:
        wait_until(lambda: asking.only(f"v{number}"))
    write_weights(database, number, lose(whole))
    before = server.workers()
    os.kill(min(before), signal.SIGKILL)
    try:
        ready = statuses(lambda: server.request("GET", "/readyz").status, until={200, 503})
        assert ready == {200, 503}, "one worker has it, and the new one says that it has none"
        assert statuses(lambda: post().status, until={200, 503}) == {200, 503}
        assert server.process.poll() is None and server.request("GET", "/healthz").status == 200
    finally:
        write_weights(database, number, whole)
    wait_until(lambda: {post().status for _ in range(20)} == {200})


def write_weights(database, number, data):
    with database.writing() as session:
        session.get(Version, number).weights = data


def statuses(ask, until):
    """What was answered until all of these have been."""
    found = set()
    wait_until(lambda: found.add(ask()) or found == until)
    return found


def test_version_damaged_is_refused_and_the_old_one_goes_on(server, post, database):
    before = json.loads(post().body)
    with Asking(post) as asking:
        number = add_version(database, damaged(turned(3)))
        promote(database, number)
        refusals = f"v{number} cannot be loaded and {before['version']} goes on"
        wait_until(lambda: server.log.read_text().count(refusals) == 2)
        seen = len(asking.answers)
        wait_until(lambda: len(asking.answers) > seen + 20)
    assert {status for status, _ in asking.answers} == {200}
    assert {answer["version"] for *_, answer in asking.answers} == {before["version"]}
    promote(database, 1)
    wait_until(lambda: {json.loads(post().body)["version"] for _ in range(10)} == {"v1"})


def test_worker_killed_is_replaced(server, post):
    before = server.workers()
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(server.workers() | before) == 3)
    assert {post().status for _ in range(10)} == {200}


def test_master_is_not_started_twice(server):
    """It would outlive its supervisor: nothing ends it, and the next start finds the port taken."""
    before = server.workers()
    os.kill(server.process.pid, signal.SIGUSR2)
    wait_until(lambda: "USR2 is ignored" in server.log.read_text())
    assert server.workers() == before


def test_reload_under_load_fails_no_request(server, post):
    with Asking(post) as asking:
        for what in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            before = server.workers()
            os.kill(server.process.pid if what == signal.SIGHUP else min(before), what)
            ended = before if what == signal.SIGHUP else {min(before)}
            wait_until(lambda ended=ended: len(server.workers()) == 2 and not server.workers() & ended)
            seen = len(asking.answers)
            wait_until(lambda seen=seen: len(asking.answers) > seen + 20)
        assert all(thread.is_alive() for thread in asking._threads), "no connection broke"
    assert {status for status, _ in asking.answers} == {200}
