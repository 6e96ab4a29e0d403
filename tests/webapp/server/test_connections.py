"""A connection is read as its bytes come in, and ended without its sender losing the answer."""

import contextlib
import socket

import pytest

from webapp.server import connections
from webapp.server.connections import LONGEST_HEAD, MOST_BODY_BYTES, Connection
from webapp.server.listeners import backlog

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345"
EXPECTING = b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


@pytest.fixture
def pair():
    """A connection, and its client's end of it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    with contextlib.closing(ours), contextlib.closing(theirs):
        yield Connection(ours, None), theirs


@pytest.mark.parametrize(
    "request_",
    [GET, POST, POST.replace(b"Content-Length", b"content-LENGTH"), POST.replace(b": 5", b": 000000005")],
)
def test_request_is_whole_with_its_last_byte(pair, request_):
    connection, client = pair
    for byte in request_[:-1]:
        client.send(bytes([byte]))
        assert not connection.read()
    client.send(request_[-1:])
    assert connection.read() and connection.received == request_
    assert connection.shut_down(), "there is nothing to wait for after the answer"


def test_silent_connection_is_nothing_to_answer(pair):
    connection, _ = pair
    assert not connection.read() and not connection.received


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY_BYTES + 1),
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        b"\x16\x03\x01\x02",
        b"\r\n",
        b"get / HTTP/1.1",
        b"G" * (LONGEST_HEAD + 1),
    ],
    ids=["chunked", "both", "too long", "two lengths", "negative", "hexadecimal", "TLS", "empty", "lower case", "head"],
)
def test_request_to_be_refused_is_not_waited_for(pair, head):
    connection, client = pair
    client.send(head)
    assert connection.read()


def test_client_that_hangs_up_has_gone(pair):
    connection, client = pair
    client.send(GET[:-1])
    client.close()
    with pytest.raises(OSError):
        connection.read()


@pytest.mark.parametrize(("length", "longer"), [(5, 0), (10_000_000, 60)])
def test_large_request_has_longer_to_arrive(pair, length, longer):
    connection, client = pair
    until = connection.deadline
    client.send(b"POST /predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n1" % length)
    assert not connection.read()
    assert connection.deadline >= until + longer and (longer or connection.deadline == until)


def test_expectation_of_100_continue_is_met(pair):
    connection, client = pair
    client.send(EXPECTING)
    assert not connection.read()
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"12345")
    assert connection.read()


@pytest.mark.parametrize(
    "head",
    [
        EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0"),
        EXPECTING.replace(b"100-continue", b"200-ok"),
        EXPECTING.replace(b"Expect", b"X-Expect"),
        EXPECTING.replace(b"Length: 5", b"Length: %d" % (MOST_BODY_BYTES + 1)),
    ],
    ids=["HTTP/1.0", "another expectation", "another header", "a body that is refused"],
)
def test_expectation_of_anything_else_is_not_met(pair, head):
    connection, client = pair
    client.send(head)
    connection.read()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)


def test_rest_of_a_request_is_drained(pair):
    connection, client = pair
    client.send(POST + b"more")
    assert connection.read() and not connection.shut_down() and connection.closing
    client.send(b"still more")
    assert not connection.drain()
    client.close()
    assert connection.drain()


def test_rest_of_a_request_is_drained_up_to_a_limit(pair, monkeypatch):
    connection, client = pair
    monkeypatch.setattr(connections, "DRAINED_BYTES", 100)
    client.send(POST + b"more")
    assert connection.read() and not connection.shut_down()
    client.send(bytes(200))
    assert connection.drain()


def test_backlog_counts_connections_not_accepted():
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as clients:
        for number in range(3):
            assert backlog(listener) == number
            clients.enter_context(socket.create_connection(listener.getsockname()))
        listener.accept()[0].close()
        assert backlog(listener) == 2


def test_backlog_is_zero_where_the_system_does_not_tell(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert backlog(listener) == 0
