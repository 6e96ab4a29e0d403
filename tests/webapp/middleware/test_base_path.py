"""The application below a path: no address of it leads out, and nothing outside is answered by it."""

import logging
import re
from dataclasses import replace

import pytest

from tests.conftest import PASSWORD, TOKEN
from tests.support.administrator import BROWSER
from tests.support.requests import ONE, assert_error
from webapp.app import create_app
from webapp.services import services

# Addresses in pages and style sheets that begin with a slash.
ADDRESS = re.compile(r'(?:href|src|action|data-[a-z-]*url|data-page)="(/[^"]*)"')
HERE = {"base_url": "http://localhost"}


@pytest.fixture
def client(settings):
    app = create_app(replace(settings, base_path="/inkling"))
    yield app.test_client()
    services(app).close()


def sign_in(client, address="/inkling/admin/sign-in"):
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get(address, **HERE).text)[1]
    return client.post(address, data={"csrf_token": token, "password": PASSWORD}, **HERE)


def test_pages_below_a_path_lead_to_addresses_below_it(client):
    sign_in(client)
    receipt = client.post("/inkling/feedback", json={**ONE, "meant": 7}, **HERE).get_json()["receipt"]
    todo, seen = ["/inkling/", "/inkling/admin", receipt], set()
    while todo:
        address = todo.pop().replace("&amp;", "&")
        if address in seen or len(seen) > 150:
            continue
        seen.add(address)
        assert address.startswith("/inkling/"), address
        with client.get(address, headers=BROWSER, **HERE) as answer:
            assert answer.status_code in (200, 302, 303, 405), (address, answer.status_code)
            if answer.location:
                todo.append(answer.location)
            elif answer.mimetype == "text/html":
                todo += ADDRESS.findall(answer.text)
    for reached in ("/inkling/gallery", "/inkling/admin/corrections", "/inkling/admin/versions/1", "/inkling/receipts"):
        assert reached in seen
    assert any(address.startswith("/inkling/static/") for address in seen)


def test_cookies_below_a_path_are_for_it_alone(settings, client):
    sent = [sign_in(client), client.post("/inkling/feedback", json={**ONE, "meant": 7}, **HERE)]
    for answer in sent:
        cookies = answer.headers.getlist("Set-Cookie")
        assert cookies and all("; Path=/inkling;" in f"{cookie};" for cookie in cookies)
    secure = create_app(replace(settings, base_path="/inkling", https=True, trusted_proxies=1)).test_client()
    page = secure.get("/inkling/admin/sign-in", base_url="https://localhost")
    assert page.headers["Set-Cookie"].startswith("__Secure-")  # a browser refuses __Host- with a path


def test_sign_in_below_a_path_leads_on_to_the_page_asked_for(client):
    sent_away = client.get("/inkling/admin/promotions?before=7", headers=BROWSER, **HERE)
    assert sent_away.location == "/inkling/admin/sign-in?next=/inkling/admin/promotions?before%3D7"
    assert sign_in(client, sent_away.location).location == "/inkling/admin/promotions?before=7"
    for elsewhere in ("/admin/promotions", "/inklings/admin/promotions", "//inkling/admin"):
        assert sign_in(client, f"/inkling/admin/sign-in?next={elsewhere}").location == "/inkling/admin"


@pytest.mark.parametrize("path", ["/", "/gallery", "/healthz", "/inklings/", "/predict", "//inkling/", "/inkling//"])
def test_address_outside_the_path_is_not_found(client, path):
    assert_error(client.get(path, **HERE), 404, "not_found")
    page = client.get(path, headers=BROWSER, **HERE)
    assert page.status_code == 404
    assert all(address.startswith("/inkling/") for address in ADDRESS.findall(page.text))


@pytest.mark.parametrize(
    ("query", "kept"), [("", ""), ("a=1&b=%C3%BC", "?a=1&b=%C3%BC"), ("a=\xc3\xbc\x01 ", "?a=%C3%BC%01%20")]
)
def test_path_without_its_slash_leads_to_it_with_the_query(client, caplog, query, kept):
    with caplog.at_level(logging.INFO, "webapp.requests"):
        answer = client.get("/inkling", environ_overrides={"QUERY_STRING": query}, **HERE)
    assert (answer.status_code, answer.location) == (308, f"/inkling/{kept}")
    assert caplog.records[-1].fields["route"] == "none"


def test_scripts_below_a_path_are_answered(client):
    assert client.post("/inkling/predict", json=ONE, **HERE).get_json()["digits"]
    assert client.get("/inkling/healthz", **HERE).get_json() == {"status": "ok"}
    started = client.post("/inkling/admin/retrain", json={}, headers={"Authorization": f"Bearer {TOKEN}"}, **HERE)
    assert started.location == "/inkling/admin/runs/1"
    assert client.get("/inkling/openapi.json", **HERE).get_json()["servers"] == [{"url": "/inkling"}]
