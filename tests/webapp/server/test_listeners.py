"""Where the web server listens: IPv4, IPv6, and Unix sockets; and who is then taken for the client."""

import os
import signal
import socket
import stat
import tempfile
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.gunicorn import serve
from tests.support.make_run import Running
from tests.support.servers import wait_until
from webapp.server import listeners
from webapp.server.listeners import AddressError


@pytest.fixture
def path():
    """A path for a Unix socket, for which pytest's own may be too long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "web.sock")


def at(settings, host):
    return replace(settings, host=host, port=0)


def ask(address, request=b"GET /healthz HTTP/1.0\r\n\r\n"):
    family = socket.AF_INET6 if isinstance(address, tuple) else socket.AF_UNIX
    with closing(socket.socket(family)) as client:
        client.settimeout(60)
        client.connect(address)
        client.sendall(request)
        return client.makefile("rb").read()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::"])
def test_listen_address_of_this_machine_is_bound(settings, host):
    listeners.check(at(settings, host))
    with listeners.listen(at(settings, host)) as listener:
        assert listener.getsockname()[1] > 0
        assert listener.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)


@pytest.mark.parametrize("begin", [listeners.listen, listeners.check])
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "nosuch.invalid", "a" * 64, "fe80::1"])
def test_listen_foreign_address_is_refused_by_name(settings, begin, host):
    with pytest.raises(AddressError, match=f"^HOST {host} is no address of this machine"):
        begin(at(settings, host))


def test_listen_port_in_use_is_refused(settings):
    with listeners.listen(at(settings, "127.0.0.1")) as first, pytest.raises(AddressError, match="set PORT$"):
        listeners.listen(replace(settings, port=first.getsockname()[1]))


def test_listen_on_a_unix_socket_lets_other_users_connect(settings, path):
    with listeners.listen(at(settings, f"unix:{path}")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        for begin in (listeners.listen, listeners.check):  # in use: it is not taken over
            with pytest.raises(AddressError, match="another server listens there"):
                begin(at(settings, f"unix:{path}"))


@pytest.mark.parametrize("begin", [listeners.listen, listeners.check])
def test_listen_unix_socket_left_by_a_killed_server_is_replaced(settings, path, begin):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with begin(at(settings, f"unix:{path}")) or nullcontext():
        assert path.exists() == (begin is listeners.listen)


@pytest.mark.parametrize("begin", [listeners.listen, listeners.check])
@pytest.mark.parametrize("place", ["a file", "nowhere"])
def test_listen_impossible_unix_socket_is_refused(settings, path, begin, place):
    if place == "a file":
        path.write_text("precious")
    else:
        path = path / "below" / "web.sock"
    with pytest.raises(AddressError, match=f"^HOST unix:{path} cannot be used: "):
        begin(at(settings, f"unix:{path}"))
    assert place == "nowhere" or path.read_text() == "precious"


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 80), ("192.0.2.1", 80)),
        (("::ffff:192.0.2.1", 80, 0, 0), ("192.0.2.1", 80)),
        (("2001:db8::1", 80, 0, 0), ("2001:db8::1", 80)),
        ("", ""),
        (b"\0abstract", ""),
    ],
)
def test_peer_of_a_connection_is_its_address(address, peer):
    assert listeners.peer(address) == peer


def test_server_on_ipv6_answers_both_protocols_and_tells_what_is_missing(settings, tmp_path):
    """IPv4 clients of `::` come as ::ffff:127.0.0.1, which is a process of this machine all the same."""
    with serve(settings.data_dir, workers=1, HOST="::", MNIST_DIR=str(tmp_path / "nothing")) as server:
        assert f"MNIST is not in {tmp_path}/nothing" in server.log.read_text()
        assert server.request("GET", "/metrics").status == 200
        assert b" 200 OK" in ask(("::1", server.port), b"GET /metrics HTTP/1.0\r\n\r\n")


@pytest.mark.timeout(240)
def test_run_on_a_unix_socket_outlives_its_web_server(settings, tmp_path, path):
    """gunicorn removes the file of its socket at its end: the one started again listened where nobody could connect."""
    running = Running(settings.data_dir, tmp_path / "log")
    running.environ |= {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1", "WEB_CONCURRENCY": "1"}
    try:
        running.start()
        wait_until(lambda: running.pids("gunicorn") and b"200 OK" in ask(str(path)), 120)
        assert b"canvas" in ask(str(path), b"GET / HTTP/1.0\r\n\r\n")
        # A process on this machine, but perhaps a proxy for others: metrics need a token.
        assert b" 401 " in ask(str(path), b"GET /metrics HTTP/1.0\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n")
        assert b" 401 " in ask(str(path), b"GET /metrics HTTP/1.0\r\n\r\n")
        (master, *_) = running.pids("gunicorn")
        os.kill(master, signal.SIGTERM)
        wait_until(lambda: running.pids("gunicorn") and master not in running.pids("gunicorn"), 120)
        assert b"200 OK" in ask(str(path))
    finally:
        running.end()
