"""The headers of every answer, whichever part gives it, and what a failure shows of itself."""

import logging

import pytest

from tests.webapp.asking import INTERNALS, ONE, assert_error
from webapp import draw
from webapp.draw import MOST_BATCH_BYTES
from webapp.settings import ROOT

BROWSER = {"Accept": "text/html"}
STATIC = sorted(path.relative_to(ROOT / "static").as_posix() for path in (ROOT / "static").rglob("*") if path.is_file())


def assert_secured(response):
    headers = response.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"] and "*" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"  # "no-referrer" would make forms fail behind TLS
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name, _ in headers if name.startswith("Access-Control")]
    assert "charset" in headers["Content-Type"] or not headers["Content-Type"].startswith("text/")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("OPTIONS", "/predict", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/admin/sign-in", 200),
        ("GET", "/admin", 303),
        ("POST", "/admin/sign-in", 400),
        ("POST", "/admin/retrain", 401),
        ("GET", "/nothing", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/../webapp/door.py", 404),
        ("GET", "/static/%2e%2e/webapp/door.py", 404),
        ("GET", "/predict", 405),
        ("POST", "/predict", 415),
        ("POST", "/", 405),
        ("GET", "/gallery?page=0", 400),
    ],
)
@pytest.mark.parametrize("headers", [{}, BROWSER], ids=["script", "browser"])
def test_every_answer_is_secured_and_not_kept(reader, method, path, status, headers):
    response = reader.open(path, method=method, headers=headers)
    assert response.status_code == status
    assert_secured(response)
    assert response.headers["Cache-Control"] in ("no-cache", "no-store")
    assert "Strict-Transport-Security" not in response.headers  # only behind TLS


def test_a_reading_and_a_body_that_is_too_large_are_secured(reader):
    for body, status in ((None, 200), (b" " * (MOST_BATCH_BYTES + 1), 413)):
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
    monkeypatch.setattr(draw, "open_picture", fail)
    return client


def test_a_failure_is_logged_and_shows_nothing(broken, caplog):
    with caplog.at_level(logging.ERROR):
        answers = broken.post("/predict", json=ONE), broken.get("/"), broken.get("/", headers=BROWSER)
    for response in answers:
        assert response.status_code == 500
        assert_secured(response)
        assert "hunter2" not in response.text and not INTERNALS.search(response.text)
    assert_error(answers[0], 500, "internal")
    assert answers[2].mimetype == "text/html" and "Something went wrong" in answers[2].text
    assert caplog.text.count(f"RuntimeError: {SECRET}") == 3 and "unexpected error at POST /predict" in caplog.text


def test_pages_have_no_inline_script_or_style(reader):
    for path in ("/", "/admin/sign-in", "/nothing"):
        page = reader.get(path, headers=BROWSER).text.lower()
        assert "<style" not in page and "style=" not in page and "javascript:" not in page and " onclick=" not in page
        assert page.count("<script") == page.count("<script type=\"module\" src=\"/static/")


@pytest.mark.parametrize("name", STATIC)
def test_static_files_are_kept_for_ever(shared_app, reader, name):
    address = shared_app.jinja_env.globals["asset"](name)
    with reader.get(address) as response:
        assert response.status_code == 200
        assert response.data == (ROOT / "static" / name).read_bytes()
        assert_secured(response)
        assert "immutable" in response.headers["Cache-Control"] and response.cache_control.max_age >= 365 * 24 * 3600
        assert response.mimetype == {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[
            name.rpartition(".")[2]
        ]


def test_static_addresses_change_with_their_content_only(shared_app, app):
    assert shared_app.jinja_env.globals["asset"]("js/draw.js") == app.jinja_env.globals["asset"]("js/draw.js")


def test_a_static_file_of_another_build_is_not_there(reader):
    assert_error(reader.get("/static/000000000000/css/base.css"), 404, "not_found")
