"""An installation that takes no corrections, or that only reads."""

from dataclasses import replace

import pytest

from tests.conftest import TOKEN
from tests.support.administrator import BROWSER, SCRIPT
from tests.support.requests import ONE, assert_error
from webapp.app import create_app
from webapp.services import services


@pytest.fixture(params=["corrections off", "read only"])
def restricted(request, settings):
    """Its client, and the receipt of a correction stored before."""
    before = create_app(settings)
    receipt = before.test_client().post("/feedback", json={**ONE, "meant": 7}).get_json()["receipt"]
    services(before).close()
    only_read = request.param == "read only"
    app = create_app(replace(settings, corrections=only_read, read_only=only_read))
    client = app.test_client()
    client.receipt, client.only_reads = receipt, only_read
    yield client
    services(app).close()


def test_corrections_off_stores_none_and_asks_for_none(restricted):
    assert_error(restricted.post("/feedback", json={**ONE, "meant": 7}), 403, "corrections_off")
    assert restricted.post("/predict", json=ONE).status_code == 200
    page = restricted.get("/", headers=BROWSER).text
    assert 'id="feedback"' not in page and 'id="canvas"' in page
    assert "Nothing that you draw or send.</p>" in restricted.get("/how-it-works", headers=BROWSER).text


def test_corrections_off_those_stored_are_shown_and_can_be_deleted(restricted):
    assert restricted.get(restricted.receipt, headers=BROWSER).status_code == 200
    assert restricted.get("/receipts", headers=BROWSER).status_code == 200
    assert restricted.post(f"{restricted.receipt}/delete").status_code in (200, 204)
    assert restricted.get(restricted.receipt).status_code == 404


def test_read_only_refuses_every_administrators_address(restricted):
    app = restricted.application
    rules = [rule for rule in app.url_map.iter_rules() if f"{rule.rule}/".startswith("/admin/")]
    assert len(rules) > 20
    for rule in rules:
        address = rule.rule
        for argument in rule.arguments:
            address = address.replace(f"<int:{argument}>", "1").replace(f"<{argument}>", "1")
        for method in rule.methods - {"OPTIONS", "HEAD"}:
            for headers in ({}, SCRIPT):
                answer = restricted.open(address.partition("<")[0], method=method, headers=headers)
                assert (answer.status_code == 403 and "read_only" in answer.text) == restricted.only_reads, address


def test_read_only_page_leads_to_no_administration(restricted):
    for path in ("/", "/gallery", "/how-it-works", "/nothing", "/admin"):
        page = restricted.get(path, headers=BROWSER, follow_redirects=not restricted.only_reads).text
        assert ('href="/admin' not in page) == restricted.only_reads, path


def test_read_only_is_watched_as_any_other(restricted):
    assert restricted.get("/readyz").status_code == 200
    assert restricted.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
