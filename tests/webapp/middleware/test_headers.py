"""The headers of every answer, whichever part gives it, and what a failure shows of itself."""

import json
import logging
import re
import shutil
from dataclasses import replace

import pytest

from tests.support.gunicorn import serve
from tests.support.requests import CODE, INTERNALS, ONE, assert_error
from webapp.app import create_app
from webapp.http.pictures import MAX_BODY_BYTES
from webapp.settings import ROOT
from webapp.views import draw

BROWSER = {"Accept": "text/html"}


VERSION = re.compile(r"gunicorn|werkzeug|python/|flask|whitenoise|sqlalchemy|\d+\.\d+\.\d+", re.I)


def assert_secured(response):
    headers = response.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"] and "*" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    # "no-referrer" would make forms fail behind TLS; the address of a receipt is a secret
    assert headers["Referrer-Policy"] in ("same-origin", "no-referrer")
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-ID"])
    assert not [name for name, _ in headers.items() if name.startswith("Access-Control") or name == "Server"]
    assert not [name for name, value in headers.items() if name != "Content-Type" and VERSION.search(value)]
    assert "charset" in headers.get("Content-Type", "") or not headers.get("Content-Type", "").startswith("text/")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/admin", 303),
        ("POST", "/admin/sign-in", 400),
        ("POST", "/admin/retrain", 401),
        ("GET", "/static/../webapp/auth.py", 404),
        ("GET", "/static/%2e%2e/webapp/auth.py", 404),
        ("POST", "/", 405),
        ("POST", "/predict", 415),
    ],
)
@pytest.mark.parametrize("headers", [{}, BROWSER], ids=["script", "browser"])
def test_answer_to_any_request_is_secured_and_not_kept(reader, method, path, status, headers):
    response = reader.open(path, method=method, headers=headers)
    assert response.status_code == status
    assert_secured(response)
    assert response.headers["Cache-Control"] in ("no-cache", "no-store")
    assert "Strict-Transport-Security" not in response.headers  # only behind TLS


def test_predict_answer_is_secured(reader):
    for body, status in ((None, 200), (b" " * (MAX_BODY_BYTES + 1), 413)):
        options = {"json": ONE} if body is None else {"data": body, "content_type": "application/json"}
        response = reader.post("/predict", **options)
        assert response.status_code == status
        assert_secured(response)


SECRET = f"hunter2 in {ROOT}/secret.py"


@pytest.fixture
def broken(client, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(draw, "render_template", fail)
    monkeypatch.setattr(draw, "find_writing", fail)
    return client


def test_failure_is_logged_and_shows_nothing(broken, caplog):
    with caplog.at_level(logging.ERROR):
        answers = broken.post("/predict", json=ONE), broken.get("/"), broken.get("/", headers=BROWSER)
    for response in answers:
        assert response.status_code == 500
        assert_secured(response)
        assert "hunter2" not in response.text and not INTERNALS.search(response.text)
    assert_error(answers[0], 500, "internal")
    assert answers[2].mimetype == "text/html" and "Something went wrong" in answers[2].text
    assert caplog.text.count(f"RuntimeError: {SECRET}") == 3 and "unexpected error at POST /predict" in caplog.text


def test_page_has_no_inline_script_or_style(reader):
    for path in ("/", "/admin/sign-in", "/nothing"):
        page = reader.get(path, headers=BROWSER).text.lower()
        assert "<style" not in page and "style=" not in page and "javascript:" not in page and " onclick=" not in page
        assert page.count("<script") == page.count('<script type="module" src="/static/')


def test_static_file_of_another_build_is_not_found(reader):
    assert_error(reader.get("/static/000000000000/css/base.css"), 404, "not_found")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


def test_method_of_any_address_is_answered_securely(shared_app, reader):
    """With nothing that these addresses want, so that most of it is refused."""
    rules = [rule.rule for rule in shared_app.url_map.iter_rules()]
    assert len(rules) > 30
    statuses = set()
    for rule in rules:
        path = re.sub(r"<int:\w+>", "999999", re.sub(r"<(path:)?\w+>", "x", rule))
        for method in METHODS:
            response = reader.open(path, method=method)
            assert_secured(response)
            statuses.add(response.status_code)
            if response.status_code >= 400 and method != "HEAD":
                assert response.status_code < 500, (method, rule)
                error = response.get_json()["error"]
                assert CODE.fullmatch(error["code"]) and not VERSION.search(error["message"]), (method, rule)
                assert not INTERNALS.search(response.text) and response.cache_control.no_store
    assert statuses >= {200, 303, 400, 401, 404, 405, 415}


def test_answer_behind_tls_demands_tls(settings):
    client = create_app(replace(settings, https=True, trusted_proxies=1)).test_client()
    secure = {"base_url": "https://localhost"}
    static = client.application.jinja_env.globals["asset"]("css/base.css")
    for path in ("/", "/nothing", "/predict", "/healthz", static):
        with client.get(path, **secure) as response:
            assert_secured(response)
            assert response.headers["Strict-Transport-Security"].startswith("max-age=31536000")


# What is answered on the wire: by the application, by the server for it, and in place of either

BREAKING = """
from webapp.middleware.access_log import AccessLogMiddleware
from webapp.views import draw
draw.render_template = None
answer = AccessLogMiddleware.__call__
def break_off(self, environ, start_response):
    if environ["PATH_INFO"] == "/beneath":
        raise RuntimeError("hunter2")
    return answer(self, environ, start_response)
AccessLogMiddleware.__call__ = break_off
"""


@pytest.fixture(scope="module")
def server(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wired") / "data"
    shutil.copytree(prepared, folder)
    with serve(folder, workers=1, then=BREAKING) as server:
        yield server


HEAD = b"%s HTTP/1.1\r\nHost: localhost\r\n"
POST = HEAD % b"POST /predict" + b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (HEAD % b"GET /healthz" + b"\r\n", 200, None),
        (HEAD % b"GET /admin" + b"Accept: text/html\r\n\r\n", 303, None),
        (HEAD % b"GET /nothing" + b"\r\n", 404, "not_found"),
        (HEAD % b"DELETE /healthz" + b"\r\n", 405, "method_not_allowed"),
        (HEAD % b"POST /predict" + b"Content-Length: 2\r\n\r\n{}", 415, "not_json"),
        (POST + b"Content-Length: 2\r\n\r\n{}", 400, "no_image"),
        (POST + b"Content-Length: 99999999\r\n\r\n", 413, "body_too_large"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, "length_required"),
        (HEAD % b"GET /" + b"\r\n", 500, "internal"),
        (HEAD % b"GET /beneath" + b"\r\n", 500, "internal"),
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (HEAD % b"GET /" + b"Bad header: 1\r\n\r\n", 400, "malformed"),
        (HEAD % b"GET /" + b"X: " + b"x" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (HEAD % (b"GET /" + b"x" * 9000) + b"\r\n", 414, "address_too_long"),
        (POST + b"Transfer-Encoding: br, chunked\r\n\r\n", 501, "unknown_coding"),
        (POST + b"Expect: miracles\r\nContent-Length: 0\r\n\r\n", 417, "expectation_failed"),
    ],
)
def test_answer_on_the_wire_is_secured(server, request_, status, code):
    answer = server.raw(request_)
    assert answer.status == status
    assert_secured(answer)
    assert answer.headers["Date"]
    if code:
        assert json.loads(answer.body)["error"]["code"] == code
        assert answer.headers["Cache-Control"] == "no-store" and answer.headers.get_content_type() == "application/json"
        assert not INTERNALS.search(answer.body.decode()) and not VERSION.search(answer.body.decode())


def test_static_file_on_the_wire_is_secured(server, shared_app):
    path = shared_app.jinja_env.globals["asset"]("css/base.css")
    whole = server.request("GET", path)
    assert_secured(whole)
    known = {"If-None-Match": whole.headers["ETag"]}
    for method, headers, status, body in (
        ("GET", known, 304, b""),
        ("GET", {"Range": "bytes=0-9"}, 206, whole.body[:10]),
        ("GET", {"Range": "bytes=9999999-"}, 416, b""),
        ("HEAD", {}, 200, b""),
    ):
        answer = server.request(method, path, headers=headers)
        assert_secured(answer)
        assert (answer.status, answer.body) == (status, body)
    refused = server.request("POST", path)
    assert_secured(refused)
    assert refused.status == 405 and set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert json.loads(refused.body)["error"]["code"] == "method_not_allowed"


def test_fault_is_in_the_log_without_address_or_path(server):
    answer = server.request("GET", "/beneath")
    number = answer.headers["X-Request-ID"]
    server.request("GET", "/" + "secret" * 2000)
    server.raw(b"GET / HTTP/1.1\r\nsecret header: secret\r\n\r\n")
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    faults = [line for line in lines if line["level"] == "error" and line["logger"] == "webapp.server.worker"]
    assert "RuntimeError: hunter2" in faults[-1]["exception"] and faults[-1]["request"] == number
    assert "secret" not in server.log.read_text() and "127.0.0.1" not in server.log.read_text()
