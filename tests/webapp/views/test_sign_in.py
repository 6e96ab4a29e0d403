"""The sign-in's page: where it leads on to, and the attempts that it says are left."""

import re

import pytest
from sqlalchemy import select

from tests.conftest import PASSWORD
from tests.support.administrator import BROWSER, csrf_token, sign_in
from tests.support.versions import add_version, turned
from webapp.auth import ATTEMPT_WINDOW_SECONDS, ATTEMPTS_PER_ADDRESS
from webapp.services import services
from webapp.storage.schema import Promotion, Run, SignInAttempt

PAGES = [
    "/admin/corrections?state=approved&page=1",
    "/admin/versions/1",
    "/admin/promotions?before=7",
]
FILES = ["/admin/versions/1/weights", "/admin/corrections/1/picture.png", "/admin/corrections/export.npz"]
ELSEWHERE = [
    "https://elsewhere.example/admin",
    "//elsewhere.example/admin",
    "///elsewhere.example/admin",
    "/\\elsewhere.example/admin",
    "\\\\elsewhere.example",
    "/admin\\..\\elsewhere",
    "/\t/elsewhere.example",
    "\t//elsewhere.example",
    " /admin/versions",
    "/admin/versions\r\nSet-Cookie: a=b",
    "/admin/versions\x00",
    "/admin/\u00fcbersicht",
    "javascript:alert(1)",
    "admin/versions",
    "http:/admin/versions",
    "https:admin/versions",
    "/@elsewhere.example",
    "/admin@elsewhere.example",
    "/admin/../gallery",
    "/gallery",
    "/",
    "/administrator",
    "/admin/nothing",
    "/admin//versions",
    "/admin/retrain",
    "/admin/sign-out",
    "/admin/versions/1/promote",
    "/admin/versions?" + "x" * 3000,
    *FILES,
]


def sign_in_for(client, following):
    return client.post(
        "/admin/sign-in",
        query_string={"next": following},
        data={"csrf_token": csrf_token(client, "/admin/sign-in"), "password": PASSWORD},
    )


@pytest.mark.parametrize("path", PAGES)
def test_sign_in_leads_on_to_the_page_asked_for(client, path):
    sent_away = client.get(path, headers=BROWSER)
    assert sent_away.status_code == 303
    page = client.get(sent_away.location)
    assert "go on to the page that you asked for" in page.text
    form = {"csrf_token": re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1]}
    wrong = client.post(sent_away.location, data=form | {"password": "wrong"})
    assert wrong.status_code == 403 and "go on to the page that you asked for" in wrong.text
    assert client.post(sent_away.location, data=form | {"password": PASSWORD}).location == path


def test_sign_in_leads_to_no_other_place(shared_app):
    client = shared_app.test_client()
    for following in ELSEWHERE:
        assert sign_in_for(client, following).location == "/admin", following


def test_sign_in_for_a_file_or_the_overview_leads_to_the_overview(reader):
    for path in (*FILES, "/admin", "/admin?", "/admin/versions/1/weights?x=/admin/versions"):
        assert reader.get(path, headers=BROWSER).location == "/admin/sign-in"


def seconds_to_wait(page):
    return int(re.search(r'data-seconds="(\d+)"', page)[1])


def test_sign_in_says_how_many_attempts_are_left_and_how_long_to_wait(app, client):
    for left in range(ATTEMPTS_PER_ADDRESS - 1, 0, -1):
        page = sign_in(client, "wrong").text
        assert f"{left} attempt{' is' if left == 1 else 's are'} left, then up to 5 minutes to wait" in page
        assert "data-seconds" not in page
    last = sign_in(client, "wrong")
    assert last.status_code == 403 and "the last attempt for now" in last.text
    assert 0 < seconds_to_wait(last.text) <= ATTEMPT_WINDOW_SECONDS
    refused, reloaded = sign_in(client), client.get("/admin/sign-in")
    assert (refused.status_code, reloaded.status_code) == (429, 200)
    for page in (refused.text, reloaded.text):
        assert "the right password is refused too" in page and re.search(r"\d (minute|second)", page)
        assert 0 < seconds_to_wait(page) <= ATTEMPT_WINDOW_SECONDS
    with services(app).database.writing() as session:
        session.query(SignInAttempt).update({"at": SignInAttempt.at - ATTEMPT_WINDOW_SECONDS - 1})
    assert "data-seconds" not in client.get("/admin/sign-in").text
    assert sign_in(client).status_code == 303


def test_sign_in_is_described(reader):
    assert '<meta name="description"' in reader.get("/admin/sign-in").text


def test_answers_to_an_administrator_are_stored_nowhere(app, admin):
    paths = ["/admin", "/admin/sign-in", "/admin/versions", "/admin/versions/1", "/admin/promotions", "/admin/nothing"]
    paths += ["/admin/versions/1/card", "/admin/corrections", *FILES]
    for client in (admin, app.test_client()):
        for path in paths:
            for headers in ({}, BROWSER):
                with client.get(path, headers=headers) as response:
                    assert response.cache_control.no_store and not response.cache_control.public, path
    weights = admin.get("/admin/versions/1/weights")
    unchanged = admin.get("/admin/versions/1/weights", headers={"If-None-Match": weights.headers["ETag"]})
    assert unchanged.status_code == 304 and unchanged.cache_control.no_store


def test_sign_in_asks_for_a_name_where_there_are_several(app, client):
    assert 'name="username" value="administrator" autocomplete="username" hidden' in client.get("/admin/sign-in").text
    services(app).authenticator.add("anna", "another battery staple")
    page = client.get("/admin/sign-in").text
    assert '<label for="username">Name</label>' in page and 'value="administrator"' not in page
    wrong = sign_in(client, username="<b>anna")
    assert wrong.status_code == 403 and "Name and password do not belong together. 4 attempts" in wrong.text
    assert 'value="&lt;b&gt;anna"' in wrong.text
    assert sign_in(client, "another battery staple", " Anna ").status_code == 303
    assert '<span class="quiet">anna</span>' in client.get("/admin").text


def test_sign_in_ignores_the_name_where_there_is_one_administrator(app, client):
    """A password manager may fill in the hidden field with a name of its own."""
    assert sign_in(client, username="admin").status_code == 303
    services(app).authenticator.add("anna", "another battery staple")
    assert sign_in(app.test_client(), username="admin").status_code == 403


def test_audit_says_which_administrator_it_was(app, client):
    services(app).authenticator.add("anna", "another battery staple")
    add_version(services(app).database, turned(1))
    sign_in(client, "another battery staple", "anna")
    form = {"csrf_token": csrf_token(client)}
    assert client.post("/admin/retrain", data=form | {"preset": "basic"}).status_code == 202
    assert client.post("/admin/versions/2/promote", data=form | {"reason": "it is better"}).status_code == 200
    with services(app).database.reading() as session:
        assert session.scalars(select(Run.requested_by)).all() == ["anna"]
        assert session.scalars(select(Promotion.by).order_by(Promotion.id.desc())).first() == "anna"
    page = client.get("/admin/promotions", headers=BROWSER).text
    assert '<td data-label="By" class="by">anna</td>' in page


def test_sign_in_of_a_page_made_before_names_is_the_first_ones(app, client):
    services(app).authenticator.add("anna", "another battery staple")
    assert sign_in(client).status_code == 303
    assert '<span class="quiet">' not in client.get("/admin").text.partition("sign-out")[0].rpartition("<form")[2]
