"""More than can be answered, and clients slower than can be waited for."""

import contextlib
import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from werkzeug.test import create_environ

from tests.servers import wait_until
from tests.webapp.asking import ONE
from tests.webapp.serving import serve
from webapp import limit
from webapp.edge import NOTES
from webapp.limit import AT_ONCE, FEW_OF_ONE, LARGEST_BODY, MOST_OF_ONE, MOST_PROBES, SMALL_BODY, Limit
from webapp.settings import ROOT

# So many pictures at once that the server, and not the one who asks, is what limits.
MANY = json.dumps({"images": [ONE["image"]] * 16}).encode()
JSON = {"Content-Type": "application/json"}
PREDICT = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"


@pytest.fixture(scope="module")
def server(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overloaded") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder) as server:
        yield server
    log = server.log.read_text()
    assert "Traceback" not in log and "TIMEOUT" not in log, log[-3000:]


def timed(ask):
    began = time.monotonic()
    answer = ask()
    return time.monotonic() - began, answer


def ask(server):
    return timed(lambda: server.request("POST", "/predict", MANY, JSON))


def quantile(seconds, part):
    return sorted(seconds)[int(part * (len(seconds) - 1))]


def rate_and_seconds(server, asking=8, for_seconds=2.0):
    """How many are answered a second while `asking` of them are under way, and how long each takes."""
    end = time.monotonic() + for_seconds

    def client(_):
        found = []
        while time.monotonic() < end:
            found.append(ask(server))
        return found

    with ThreadPoolExecutor(asking) as pool:
        found = [one for part in pool.map(client, range(asking)) for one in part]
    assert {answer.status for _, answer in found} == {200}, "so few are never refused"
    return len(found) / for_seconds, [seconds for seconds, _ in found]


def resident(server):
    """Bytes of all workers together."""
    pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in server.workers())
    return sum(map(int, pages)) * 4096


class Probes:
    """Somebody who looks every tenth of a second whether the server is alive."""

    def __init__(self, server):
        self._server, self._stop, self.seconds = server, threading.Event(), []

    def __enter__(self):
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.1):
            seconds, answer = timed(lambda: self._server.request("GET", "/healthz"))
            assert answer.status == 200
            self.seconds.append(seconds)


def flood(server, rate, seconds):
    arguments = [sys.executable, "-m", "tests.webapp.flood", str(server.port), str(rate), str(seconds)]
    done = subprocess.run(arguments, cwd=ROOT, input=MANY, capture_output=True, timeout=seconds + 60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def overload(server, seconds, times):
    """Asks for so many times what the server can, and holds what must hold; returns the figures."""
    rate, usual = rate_and_seconds(server)
    before = resident(server)
    with Probes(server) as probes:
        found = flood(server, times * rate, seconds)
    by_status = found["seconds"]
    assert set(by_status) == {"200", "503"}, {status: len(some) for status, some in by_status.items()}
    answered, refused = by_status["200"], by_status["503"]
    assert len(refused) > rate * seconds and len(answered) > rate * seconds / 10
    head, _, body = found["refusal"].partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    assert int(headers["Retry-After"]) >= 1 and headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store" and headers["X-Request-ID"]
    assert json.loads(body)["error"]["code"] == "overloaded"
    grown = resident(server) - before
    assert grown < 30 << 20
    end = time.monotonic() + 5
    while time.monotonic() < end and max(ask(server)[0] for _ in range(5)) > 2 * quantile(usual, 0.99):
        pass
    return {
        "capacity a second": round(rate),
        "usual p99 ms": round(quantile(usual, 0.99) * 1000),
        "answered": len(answered),
        "answered p50, p99 ms": [round(quantile(answered, part) * 1000) for part in (0.5, 0.99)],
        "refused": len(refused),
        "refused p50, p99 ms": [round(quantile(refused, part) * 1000) for part in (0.5, 0.99)],
        "probes p50, p99 ms": [round(quantile(probes.seconds, part) * 1000) for part in (0.5, 0.99)],
        "grown MB": round(grown / (1 << 20), 1),
    }


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_a_minute_of_it(server):
    found = overload(server, seconds=60, times=5)
    print(json.dumps(found))
    assert found["refused p50, p99 ms"][0] < 50 and found["probes p50, p99 ms"][1] < 100, found
    metrics = server.request("GET", "/metrics").body.decode()
    assert f'inkling_errors_total{{code="overloaded"}} {found["refused"]}.0' in metrics
    assert "requests were refused: more come than can be answered" in server.log.read_text()


def test_a_burst_is_answered_in_full(server):
    """A classroom that opens the page together: many at once, and then no more."""
    clients = []
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)))
            clients[-1].sendall(b"GET /healthz?not=a-probe HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers = [client.recv(12) for client in clients]
    assert answers == [b"HTTP/1.1 200"] * 60


@pytest.mark.parametrize(
    "sent",
    [b"", PREDICT[:30], PREDICT, PREDICT + b"{", b"GET /healthz HTTP/1.0\r\n\r\n", b"x\r\n\r\n"],
    ids=["nothing", "half a head", "no body", "part of a body", "does not hang up", "refused, does not hang up"],
)
def test_three_hundred_clients_that_stall_hold_nobody_up(server, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            client.sendall(sent)
        assert {ask(server)[1].status for _ in range(10)} == {200}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (PREDICT.replace(b"5000", b"500000000"), 413),
        (PREDICT.replace(b"5000", b"9" * 30), 413),
        (b"GET /receipts/secret HTTP/1.1\r\nHost: localhost\r\nSCRIPT_NAME: /x\r\n\r\n", 404),
    ],
    ids=["TLS", "lower case", "a large body", "an endless body", "a header of WSGI's"],
)
def test_what_is_refused_is_so_at_once_though_its_sender_stays(server, sent, status):
    with socket.create_connection(("127.0.0.1", server.port), timeout=7) as client:
        client.sendall(sent)
        with http.client.HTTPResponse(client) as answer:
            answer.begin()
            assert answer.status == status


# One client may not have it all


@contextlib.contextmanager
def crowding(server, request, number=200, address="127.0.0.2"):
    """One client that asks for this all the time, on so many connections; what it was answered, once it has ended."""
    command = [sys.executable, "-m", "tests.webapp.crowding", str(server.port), address, str(number)]
    answered = {}
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        client.stdin.write(request.replace("\r\n", r"\r\n") + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "answered\n"
        yield answered
        answered |= json.loads(client.communicate()[0])


def visited(server, headers=()):
    """A visit to the page as a browser makes one: the statuses of the page and its files, and what all of it took."""
    headers = {"Accept": "text/html"} | dict(headers)
    began = time.monotonic()
    page = server.request("GET", "/", headers=headers)
    files = re.findall(r'(/static/[^"]*)', page.body.decode())
    with ThreadPoolExecutor(6) as pool:
        others = pool.map(lambda file: server.request("GET", file, headers=headers).status, files)
        return [page.status, *others], time.monotonic() - began


def nearly_all_answered(visits):
    """Whether at most one of five visits had anything refused.

    Without a share for each client most of the fourteen requests of every visit are; with one, none on a free machine.
    """
    return sum(set(statuses) != {200} for statuses, _ in visits) <= len(visits) // 5


@pytest.fixture(scope="module")
def server_behind_a_proxy(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("behind") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder, HTTPS="1") as server:
        yield server


LONG = [pytest.param(path, marks=pytest.mark.stress) for path in ("/healthz", "/nothing", "/admin")]


@pytest.mark.parametrize("path", ["/", *LONG])
def test_a_client_that_asks_all_the_time_leaves_room_for_others(server, path):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: text/html\r\n\r\n"
    with crowding(server, request) as answered, Probes(server):
        visits = [visited(server) for _ in range(5)]
    assert nearly_all_answered(visits)
    assert sum(answered.values()) > 100, "there was a crowd"


@pytest.mark.stress
def test_behind_a_proxy_clients_are_told_apart_by_what_it_says_of_them(server_behind_a_proxy):
    def asking(client):
        # As nginx appends to what a client claims, were it told to.
        return {"X-Forwarded-For": f"192.0.2.99, {client}", "X-Forwarded-Proto": "https"}

    lines = [f"{name}: {value}\r\n" for name, value in asking("192.0.2.1").items()]
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{''.join(lines)}\r\n"
    with crowding(server_behind_a_proxy, request, address="127.0.0.1") as answered:
        visits = [visited(server_behind_a_proxy, asking("192.0.2.2")) for _ in range(5)]
    assert nearly_all_answered(visits)
    assert sum(answered.values()) > 100


# The limit alone


class Held:
    """Requests that are under way, behind a limit, until they are let go."""

    def __init__(self, app):
        self.limit, self.go, self.begun = Limit(self._answer, app), threading.Event(), threading.Semaphore(0)
        self.pool = ThreadPoolExecutor(200)

    def _answer(self, environ, start_response):
        self.begun.release()
        assert self.go.wait(60)
        start_response("200 OK", [])
        return []

    def ask(self, path="/", client="192.0.2.1", body=b"", length=None):
        """What becomes of a request: a future status."""
        stream = body if hasattr(body, "read") else io.BytesIO(body)
        length = str(len(body) if length is None else length)
        own = {"REMOTE_ADDR": client, "CONTENT_LENGTH": length, "wsgi.input": stream, NOTES: {}}
        return self.pool.submit(self._answered, create_environ(path) | own)

    def _answered(self, environ):
        started = []
        list(self.limit(environ, lambda status, headers, exc_info=None: started.append((status[:3], dict(headers)))))
        return started[0]

    def waiting(self, number, **options):
        """So many requests, each of which has come to the limit."""
        asked = []
        for _ in range(number):
            before = sum(self.limit._taken.values())
            asked.append(self.ask(**options))
            wait_until(lambda before=before: sum(self.limit._taken.values()) > before)
        return asked


@pytest.fixture
def held(shared_app, monkeypatch):
    monkeypatch.setattr(limit, "WAIT_SECONDS", 600)
    held = Held(shared_app)
    yield held
    held.go.set()
    held.pool.shutdown()


def test_limit_full_by_one_client_refuses_it_and_takes_another(held):
    asked = held.waiting(MOST_OF_ONE)
    status, headers = held.ask().result(20)
    assert (status, headers["Retry-After"]) == ("503", "1")
    asked += held.waiting(1, client="192.0.2.2")
    held.go.set()
    assert {one.result(20)[0] for one in asked} == {"200"}
    assert held.ask().result(20)[0] == "200" and not held.limit._taken


def test_limit_probe_of_a_full_server_is_answered(held):
    held.waiting(MOST_OF_ONE)
    for _ in range(2):
        held.begun.acquire(timeout=20)  # those whose turn it is
    probes = held.waiting(MOST_PROBES, path="/healthz")
    for _ in probes:
        assert held.begun.acquire(timeout=20)
    assert held.ask("/healthz").result(20)[0] == "503", "one too many"
    held.go.set()
    assert {one.result(20)[0] for one in probes} == {"200"}


def test_limit_long_wait_refuses_a_client_of_many_and_takes_one_of_few(held, monkeypatch):
    asked = held.waiting(AT_ONCE + FEW_OF_ONE)
    wait_until(lambda: len(held.limit._waiting) == FEW_OF_ONE)
    monkeypatch.setattr(limit, "WAIT_SECONDS", 0.0)
    assert held.ask().result(20)[0] == "503"
    asked += held.waiting(1, client="192.0.2.2")
    held.go.set()
    assert {one.result(20)[0] for one in asked} == {"200"}


def test_limit_large_bodies_beyond_the_room_are_refused_and_small_ones_are_not(held):
    class Stalled(io.RawIOBase):
        def read(self, size=-1):
            assert held.go.wait(60)
            raise BlockingIOError

    large = held.waiting(2, body=Stalled(), length=LARGEST_BODY - 5000)
    assert held.ask(body=b"x" * (SMALL_BODY + 1)).result(20)[0] == "503"
    small = held.waiting(1, body=b"{}")
    held.go.set()
    assert [one.result(20)[0] for one in large] == ["408", "408"]
    assert small[0].result(20)[0] == "200" and not held.limit._taken


def test_a_file_that_is_gone_is_no_fault_of_the_clients(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    with serve(tmp_path / "data", workers=1) as server:
        style = re.search(r'/static/[^"]*css', server.request("GET", "/").body.decode())[0]
        shutil.rmtree(tmp_path / "data" / "static")
        answer = server.request("GET", style, headers={"Accept-Encoding": "gzip"})
        assert answer.status == 500 and json.loads(answer.body)["error"]["code"] == "internal"
        assert server.request("GET", "/").status == 200


def test_a_slow_client_is_answered_in_the_end(server):
    body = json.dumps(ONE).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        request = PREDICT.replace(b"5000", str(len(body)).encode()) + body
        for start in range(0, len(request), 20):
            client.sendall(request[start : start + 20])
            time.sleep(0.02)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 200 and json.loads(answer.read())["verdict"] == "digit"


def test_a_client_that_asks_first_whether_to_send_its_body_is_told_to(server):
    body = json.dumps(ONE).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        head = PREDICT.replace(b"5000", str(len(body)).encode())
        client.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        with http.client.HTTPResponse(client) as answer:
            answer.begin()
            assert answer.status == 200


@pytest.fixture
def impatient(prepared, tmp_path):
    """A server with one worker that gives up a client after a second."""
    shutil.copytree(prepared, tmp_path / "data")
    with serve(tmp_path / "data", workers=1, then="from webapp import serving; serving.STALL_SECONDS = 1") as server:
        yield server


def test_a_request_that_does_not_arrive_is_given_up(impatient):
    address = "127.0.0.1", impatient.port
    with socket.create_connection(address, timeout=20) as head, socket.create_connection(address, timeout=20) as body:
        head.sendall(PREDICT[:30])
        body.sendall(PREDICT)
        answer = http.client.HTTPResponse(body)
        answer.begin()
        assert answer.status == 408 and json.loads(answer.read())["error"]["code"] == "too_slow"
        assert body.recv(10) == b"", "what follows would be taken for a request"
        assert head.recv(10) == b""
    assert "Traceback" not in impatient.log.read_text()


def test_many_requests_over_one_connection_are_answered_in_order(server):
    paths = ["/healthz", "/nothing"] * 500
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client, client.makefile("rb") as answers:
        client.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() for path in paths))
        found = []
        for _ in paths:
            found.append(int(answers.readline().split()[1]))
            headers = http.client.parse_headers(answers)
            answers.read(int(headers["Content-Length"]))
    assert found == [200, 404] * 500


def test_who_waits_when_the_server_is_told_to_end_is_still_answered(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    with serve(tmp_path / "data", workers=1) as server, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)) for _ in range(8)
        ]
        request = PREDICT.replace(b"5000", str(len(MANY)).encode()) + MANY
        clients[0].sendall(request[:-1])
        for client in clients[1:]:
            client.sendall(request)
        server.process.send_signal(signal.SIGTERM)
        assert [client.recv(12) for client in clients[1:]] == [b"HTTP/1.1 200"] * 7
        clients[0].sendall(request[-1:])
        assert [client.recv(12) for client in clients[:1]] == [b"HTTP/1.1 200"]
        assert server.process.wait(20) == 0
