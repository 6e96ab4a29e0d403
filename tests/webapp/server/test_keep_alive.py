"""A connection is kept for further requests, unless either side cannot or will not use it again."""

import http.client
import json
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.support.gunicorn import serve
from tests.support.requests import ONE
from webapp.server.connections import MOST_BODY_BYTES

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = json.dumps(ONE).encode()
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
LIMITS = "from webapp.server import connections, worker; connections.IDLE_SECONDS = 3; worker.MOST_PENDING = 3"


@pytest.fixture(scope="module")
def server(prepared, tmp_path_factory):
    """One worker that keeps three connections, each for three seconds."""
    folder = tmp_path_factory.mktemp("kept") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder, workers=1, then=LIMITS) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def connect(server):
    opened = []

    def connect():
        opened.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def answer(client, request):
    client.sendall(request)
    found = http.client.HTTPResponse(client, method=request.partition(b" ")[0].decode())
    found.begin()
    found.read()
    return found.status, found.headers["Connection"]


def has_ended(client):
    """Whether the server ends the connection, and says nothing before; waits for that."""
    return client.recv(1) == b""


def test_connection_answers_one_request_after_the_other(connect):
    client = connect()
    style = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for request, status in [(GET, 200), (POST % (len(BODY), BODY), 200), (head, 200), (style, 404), (GET, 200)]:
        assert answer(client, request) == (status, "keep-alive")


def test_kept_connection_takes_a_request_in_pieces(connect):
    client = connect()
    assert answer(client, GET) == (200, "keep-alive")
    for byte in GET[:-1]:
        client.sendall(bytes([byte]))
    assert answer(client, GET[-1:]) == (200, "keep-alive")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 200),
        (GET.replace(b"1.1", b"1.0"), 200),
        (GET + GET, 200),
        (POST % (MOST_BODY_BYTES + 1, b""), 413),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (POST % (10**18, b"GET"), 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nGET", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -3\r\n\r\nGET", 400),
    ],
    ids=[
        "asked to", "HTTP/1.0", "two at once", "a body not read", "chunks", "19 digits", "two lengths", "below zero",
    ],
)  # fmt: skip
def test_connection_ends_after_the_answer(connect, request_, status):
    client = connect()
    assert answer(client, request_) == (status, "close")
    client.shutdown(socket.SHUT_WR)
    assert has_ended(client)


def test_idle_connection_ends_without_a_word(connect):
    client = connect()
    assert answer(client, GET) == (200, "keep-alive")
    assert has_ended(client)


def test_idle_connections_make_room_for_requests_first(connect):
    arriving = connect()
    arriving.sendall(POST % (len(BODY), BODY[:-1]))
    idle = [connect() for _ in range(3)]
    for client in idle:
        assert answer(client, GET) == (200, "keep-alive")
    assert has_ended(idle[0])
    assert answer(arriving, BODY[-1:]) == (200, "keep-alive")


def test_kept_connections_that_ask_all_the_time_leave_room_for_new_ones(server):
    many, stop = json.dumps({"images": [ONE["image"]] * 4}).encode(), threading.Event()

    def ask():
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        with closing(client):
            while not stop.is_set():
                try:
                    client.request("POST", "/predict", many, {"Content-Type": "application/json"})
                    client.getresponse().read()
                except ConnectionError:  # closed over the limit of three, or idle for too long, just before it was used
                    client.close()

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            found = [server.request("GET", "/nothing").status for _ in range(10)]
        finally:
            stop.set()
    assert found == [404] * 10 and not any(one.exception() for one in asking)


@pytest.mark.stress
def test_server_told_to_end_says_so_on_kept_connections(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    with serve(tmp_path / "data", workers=1) as server:
        busy, idle = (socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(2))
        with busy, idle:
            assert answer(busy, GET) == answer(idle, GET) == (200, "keep-alive")
            server.process.send_signal(signal.SIGTERM)
            while (found := answer(busy, GET)) == (200, "keep-alive"):
                pass
            assert found == (200, "close")
            assert has_ended(idle)
        assert server.process.wait(20) == 0
