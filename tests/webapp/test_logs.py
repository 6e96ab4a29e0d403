"""One line of JSON for each request and each event, and no secret in any of them."""

import io
import json
import logging
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import PASSWORD, TOKEN
from tests.support.administrator import sign_in
from tests.support.requests import ONE
from webapp import logs
from webapp.app import create_app
from webapp.logs import JsonLines
from webapp.views import draw

HEX = re.compile(r"[0-9a-f]{16}")
SCRIPT = {"Authorization": f"Bearer {TOKEN}"}


class Log:
    """All that our process would have written to its error output."""

    def __init__(self):
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(JsonLines({}))

    @property
    def text(self):
        return self._stream.getvalue()

    @property
    def lines(self):
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def requests(self):
        return [line for line in self.lines if line["logger"] == "webapp.requests"]


@pytest.fixture
def log():
    log = Log()
    logging.getLogger().addHandler(log.handler)
    yield log
    logging.getLogger().removeHandler(log.handler)


def test_log_of_a_reading_is_one_line(client, log):
    answer = client.post("/predict", json=ONE)
    (line,) = log.lines
    assert line["level"] == "info" and line["request"] == answer.headers["X-Request-ID"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/predict", 200)
    assert (line["version"], line["verdict"]) == (answer.json["version"], answer.json["verdict"])
    assert line["bytes"] == len(answer.data) and 0 < line["ms"] < 60_000
    assert datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "path", "status", "route", "code"),
    [
        ("GET", "/", 200, "/", None),
        ("GET", "/healthz", 200, "/healthz", None),
        ("GET", "/nothing/that/is-secret", 404, "none", "not_found"),
        ("GET", "/receipts/is-secret", 404, "/receipts/<secret>", "no_receipt"),
        ("DELETE", "/healthz", 405, "none", "method_not_allowed"),
        ("POST", "/predict?is-secret", 415, "/predict", "not_json"),
        ("POST", "/admin/retrain", 401, "/admin/retrain", "not_signed_in"),
        ("GET", "/static/is-secret.js", 404, "/static/<path:name>", "not_found"),
    ],
)
def test_log_names_the_rule_and_not_the_path(reader, log, method, path, status, route, code):
    answer = reader.open(path, method=method)
    (line,) = log.requests
    assert (line["method"], line["route"], line["status"], line.get("code")) == (method, route, status, code)
    assert answer.status_code == status
    assert "is-secret" not in log.text


def test_log_of_static_files_names_one_route(shared_app, reader, log):
    reader.get(shared_app.jinja_env.globals["asset"]("css/base.css")).close()
    (line,) = log.requests
    assert (line["route"], line["status"]) == ("/static/<path:name>", 200)
    assert line["bytes"] > 1000


@pytest.mark.parametrize("number", ["a", "7b3f", "A-1" * 20, "x" * 64])
def test_request_id_of_the_caller_is_taken_over(reader, log, number):
    assert reader.get("/healthz", headers={"X-Request-ID": number}).headers["X-Request-ID"] == number
    assert log.requests[0]["request"] == number


@pytest.mark.parametrize("number", ["", "x" * 65, "a b", 'a"b', "a_b", "é", "a,b", "a\tb", "٣"])
def test_request_id_malformed_is_replaced(reader, number):
    given = {"X-Request-ID": number.encode().decode("latin-1")}
    answers = [reader.get(path, headers=given).headers["X-Request-ID"] for path in ("/healthz", "/nothing")]
    assert all(map(HEX.fullmatch, answers)) and answers[0] != answers[1]


def test_log_lines_of_a_request_have_its_id_and_an_exception_is_on_the_line(client, log, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(draw, "find_writing", fail)
    answer = client.post("/predict", json=ONE)
    event, request = log.lines
    assert event["request"] == request["request"] == answer.headers["X-Request-ID"]
    assert event["level"] == request["level"] == "error"
    assert event["exception"].startswith("Traceback") and "RuntimeError: two\nlines" in event["exception"]
    assert (request["status"], request["code"]) == (500, "internal")
    logging.getLogger("webapp").warning("after it")
    assert "request" not in log.lines[-1]


def test_sign_ins_and_promotions_are_logged_by_a_digest_of_the_address(client, log):
    assert sign_in(client, "not the password").status_code == 403
    assert sign_in(client).status_code == 303
    events = [line for line in log.lines if line["logger"] == "webapp.views.sign_in"]
    assert [(line["level"], line["message"]) for line in events] == [
        ("warning", "a sign-in failed"),
        ("info", "administrator signed in"),
    ]
    assert len({line["client"] for line in events}) == 1 and HEX.match(events[0]["client"] + "0000")
    assert client.post("/admin/versions/1/promote", json={"reason": "a test"}, headers=SCRIPT).status_code == 200
    assert "v1 promoted by script" in [line["message"] for line in log.lines]
    assert "127.0.0.1" not in log.text


def test_log_never_has_a_secret(client, log):
    sent = client.post("/feedback", json=ONE | {"meant": 1})
    receipt = sent.json["receipt"].rpartition("/")[2]
    client.get(f"/receipts/{receipt}")
    client.post(f"/receipts/{receipt}/delete")
    client.delete(f"/receipts/{receipt}")
    client.post("/predict", json=ONE | {"image": ONE["image"] + "!"})
    client.post("/predict", data=b"\xff" + ONE["image"].encode(), content_type="application/json")
    sign_in(client, "hunter2 is wrong")
    sign_in(client)
    name = client.application.config["SESSION_COOKIE_NAME"]
    cookie, browser = client.get_cookie(name).value, client.get_cookie(f"{name}-browser").value
    client.get("/admin", headers=SCRIPT)
    client.post("/admin/retrain", json={"preset": ONE["image"]}, headers=SCRIPT)
    client.post("/admin/retrain", json={}, headers={"Authorization": "Bearer hunter2-is-no-token"})
    client.get("/admin/versions/hunter2", headers={"Referer": f"/receipts/{receipt}", "User-Agent": "hunter2"})
    assert len(log.requests) >= 10
    picture = ONE["image"].partition(",")[2]
    pictures, cookies = (picture[:40], picture[-40:]), (cookie, cookie[:20], browser)
    for secret in (receipt, *pictures, "hunter2", PASSWORD, TOKEN, *cookies, "127.0.0.1"):
        assert secret not in log.text


def test_lines_of_a_run_carry_its_number(log):
    log.handler.setFormatter(JsonLines({"run": 3, "attempt": 2}))
    logging.getLogger("webapp").warning("%s of %s", 1, 2)
    (line,) = log.lines
    assert (line["run"], line["attempt"], line["message"]) == (3, 2, "1 of 2")


@pytest.fixture
def requests_logger():
    logger = logging.getLogger("webapp.requests")
    yield logger
    logger.setLevel(logging.NOTSET)


def test_terminal_is_told_of_failures_alone(client, log, requests_logger, monkeypatch):
    monkeypatch.setenv(logs.TERMINAL, "1")
    logs.set_up_logging()
    client.get("/")
    assert log.requests == []
    monkeypatch.setattr(draw, "render_template", None)
    client.get("/")
    assert [line["status"] for line in log.requests] == [500]


@pytest.mark.parametrize(("level", "told"), [("debug", 2), ("info", 2), ("warning", 1), ("error", 1)])
def test_log_level_leaves_out_what_is_below(settings, log, requests_logger, monkeypatch, level, told):
    client = create_app(replace(settings, log_level=level)).test_client()
    client.get("/")
    monkeypatch.setattr(draw, "render_template", None)
    client.get("/")
    assert len(log.requests) == told
    logs.set_up_logging()


def test_terminal_gets_text(monkeypatch):
    monkeypatch.delenv(logs.TERMINAL, raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(logs.formatter(), JsonLines)
    monkeypatch.setenv(logs.TERMINAL, "1")
    text = logs.formatter()
    record = logging.LogRecord("webapp.requests", logging.INFO, "", 0, "GET %s: %s", ("/", 200), None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO webapp.requests: GET /: 200", text.format(record))
