"""More than can be answered, and clients slower than can be waited for."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.gunicorn import serve
from tests.support.requests import ONE
from tests.support.servers import wait_until
from webapp.server.connections import Connection
from webapp.server.overload import FEWEST_WAITING, ClientShares, OverloadDetector, first_to_evict
from webapp.server.worker import PATIENCE_WITH_OTHERS, PROBES, REFUSED_AT_ONCE, Worker
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
    arguments = [sys.executable, "-m", "tests.support.load", str(server.port), str(rate), str(seconds)]
    done = subprocess.run(arguments, cwd=ROOT, input=MANY, capture_output=True, timeout=seconds + 60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused_rightly(refusal):
    head, _, body = refusal.partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    assert int(headers["Retry-After"]) >= 1 and headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store" and headers["X-Request-ID"]
    assert json.loads(body)["error"]["code"] == "overloaded"


def test_overload_is_refused_in_part_and_probes_are_answered(server):
    rate, _ = rate_and_seconds(server)
    with Probes(server):
        found = flood(server, 8 * rate, seconds=3)
    by_status = found["seconds"]
    assert set(by_status) == {"200", "503"}, {status: len(some) for status, some in by_status.items()}
    refused_rightly(found["refusal"])
    metrics = server.request("GET", "/metrics").body.decode()
    for counted in (
        'inkling_errors_total{code="overloaded"}',
        'inkling_requests_total{method="POST",route="none",status="503"}',
    ):
        assert f"{counted} {len(by_status['503'])}.0" in metrics
    assert "requests were refused: more come than can be answered" in server.log.read_text()


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_overload_of_a_minute_leaves_answers_quick(server):
    """Without refusals, those answered would wait for seconds at the end of it, and probes with them."""
    rate, usual = rate_and_seconds(server)
    before = resident(server)
    with Probes(server) as probes:
        found = flood(server, 5 * rate, seconds=60)
    by_status = found["seconds"]
    assert set(by_status) == {"200", "503"}, {status: len(some) for status, some in by_status.items()}
    answered, refused = by_status["200"], by_status["503"]
    assert len(refused) > rate * 60 and len(answered) > rate * 6
    refused_rightly(found["refusal"])
    grown = resident(server) - before
    found = {
        "capacity a second": round(rate),
        "usual p99 ms": round(quantile(usual, 0.99) * 1000),
        "answered": len(answered),
        "answered p50, p99 ms": [round(quantile(answered, part) * 1000) for part in (0.5, 0.99)],
        "refused": len(refused),
        "refused p50, p99 ms": [round(quantile(refused, part) * 1000) for part in (0.5, 0.99)],
        "probes p50, p99 ms": [round(quantile(probes.seconds, part) * 1000) for part in (0.5, 0.99)],
        "grown MB": round(grown / (1 << 20), 1),
    }
    print(json.dumps(found))
    assert grown < 30 << 20
    assert found["answered p50, p99 ms"][1] < max(2 * found["usual p99 ms"], 100), found
    assert found["refused p50, p99 ms"][0] < 50 and found["probes p50, p99 ms"][1] < 100, found
    end = time.monotonic() + 5
    while time.monotonic() < end and max(ask(server)[0] for _ in range(5)) > 2 * quantile(usual, 0.99):
        pass
    wait_until(lambda: rate_and_seconds(server, for_seconds=1.0)[0] > rate / 10, seconds=30)


def test_burst_is_answered_in_full(server):
    """A classroom that opens the page together: many at once, and then no more."""
    clients = []
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)))
            clients[-1].sendall(b"GET /healthz?not=a-probe HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers = [client.recv(12) for client in clients]
    assert answers == [b"HTTP/1.1 200"] * 60


def test_crowd_is_a_queue_that_stays():
    detector = OverloadDetector(workers=2)
    for _ in range(200):
        detector.record_answer(0.001)
    assert not detector.is_overloaded(50, now=0), "answered in 25 ms"
    assert not detector.is_overloaded(60, now=0.1), "perhaps a burst"
    assert not detector.is_overloaded(60, now=0.3)
    assert detector.is_overloaded(60, now=0.5), "it does not pass"
    assert not detector.is_overloaded(50, now=0.51)
    assert detector.is_overloaded(60, now=0.7), "it is still there"
    assert not detector.is_overloaded(50, now=0.8) and detector.is_overloaded(60, now=0.9)
    assert not detector.is_overloaded(60, now=1.3), "another one"
    assert not detector.is_overloaded(60, now=9.0), "what was seen so long ago says nothing"
    assert detector.is_overloaded(2000, now=9.01), "at no time"
    for _ in range(1000):
        detector.record_answer(5.0)
    assert not any(detector.is_overloaded(8, now) for now in (9.02, 9.2, 9.4, 9.6)), "never"
    assert [detector.is_overloaded(9, now) for now in (9.8, 10.0, 10.2)] == [False, False, True]


def test_crowd_behind_long_answers_is_seen():
    detector, found = OverloadDetector(workers=4), []
    for turn in range(20):
        found.append(detector.is_overloaded(900, now=100 + 0.4 * turn))
        detector.record_answer(0.39)
    assert not any(found[:2]) and all(found[6:])


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /predict HTTP/1.1\r\nHost: lo",
        PREDICT,
        PREDICT + b"{",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nand more of it",
        b"\r",
    ],
    ids=["head", "no body", "part of a body", "does not hang up", "half of a line's end"],
)
def test_slow_clients_hold_nobody_up(server, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            client.sendall(sent)
        assert [ask(server)[1].status for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"x", 400),
        (b"\x16\x03\x01", 400),
        (b"\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 11_000, 400),
        (PREDICT.replace(b"5000", b"0" * 30 + b"5000"), 400),
        (PREDICT.replace(b"5000", b"500000000"), 413),
        (b"GET /receipts/secret HTTP/1.1\r\nHost: localhost\r\nSCRIPT_NAME: /x\r\n\r\n", 404),
    ],
    ids=["a letter", "TLS", "a line", "lower case", "no end", "zeros", "a large body", "a header of WSGI's"],
)
def test_refusal_comes_at_once_though_the_sender_stays(server, sent, status):
    # A request that is waited for is given up after 30 s, by another status.
    with socket.create_connection(("127.0.0.1", server.port), timeout=25) as client:
        client.sendall(sent)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == status


def test_refusals_leave_a_worker_time_to_answer():
    worker, done = object.__new__(Worker), []
    worker.alive, worker._detector = True, SimpleNamespace(is_overloaded=lambda waiting, now: True, capacity=1)
    worker.cfg, worker._ready, worker._listeners = SimpleNamespace(workers=2), deque(), []
    worker._trusted_proxies, worker._shares, worker._probes = 0, ClientShares(), re.compile(PROBES % b"")
    worker._refuse = lambda one: (worker._ready.remove(one), done.append(503), one.socket.close())
    worker._answer = lambda connection: (done.append(200), connection.socket.close())
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener, contextlib.ExitStack() as clients:
        for _ in range(40):
            client = clients.enter_context(socket.create_connection(listener.getsockname()))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        listener.setblocking(False)
        for _ in range(3):
            worker._accept(listener)
            worker._serve()
    assert done[:34] == ([503] * REFUSED_AT_ONCE + [200]) * 2


@pytest.mark.parametrize(("family", "taken"), [(socket.AF_UNIX, REFUSED_AT_ONCE + 1), (socket.AF_INET, 1)])
def test_requests_on_a_unix_socket_are_counted_by_accepting_them(family, taken):
    """Linux does not tell how many wait there: no overload was noticed, and 400 clients waited two seconds each."""
    worker, _ = waiting_in_line()
    worker.alive, worker.cfg, worker._listeners = True, SimpleNamespace(workers=2), []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as clients:
        listener = clients.enter_context(socket.socket(family))
        listener.bind(f"{folder}/socket" if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen(40)
        listener.setblocking(False)
        for _ in range(2 * REFUSED_AT_ONCE):
            client = clients.enter_context(socket.socket(family))
            client.connect(listener.getsockname())
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        worker._accept(listener)
        assert len(worker._ready) == taken
        for connection in worker._ready:
            connection.socket.close()


@pytest.mark.parametrize(("received", "counted"), [(b"", []), (b"GET", [("GET", 503, "overloaded")])])
def test_connection_evicted_counts_as_a_request_only_with_a_part_of_one(received, counted):
    """A crowd of connections that said nothing was told as an overload."""
    worker, _ = waiting_in_line()
    counts = []
    worker._metrics = SimpleNamespace(count_refusal=lambda *of: counts.append(of))
    worker._render, worker._refused = lambda *of: ("HTTP/1.1 503\r\n", b""), 0
    worker._unwatch = lambda one: None
    ours, client = socket.socketpair()
    with client:
        worker._evict(Connection(ours, ("192.0.2.1", 1), received=bytearray(received)))
        assert counts == counted and worker._refused == len(counted)
        assert bool(client.recv(100)) == bool(counted)


# One client may not have it all


@contextlib.contextmanager
def crowding(server, request, number=200, address="127.0.0.2"):
    """One client that asks for this all the time, on so many connections; what it was answered, once it has ended."""
    command = [sys.executable, "-m", "tests.support.greedy_client", str(server.port), address, str(number)]
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
    """Whether at most two of ten visits had anything refused.

    Without a share for each client most of the fourteen requests of every visit are; with one, none on a free machine.
    """
    return sum(set(statuses) != {200} for statuses, _ in visits) <= len(visits) // 5


@pytest.fixture(scope="module")
def server_behind_a_proxy(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("behind") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder, HTTPS="1") as server:
        yield server


@pytest.mark.stress
@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/admin"])
def test_crowd_of_one_client_leaves_room_for_others(server, path):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
    with crowding(server, request) as answered, Probes(server):
        visits = [visited(server) for _ in range(10)]
    assert nearly_all_answered(visits)
    assert statistics.median(seconds for _, seconds in visits) < 5
    assert answered["503"] > 100, "there was a crowd"


@pytest.mark.stress
def test_crowd_behind_a_proxy_is_told_apart_by_forwarded_address(server_behind_a_proxy):
    def asking(client):
        # As nginx appends to what a client claims, were it told to.
        return {"X-Forwarded-For": f"192.0.2.99, {client}", "X-Forwarded-Proto": "https"}

    lines = [f"{name}: {value}\r\n" for name, value in asking("192.0.2.1").items()]
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{''.join(lines)}\r\n"
    with crowding(server_behind_a_proxy, request, address="127.0.0.1") as answered:
        visits = [visited(server_behind_a_proxy, asking("192.0.2.2")) for _ in range(10)]
    assert nearly_all_answered(visits)
    assert answered["503"] > 100


def waiting_in_line(*clients):
    """A worker in a crowd with a request of each of these in its line, and what it refuses."""
    worker, refused = object.__new__(Worker), []
    worker._detector, worker._shares, worker._trusted_proxies = OverloadDetector(workers=1), ClientShares(), 0
    worker._ready, worker._probes = deque(), re.compile(PROBES % b"")
    worker._refuse = lambda one: (worker._ready.remove(one), refused.append(one.client))
    for number, client in enumerate(clients):
        connection = Connection(None, (client, number))
        connection.received += b"GET / HTTP/1.1\r\n\r\n"
        worker._enqueue(connection)
    return worker, refused


@pytest.mark.parametrize(
    ("headers", "clients"),
    [
        (b"", ["peer"] * 3),
        (b"X-Forwarded-For: 192.0.2.1\r\n", ["peer", b"192.0.2.1", "peer"]),
        (b"X-Forwarded-For: 192.0.2.1, 192.0.2.2 ,192.0.2.3\r\n", ["peer", b"192.0.2.3", b"192.0.2.2"]),
        (b"X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\n", ["peer", b"192.0.2.2", b"192.0.2.1"]),
        (b"X-Forwarded-For: ,\r\n", ["peer"] * 3),
    ],
)
def test_client_behind_trusted_proxies_is_whom_the_outermost_has_seen(headers, clients):
    worker, _ = waiting_in_line()
    for worker._trusted_proxies, client in enumerate(clients):
        connection = Connection(None, ("peer", 0))
        connection.received += b"GET / HTTP/1.1\r\n" + headers + b"\r\n"
        worker._enqueue(connection)
        assert connection.client == client


def test_crowd_of_many_has_its_oldest_refused():
    worker, refused = waiting_in_line(*"abcdefghij")
    for _ in range(100):
        worker._detector.record_answer(1.0)
    worker._shed_load()
    assert refused == list("abcdef") and len(worker._ready) == FEWEST_WAITING


def test_crowd_of_one_is_refused_and_others_wait_longer():
    others = [f"other {number}" for number in range(PATIENCE_WITH_OTHERS * FEWEST_WAITING)]
    worker, refused = waiting_in_line(*(["most"] * 8), *others)
    for _ in range(100):
        worker._detector.record_answer(1.0)
    worker._shed_load()
    assert refused == ["most"] * 8 and len(worker._ready) == len(others)
    worker._enqueue(Connection(None, ("one more", 0)))
    worker._shed_load()
    assert refused[8:] == ["other 0"], "there is an end to that as well"


def test_shares_of_a_while_ago_count_no_more():
    shares = ClientShares()
    for _ in range(10):
        shares.count("often")
    shares.count("once")
    assert (shares.of("often"), shares.of("once"), shares.of("never"), shares.highest()) == (10, 1, 0, 10)
    shares.halve()
    assert (shares.of("often"), shares.of("once"), shares.highest()) == (5, 0, 5)
    for _ in range(3):
        shares.halve()
    assert shares.highest() == 0


def test_client_that_holds_most_goes_first():
    a, b1, b2 = (Connection(None, address) for address in (("a", 1), ("b", 1), ("b", 2)))
    assert first_to_evict({a: 5, b1: 3, b2: 4}) is b2
    assert first_to_evict({a: 1, b1: 1, b2: 1}) is b1
    assert first_to_evict({a: 9, b1: 3, b2: 4}) is a


@pytest.mark.stress
def test_file_that_is_gone_is_an_internal_error(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    with serve(tmp_path / "data", workers=1) as server:
        style = re.search(r'/static/[^"]*css', server.request("GET", "/").body.decode())[0]
        shutil.rmtree(tmp_path / "data" / "static")
        answer = server.request("GET", style, headers={"Accept-Encoding": "gzip"})
        assert answer.status == 500 and json.loads(answer.body)["error"]["code"] == "internal"
        assert server.request("GET", "/").status == 200


def test_request_expecting_100_continue_is_answered(server):
    body = json.dumps(ONE).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        head = PREDICT.replace(b"5000", str(len(body)).encode())
        client.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 200


@pytest.fixture(scope="module")
def impatient(prepared, tmp_path_factory):
    """A server with one worker that waits three seconds for a request, and for three connections at most."""
    folder = tmp_path_factory.mktemp("impatient") / "data"
    shutil.copytree(prepared, folder)
    patience = (
        "from webapp.server import connections, listeners, worker;"
        "connections.REQUEST_SECONDS = listeners.DEFER_ACCEPT_SECONDS = 3;"
        "worker.MOST_PENDING = 3; worker.MOST_BUFFERED_BYTES = 10_000"
    )
    with serve(folder, workers=1, then=patience) as server:
        yield server


def answered(client):
    answer = http.client.HTTPResponse(client)
    answer.begin()
    return answer.status, json.loads(answer.read())["error"]["code"], answer.headers


def test_request_that_does_not_arrive_is_given_up(impatient):
    address = "127.0.0.1", impatient.port
    with contextlib.ExitStack() as stack:
        late, first, head = (stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(3))
        late.sendall(PREDICT)
        head.sendall(b"HEAD /")
        status, code, headers = answered(late)
        assert (status, code) == (408, "too_slow") and "Retry-After" not in headers
        assert first.recv(10) == b"", "who has said nothing is told nothing"
        assert head.makefile("rb").read().endswith(b"\r\n\r\n"), "a HEAD has no body"


def test_client_slow_for_longest_makes_room(impatient):
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=20)) for _ in range(4)
        ]
        for client in clients:
            client.sendall(PREDICT)
        status, code, headers = answered(clients[0])
        assert (status, code, headers["Retry-After"]) == (503, "overloaded", "1")
        assert answered(clients[1])[:2] == (408, "too_slow"), "as late as it may be"
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=20)) for _ in range(3)
        ]
        for client in clients:
            client.sendall(PREDICT + b"{" * 4000)
        assert answered(clients[0])[:2] == (503, "overloaded"), "they have sent more than is kept for them"


@pytest.fixture(scope="module")
def narrow(prepared, tmp_path_factory):
    """A server with one worker that waits for three connections at most, as long as usual."""
    folder = tmp_path_factory.mktemp("narrow") / "data"
    shutil.copytree(prepared, folder)
    limits = "from webapp.server import worker; worker.MOST_PENDING = 3; worker.MOST_BUFFERED_BYTES = 10_000"
    with serve(folder, workers=1, then=limits) as server:
        yield server


def connected(stack, server, address):
    source, target = (address, 0), ("127.0.0.1", server.port)
    return stack.enter_context(socket.create_connection(target, timeout=20, source_address=source))


@pytest.mark.stress
def test_slow_connections_of_one_client_leave_room_for_another(narrow):
    body = json.dumps(ONE).encode()
    request = PREDICT.replace(b"5000", str(len(body)).encode()) + body
    with contextlib.ExitStack() as stack:
        first = connected(stack, narrow, "127.0.0.1")
        first.sendall(request[:-1])
        others = [connected(stack, narrow, "127.0.0.2") for _ in range(3)]
        for other in others:
            other.sendall(PREDICT)
        assert answered(others[0])[:2] == (503, "overloaded")
        first.sendall(request[-1:])
        assert first.recv(12) == b"HTTP/1.1 200", "though it came first"


@pytest.mark.stress
def test_bytes_of_one_client_leave_room_for_another(narrow):
    with contextlib.ExitStack() as stack:
        first = connected(stack, narrow, "127.0.0.1")
        first.sendall(PREDICT + b"{" * 4500)
        others = [connected(stack, narrow, "127.0.0.2") for _ in range(2)]
        for other in others:
            other.sendall(PREDICT + b"{" * 3000)
        assert answered(others[0])[:2] == (503, "overloaded")
        first.sendall(b"}" * 500)
        assert first.recv(12) == b"HTTP/1.1 400", "though it has sent most at once"


BROWSER = b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
SCRIPT = b"Accept: application/json, text/html;q=0.9\r\n"
LATE = b"GET / HTTP/1.1\r\n", b"Content-Length: 5\r\n\r\n", 408
REFUSED = [
    (b"GET / HTTP/1.1\r\n", b"Bad header: 1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n", b"X: " + b"x" * 9000 + b"\r\n\r\n", 431),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n", b"\r\n", 414),
]
ACCEPTED = {
    BROWSER.lower(): True, b"": False, b"Accept: */*\r\n": False, b"Accept: " + b"text/html," * 700 + b"\r\n": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "is_page", "line", "headers", "status"),
    [(accept, accept == BROWSER, *refused) for refused in REFUSED for accept in (BROWSER, SCRIPT)]
    + [(BROWSER, True, *LATE)]
    + [(accept, is_page, *REFUSED[0]) for accept, is_page in ACCEPTED.items()],
)
def test_refusal_is_a_page_for_a_browser(impatient, accept, is_page, line, headers, status):
    answer = impatient.raw(line + b"Host: localhost\r\n" + accept + headers)
    assert answer.status == status
    if not is_page:
        assert set(json.loads(answer.body)["error"]) == {"code", "message"}
        return
    text = answer.body.decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8" and f"Error {status}" in text
    style = re.search(r'href="(/static/[^"]*css)"', text)[1]
    assert impatient.request("GET", style).status == 200
    assert "<style" not in text and "style=" not in text and answer.headers["Content-Security-Policy"]


def test_refusal_in_a_crowd_is_a_page_for_a_browser(impatient):
    with contextlib.ExitStack() as stack:
        clients = [connected(stack, impatient, "127.0.0.1") for _ in range(4)]
        for client in clients:
            client.sendall(PREDICT.replace(b"\r\n\r\n", b"\r\n" + BROWSER + b"\r\n"))
        answer = http.client.HTTPResponse(clients[0])
        answer.begin()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.headers.get_content_type() == "text/html" and "The server is busy" in answer.read().decode()


def test_requests_waiting_on_a_unix_socket_at_the_end_are_answered(prepared, tmp_path):
    """Linux does not tell how many wait there: all but the one at hand were lost."""
    shutil.copytree(prepared, tmp_path / "data")
    request = PREDICT.replace(b"5000", str(len(MANY)).encode()) + MANY
    with contextlib.ExitStack() as stack:
        path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/web"

        def connect():
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(20)
            client.connect(path)
            return client

        server = stack.enter_context(serve(tmp_path / "data", workers=1, ready=False, HOST=f"unix:{path}"))
        wait_until(lambda: os.path.exists(path) and os.stat(path).st_mode & 0o666 == 0o666)
        first = connect()
        first.sendall(request)
        assert first.recv(12) == b"HTTP/1.1 200"  # the worker has started
        clients = [connect() for _ in range(30)]
        for client in clients:
            client.sendall(request)
        server.process.send_signal(signal.SIGTERM)
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 200"] * 30
        assert server.process.wait(20) == 0


def test_requests_waiting_at_the_end_are_answered(prepared, tmp_path):
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
