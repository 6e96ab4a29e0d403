"""What deploy/nginx keeps from Inkling, what it lets through, and what it answers itself."""

import http.client
import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import PASSWORD
from tests.support.cluster import DEPLOY, HOST, Browser, Load
from tests.support.requests import ONE
from tests.support.servers import wait_until
from webapp.auth import ATTEMPTS_PER_ADDRESS
from webapp.corrections import digit_files
from webapp.http.pictures import MAX_BODY_BYTES
from webapp.middleware.headers import security_headers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PREDICT = f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n".encode()
BROWSER = {"Accept": "text/html,*/*;q=0.8"}


def assert_from_nginx(answer, status, code):
    """An error in the shape of Inkling's own, with all its headers."""
    assert (answer.status, answer.headers.get_content_type()) == (status, "application/json"), answer.body
    assert answer.json["error"]["code"] == code and answer.json["error"]["message"].endswith(".")
    headers = security_headers(https=True) | {"Cache-Control": "no-store", "Server": "nginx"}
    assert {name: answer.headers.get_all(name) for name in headers} == {name: [it] for name, it in headers.items()}


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (PREDICT + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (PREDICT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "bad_request"),
        (PREDICT + b"Host: elsewhere.example\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
        (PREDICT + b"X-Long: " + b"a" * 9_000 + b"\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "address_too_long"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "bad_request"),
    ],
    ids=["length and chunks", "two lengths", "two hosts", "9 kB header", "9 kB address", "TLS in TLS"],
)
def test_nginx_ambiguous_request_is_refused(cluster, head, status, code):
    answer = cluster.raw(head)
    assert_from_nginx(answer, status, code)
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("size", [1_000, MAX_BODY_BYTES * 2])
def test_nginx_chunked_body_is_refused(cluster, size):
    head = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n"
    assert_from_nginx(cluster.raw(head, b"%x\r\n" % size), 411, "length_required")


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/predict", MAX_BODY_BYTES),
        ("/feedback", MAX_BODY_BYTES),
        ("/admin/corrections/import", digit_files.MAX_FILE_BYTES + 4096),
    ],
)
def test_nginx_body_within_the_limits_passes(cluster, path, limit):
    within = cluster.ask("POST", path, b" " * limit)
    assert within.status not in (413, 502) and within.json["error"]["code"] != "body_too_large"
    length = {"Content-Length": str(10**9)}
    assert_from_nginx(cluster.ask("POST", path, b"", length), 413, "body_too_large")


def test_nginx_metrics_are_hidden_and_errors_are_pages(cluster):
    assert_from_nginx(cluster.ask("GET", "/metrics", headers={"X-Request-ID": "a" * 65}), 404, "not_found")
    page = cluster.ask("GET", "/metrics", headers=BROWSER | {"X-Request-ID": "mine-1"})
    assert (page.status, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing at this address." in page.body.decode()
    assert page.headers["X-Request-ID"] == "mine-1"


def test_nginx_plain_http_redirects_to_the_own_name(cluster):
    connection = http.client.HTTPConnection("127.0.0.1", cluster.http_port, timeout=10)
    connection.request("GET", "/gallery?digit=7", headers={"Host": "elsewhere.example"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{HOST}/gallery?digit=7")
    assert answer.headers["Server"] == "nginx"
    connection.close()


def test_nginx_without_replica_answers_and_logs_no_receipt(cluster):
    kept = cluster.ask("POST", "/feedback", ONE | {"meant": 1}, address="127.0.2.1")
    receipt = kept.json["receipt"]
    assert cluster.ask("GET", receipt).status == 200
    for replica in cluster.replicas:
        replica.kill()
    answer = cluster.ask("POST", "/predict", ONE)
    assert answer.status in (502, 503)
    assert_from_nginx(answer, answer.status, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert_from_nginx(cluster.ask("GET", "/static/nothing.css"), 502, "unavailable")
    assert b"Draw a digit" in cluster.ask("GET", receipt, headers=BROWSER).body
    logged = [(line["method"], line["path"], line["status"]) for line in cluster.access_log()]
    assert ("GET", "/receipts/...", 200) in logged and ("POST", "/predict", answer.status) in logged
    logs = cluster.logs() + cluster.nginx.log.read_text() + (cluster.nginx.folder / "access.log").read_text()
    assert "connect() failed" in logs and receipt.rpartition("/")[2] not in logs


def test_nginx_wrong_passwords_are_counted_over_replicas(cluster):
    def ask(*request):
        return cluster.ask(*request, address="127.0.2.2")

    browser, seen = Browser(ask), len(cluster.access_log())
    statuses = [
        browser.sign_in(
            f"wrong {number}",
            **{"X-Forwarded-For": f"10.0.0.{number}", "X-Real-IP": f"10.0.1.{number}", "Forwarded": "for=10.0.2.1"},
        ).status
        for number in range(20)
    ]
    assert statuses == [403] * ATTEMPTS_PER_ADDRESS + [429] * (20 - ATTEMPTS_PER_ADDRESS)
    assert browser.sign_in(PASSWORD).status == 429
    replicas = Counter(line["replica"] for line in cluster.access_log()[seen:])
    assert len(replicas) == 2 and min(replicas.values()) > 3, replicas
    elsewhere = Browser(lambda *request: cluster.ask(*request, address="127.0.2.3"))
    assert elsewhere.sign_in(PASSWORD).status == 303


@pytest.mark.parametrize(
    ("path", "burst"), [("/feedback", 30), ("/admin/sign-in", 20), ("/predict", 200)], ids=lambda it: str(it)
)
def test_nginx_one_client_is_held_back_alone(cluster, path, burst):
    """Each sends what Inkling answers at once; what passes nginx's limit for one client goes no further."""
    end = time.monotonic() + 60

    def send(_):
        connection, statuses = cluster.connect("127.0.2.4"), []
        while 429 not in statuses and time.monotonic() < end:
            connection.request("POST", path, b"{}", {"Host": HOST})
            response = connection.getresponse()
            body = response.read()
            statuses.append(response.status)
        connection.close()
        return statuses, response.headers["Retry-After"], body

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    statuses = Counter(status for found, *_ in answers for status in found)
    assert statuses[429] == 8 and sum(statuses.values()) - 8 >= burst
    assert {(wait, b"too_many_requests" in body) for _, wait, body in answers} == {("1", True)}
    assert cluster.ask("POST", path, b"{}", address="127.0.2.5").status not in (429, 503)


def test_nginx_slow_clients_do_not_stop_others(cluster):
    """A hundred send their header and a hundred their body byte by byte; a bare gunicorn would be waiting for them."""
    with Load(cluster, ONE) as load:
        load.wait_for(100)
        slow = [cluster.connect("127.0.2.6") for _ in range(200)]
        try:
            for number, connection in enumerate(slow):
                connection.connect()
                connection.sock.sendall(PREDICT + (b"Content-Length: 1000\r\n\r\n{" if number % 2 else b"X-Slow: "))
            load.wait_for(400)
            for connection in slow[1::2]:
                connection.sock.sendall(b" ")
            assert not load.failed
            # Who does not come to the end of a header is sent away.
            wait_until(lambda: all(was_closed(connection.sock) for connection in slow[::2]), 30)
        finally:
            for connection in slow:
                connection.close()


def was_closed(sock: socket.socket) -> bool:
    sock.settimeout(0.01)
    try:
        return not sock.recv(4096)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_nginx_configuration_repeats_nothing_and_misses_no_file():
    texts = [path.read_text() for path in (DEPLOY / "nginx").rglob("*.conf")]
    for name in re.findall(r"include inkling/([a-z_]+\.conf);", "".join(texts)):
        assert (DEPLOY / "nginx" / "inkling" / name).is_file(), name
