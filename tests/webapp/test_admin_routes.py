"""Who may do what by HTTP: cookies, CSRF tokens, the scripts' token, and what a run may be started with."""

import re
import time
from dataclasses import replace

import pytest
from sqlalchemy import select

from model.presets import PRESETS
from tests.conftest import PASSWORD, TOKEN
from tests.webapp.administrator import BROWSER, SCRIPT, csrf_token, sign_in
from tests.webapp.asking import INTERNALS, assert_error
from tests.webapp.versions import promotions
from webapp import create_app
from webapp.database import Run, SignInAttempt
from webapp.door import ATTEMPT_WINDOW_SECONDS, ATTEMPTS_PER_ADDRESS
from webapp.moments import SKEW_SECONDS
from webapp.services import services

# Address, and the address of the rule; all that a browser could be made to send by a foreign page.
CHANGES = {
    "/admin/sign-in": "/admin/sign-in",
    "/admin/sign-out": "/admin/sign-out",
    "/admin/retrain": "/admin/retrain",
    "/admin/runs/1/cancel": "/admin/runs/<int:run_id>/cancel",
    "/admin/versions/1/promote": "/admin/versions/<int:version_id>/promote",
    "/admin/versions/1/roll-back": "/admin/versions/<int:version_id>/roll-back",
    "/admin/corrections/decide": "/admin/corrections/decide",
    "/admin/corrections/undo": "/admin/corrections/undo",
    "/admin/corrections/import": "/admin/corrections/import",
}
# What anybody may send, without a cookie's power.
OPEN = {"/predict", "/feedback", "/receipts/<secret>", "/receipts/<secret>/delete"}


def runs(app):
    with services(app).database.reading() as session:
        return session.query(Run).count()


def attempts(app):
    with services(app).database.reading() as session:
        return session.scalars(select(SignInAttempt.address)).all()


def cookie_of(response):
    """Name, value and the attributes of the one cookie set, in lower case."""
    first, *rest = response.headers["Set-Cookie"].split("; ")
    name, _, value = first.partition("=")
    return name, value, {part.lower() for part in rest}


def is_signed_in(client):
    return client.get("/admin").status_code == 200


def test_the_table_of_changes_is_whole(app):
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.methods - {"GET", "HEAD", "OPTIONS"}}
    assert rules == set(CHANGES.values()) | OPEN


@pytest.mark.parametrize("path", CHANGES)
def test_a_signed_in_browser_without_a_csrf_token_changes_nothing(app, admin, path):
    assert_error(admin.post(path), 400, "csrf")
    assert_error(admin.post(path, json={}), 400, "csrf")
    assert_error(admin.post(path, data={"csrf_token": "", "password": PASSWORD}), 400, "csrf")
    assert is_signed_in(admin) and runs(app) == 0


@pytest.mark.parametrize("path", CHANGES)
def test_a_foreign_csrf_token_is_none(app, admin, path):
    foreign = csrf_token(app.test_client(), "/admin/sign-in")
    own = csrf_token(admin)
    forged = own[:-9] + ("A" if own[-9] != "A" else "B") + own[-8:]
    for token in (foreign, forged, "x", "\u00e9"):
        assert_error(admin.post(path, data={"csrf_token": token, "password": PASSWORD}), 400, "csrf")
        if token.isascii():
            assert_error(admin.post(path, json={}, headers={"X-CSRFToken": token}), 400, "csrf")
    assert is_signed_in(admin) and runs(app) == 0


@pytest.mark.parametrize("path", [path for path in CHANGES if path != "/admin/sign-in"])
def test_changes_answer_no_get(admin, path):
    for headers in ({}, SCRIPT):
        response = admin.get(path, headers=headers)
        assert_error(response, 405, "method_not_allowed")
        assert "POST" in response.headers["Allow"] and "GET" not in response.headers["Allow"]


@pytest.mark.parametrize("path", [path for path in CHANGES if not path.startswith("/admin/sign-")])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer t\u00f6ken"},
        {"X-CSRFToken": "x"},
    ],
)
def test_scripts_without_the_token_are_refused(app, path, headers):
    client = app.test_client()
    for body in ({"json": {}}, {"data": {}}):
        response = client.post(path, headers=headers, **body)
        assert_error(response, 401, "not_signed_in")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert runs(app) == 0 and promotions(services(app).database) == [1]


@pytest.mark.parametrize("authorization", ["Bearer ", "Bearer", "Bearer None", f"Bearer {TOKEN}"])
def test_where_no_token_is_configured_no_script_is_admitted(settings, authorization):
    app = create_app(replace(settings, admin_token=""))
    response = app.test_client().post("/admin/retrain", json={}, headers={"Authorization": authorization})
    assert "ADMIN_TOKEN" in assert_error(response, 401, "not_signed_in")


def ask(client, token, **environ):
    """The answer to a script's question with this token."""
    return client.get("/admin/versions/1/card", headers={"Authorization": f"Bearer {token}"}, environ_overrides=environ)


@pytest.mark.both_databases
def test_wrong_tokens_are_counted_and_a_right_one_goes_on_working(app, client):
    """Also at the address of those who guess: behind a proxy that passes none on, everybody has the same."""
    for number in range(ATTEMPTS_PER_ADDRESS):
        assert_error(ask(client, f"guess-{number}"), 401, "not_signed_in")
        assert ask(client, TOKEN).status_code == 200
    elsewhere = create_app(services(app).settings)  # another worker
    for number in range(2):
        refused = ask(elsewhere.test_client(), f"guess-{number}")
        assert_error(refused, 429, "too_many_attempts")
        assert 0 < int(refused.headers["Retry-After"]) <= ATTEMPT_WINDOW_SECONDS
    services(elsewhere).close()
    assert ask(client, TOKEN).status_code == 200
    assert_error(ask(client, "guess", REMOTE_ADDR="10.0.0.7"), 401, "not_signed_in")
    assert sign_in(client).status_code == 303


def test_a_right_token_writes_nothing(app, client):
    ask(client, "guess")
    before = attempts(app)
    assert len(before) == 1
    for _ in range(ATTEMPTS_PER_ADDRESS + 1):
        assert ask(client, TOKEN).status_code == 200
    assert attempts(app) == before


@pytest.mark.both_databases
@pytest.mark.parametrize("address", ["10.1.2.3", "2001:db8::1", "x" * 5000, "".join(map(chr, range(256, 8192)))])
def test_no_address_of_an_attempt_is_stored_however_it_is_made_up(settings, address):
    app = create_app(replace(settings, https=True))
    secure = {"base_url": "https://localhost", "headers": {"X-Forwarded-For": address.encode().decode("latin-1")}}
    client = app.test_client()
    page = client.get("/admin/sign-in", **secure)
    form = {"csrf_token": re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1]}
    secure["headers"] |= {"Referer": "https://localhost/"}
    assert client.post("/admin/sign-in", data=form | {"password": "wrong"}, **secure).status_code == 403
    (stored,) = attempts(app)
    assert re.fullmatch("password:[0-9a-f]{32}", stored)
    services(app).close()


def test_an_ipv6_network_counts_as_one_address(client):
    """Whoever has one address of a /64 has all of them."""
    for number in range(ATTEMPTS_PER_ADDRESS):
        assert ask(client, "guess", REMOTE_ADDR=f"2001:db8::{number}:1").status_code == 401
    assert ask(client, "guess", REMOTE_ADDR="2001:db8::ffff").status_code == 429
    assert ask(client, "guess", REMOTE_ADDR="2001:db8:0:1::1").status_code == 401


def test_a_script_starts_a_run(app, client):
    response = client.post("/admin/retrain", json={"preset": "seed", "epochs": 3, "seed": 7}, headers=SCRIPT)
    assert response.status_code == 202
    run = response.get_json()
    assert (run["id"], run["state"], run["requested_by"]) == (1, "queued", "script")
    assert (run["preset"], run["epochs"], run["seed"]) == ("seed", 3, 7)
    assert run["version"] is None and run["error"] is None
    assert response.headers["Location"] == run["url"] == "/admin/runs/1"
    assert client.get(run["url"], headers=SCRIPT).get_json() == run
    assert services(app).jobs.huey.pending_count() == 1
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("body", [{"json": {}}, {"data": {}}, {"data": {"epochs": "", "seed": ""}}])
def test_a_run_has_the_presets_own_values_where_none_are_given(client, body):
    run = client.post("/admin/retrain", headers=SCRIPT, **body).get_json()
    assert (run["preset"], run["epochs"], run["seed"]) == ("standard", PRESETS["standard"].epochs, 0)


@pytest.mark.both_databases
def test_there_is_one_run_at_a_time(app, client):
    client.post("/admin/retrain", json={}, headers=SCRIPT)
    for body in ({"json": {"preset": "seed"}}, {"data": {"preset": "seed"}}):
        response = client.post("/admin/retrain", headers=SCRIPT, **body)
        assert "Run 1 " in assert_error(response, 409, "run_active")
        assert response.get_json()["error"]["run"] == 1
    assert runs(app) == 1
    assert client.post("/admin/runs/1/cancel", headers=SCRIPT).get_json()["state"] == "cancelled"
    assert client.post("/admin/retrain", json={}, headers=SCRIPT).get_json()["id"] == 2


BAD_SETTINGS = [
    ("preset", "huge"),
    ("preset", ""),
    ("preset", "Standard"),
    ("preset", "../seed"),
    ("epochs", "-1"),
    ("epochs", "1001"),
    ("epochs", "two"),
    ("epochs", "2.5"),
    ("epochs", "1e3"),
    ("epochs", "\u0662"),
    ("epochs", "9" * 400),
    ("seed", "-1"),
    ("seed", str(2**32)),
    ("seed", "0x10"),
    ("seed", "nan"),
]
BAD_IN_JSON = [
    *((name, value) for name in ("preset", "epochs", "seed") for value in (None, True, [], {}, 2.5, [1], {"a": 1})),
    ("preset", 1),
    ("epochs", -1),
    ("epochs", 10**400),
    ("seed", 2**32),
    ("seed", -(10**400)),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
@pytest.mark.parametrize("kind", ["json", "data"])
def test_bad_settings_of_a_run_are_refused(app, client, kind, name, value):
    response = client.post("/admin/retrain", headers=SCRIPT, **{kind: {name: value}})
    assert name in assert_error(response, 400, "bad_settings").lower()
    assert runs(app) == 0


@pytest.mark.parametrize(("name", "value"), BAD_IN_JSON, ids=lambda value: repr(value)[:20])
def test_bad_types_of_a_runs_settings_are_refused(app, client, name, value):
    assert_error(client.post("/admin/retrain", json={name: value}, headers=SCRIPT), 400, "bad_settings")
    assert runs(app) == 0


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "NaN", '{"seed": 1, "seed": 2}', "[" * 5000])
def test_what_is_no_json_object_starts_nothing(app, client, body):
    response = client.post("/admin/retrain", data=body, content_type="application/json", headers=SCRIPT)
    assert_error(response, 400, response.get_json()["error"]["code"])
    assert runs(app) == 0


MULTIPART = "multipart/form-data; boundary=x"
FORM = "application/x-www-form-urlencoded"
# Body, its type, and the refusal.
NOT_UNDERSTOOD = [
    (b"epochs=2", "text/plain", 415, "unsupported_media_type"),
    (b"epochs=2", None, 415, "unsupported_media_type"),
    (b"", "text/plain", 415, "unsupported_media_type"),
    (b"", "nonsense", 415, "unsupported_media_type"),
    (b"<run><epochs>2</epochs></run>", "application/xml", 415, "unsupported_media_type"),
    (b"epochs: 2", "application/yaml", 415, "unsupported_media_type"),
    (b'{"epochs": 2}', "application/merge-patch+json", 415, "not_json"),
    (b"garbage", MULTIPART, 400, "bad_form"),
    (b"garbage", "multipart/form-data", 400, "bad_form"),
    (b"--x\r\n\r\nno header\r\n", MULTIPART, 400, "bad_form"),
    (b"&&&", FORM, 400, "bad_form"),
    (b'{"epochs": 2}', FORM, 400, "unknown_field"),
    (b"\xff\x00", FORM, 400, "bad_form"),
    (b"epochs=2&seed=\xff", FORM, 400, "bad_form"),
    (b"epoch=2", FORM, 400, "unknown_field"),
    (b"epochs=2&Preset=seed", FORM, 400, "unknown_field"),
    (b'{"epoch": 2}', "application/json", 400, "unknown_field"),
    (b'{"\\ud800": 2}', "application/json", 400, "unknown_field"),
    (b"x" * 5000 + b"=2", FORM, 400, "unknown_field"),
    (b"reason=tried&reason=tried&epochs=2&epochs=3", FORM, 400, None),
    (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n2\r\n--x--\r\n', MULTIPART, 400, None),
]


@pytest.mark.parametrize(("body", "kind", "status", "code"), NOT_UNDERSTOOD)
def test_a_body_that_is_not_understood_changes_nothing(app, client, body, kind, status, code):
    """It was passed over, and a training with the default settings began."""
    for path in [path for path in CHANGES if not path.startswith("/admin/sign-")]:
        response = client.post(path, data=body, content_type=kind, headers=SCRIPT)
        if path.endswith("/import"):
            assert_error(response, 400, "no_file" if b"filename" not in body else "bad_file")
        else:
            assert_error(response, status, code or response.get_json()["error"]["code"])
    assert runs(app) == 0 and promotions(services(app).database) == [1]


def test_a_field_that_occurs_twice_is_refused(app, client):
    response = client.post("/admin/retrain", data={"epochs": ["2", "3"]}, headers=SCRIPT)
    assert "'epochs'" in assert_error(response, 400, "bad_form")
    assert runs(app) == 0


def test_a_sign_in_that_is_no_form_is_no_attempt(app, client):
    token = csrf_token(client, "/admin/sign-in")
    for body in ({"json": {"password": PASSWORD}}, {"data": b"password", "content_type": "text/plain"}):
        response = client.post("/admin/sign-in", headers={"X-CSRFToken": token}, **body)
        assert_error(response, 415, "unsupported_media_type")
    assert attempts(app) == []


def test_nothing_at_all_asks_for_the_default_settings(client):
    response = client.post("/admin/retrain", headers=SCRIPT)
    assert response.request.content_type is None and response.get_json()["epochs"] == PRESETS["standard"].epochs


def test_the_administrator_starts_a_run_with_the_form(app, admin):
    response = admin.post("/admin/retrain", data={"csrf_token": csrf_token(admin), "preset": "seed"}, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/admin/runs/1")
    run = admin.get("/admin/runs/1", headers={"Accept": "application/json"}).get_json()
    assert (run["preset"], run["requested_by"]) == ("seed", "administrator")


def test_the_administrators_page_may_ask_with_json_and_the_token_in_a_header(admin):
    response = admin.post("/admin/retrain", json={"preset": "seed"}, headers={"X-CSRFToken": csrf_token(admin)})
    assert response.status_code == 202


@pytest.mark.parametrize("number", [0, 7, 2**31 - 1, 2**31, 2**63, 10**40])
def test_rows_that_are_not_there(app, client, number):
    version = f"/admin/versions/{number}"
    for path in (f"/admin/runs/{number}/cancel", f"{version}/promote", f"{version}/roll-back"):
        assert_error(client.post(path, headers=SCRIPT), 404, "not_found")
    for path in (f"/admin/runs/{number}", version, f"{version}/weights", f"{version}/card"):
        assert_error(client.get(path, headers=SCRIPT), 404, "not_found")
    assert promotions(services(app).database) == [1]


def test_without_signing_in_a_page_leads_to_the_sign_in_and_a_script_is_refused(client):
    version = "/admin/versions/1"
    parts = [version, f"{version}?part=1", f"{version}/weights", f"{version}/card"]
    parts += ["/admin/versions", "/admin/promotions"]
    for path in ("/admin", "/admin/runs/1", *parts):
        response = client.get(path, headers=BROWSER)
        assert (response.status_code, response.headers["Location"]) == (303, "/admin/sign-in")
    for path in ("/admin/runs/1", *parts):
        assert_error(client.get(path), 401, "not_signed_in")


def test_a_wrong_password_is_said_and_five_are_enough(client):
    for _ in range(ATTEMPTS_PER_ADDRESS):
        response = sign_in(client, "wrong password")
        assert response.status_code == 403
        page = response.get_data(as_text=True)
        assert "not the password" in page and "wrong password" not in page
    response = sign_in(client)
    assert response.status_code == 429 and int(response.headers["Retry-After"]) > 0
    assert not is_signed_in(client)


def test_a_forwarded_address_counts_only_behind_a_proxy(settings):
    plain = create_app(settings).test_client()
    for number in range(ATTEMPTS_PER_ADDRESS + 1):
        status = sign_in(plain, "wrong", headers={"X-Forwarded-For": f"10.0.0.{number}"}).status_code
    assert status == 429


def test_the_cookie_is_kept_from_scripts_and_other_sites(client):
    response = sign_in(client)
    name, value, attributes = cookie_of(response)
    assert re.fullmatch("inkling-[0-9a-f]{8}", name)
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert not [attribute for attribute in attributes if attribute.startswith("domain")]
    assert PASSWORD not in value


def test_behind_tls_the_cookie_is_bound_to_it(settings):
    client = create_app(replace(settings, https=True)).test_client()
    secure = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "inkling.example", "X-Forwarded-For": "10.0.0.1"}
    page = client.get("/admin/sign-in", headers=secure, base_url="https://inkling.example")
    name, _, attributes = cookie_of(page)
    assert name.startswith("__Host-inkling-")
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    assert page.headers["Strict-Transport-Security"]
    form = {"csrf_token": re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1], "password": PASSWORD}
    options = {"data": form, "base_url": "https://inkling.example"}
    elsewhere = client.post("/admin/sign-in", headers=secure | {"Referer": "https://elsewhere.example/"}, **options)
    assert_error(elsewhere, 400, "csrf")
    here = client.post("/admin/sign-in", headers=secure | {"Referer": "https://inkling.example/"}, **options)
    assert here.status_code == 303


def test_two_installations_on_one_host_have_two_cookies(settings):
    other = replace(settings, secret_key="another installation's")
    names = [cookie_of(create_app(each).test_client().get("/admin/sign-in"))[0] for each in (settings, other)]
    assert len(set(names)) == 2


def test_signing_out_ends_the_session_of_a_copied_cookie_too(app, admin):
    thief = app.test_client()
    cookie = admin.get_cookie(app.config["SESSION_COOKIE_NAME"])
    thief.set_cookie(cookie.key, cookie.value)
    assert is_signed_in(thief)
    response = admin.post("/admin/sign-out", data={"csrf_token": csrf_token(admin)})
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert not is_signed_in(admin) and not is_signed_in(thief)
    thief.set_cookie(cookie.key, cookie.value)
    assert not is_signed_in(thief)


def test_signing_in_gives_a_new_session(app, client):
    name = app.config["SESSION_COOKIE_NAME"]
    csrf_token(client, "/admin/sign-in")
    before = client.get_cookie(name).value
    sign_in(client)
    assert client.get_cookie(name).value != before
    visitor = app.test_client()
    visitor.set_cookie(name, before)
    assert not is_signed_in(visitor)


def test_a_run_that_seems_to_begin_in_a_year_is_shown_without_a_time_below_nothing(app, admin):
    admin.post("/admin/retrain", data={"csrf_token": csrf_token(admin)})
    ahead = time.time() + 365 * 24 * 3600
    for state, shown in (("queued", "is it running?"), ("running", "Training for")):
        with services(app).database.writing() as session:
            row = session.get(Run, 1)
            row.state, row.created_at, row.started_at, row.lease_until = state, ahead, ahead, time.time() + 10
        page = admin.get("/admin/runs/1", headers=BROWSER).text
        assert shown in page and "0&nbsp;s" in page and not re.search(r"-\d+&nbsp;", page)


@pytest.mark.parametrize("seconds", [2, SKEW_SECONDS / 2])
def test_a_clock_that_is_put_back_a_little_signs_nobody_out(admin, monkeypatch, seconds):
    """The cookie is signed anew with each answer, and one signed in the future was none."""
    token = csrf_token(admin)
    there = time.time
    monkeypatch.setattr(time, "time", lambda: there() - seconds)
    assert is_signed_in(admin)
    assert admin.post("/admin/sign-out", data={"csrf_token": token}).status_code == 303


def test_a_new_password_signs_everybody_out(app, admin):
    services(app).door.set_password("another password")
    assert not is_signed_in(admin)


@pytest.mark.parametrize("where", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"])
def test_no_redirect_leads_elsewhere(admin, where):
    form = {"csrf_token": csrf_token(admin), "password": PASSWORD, "next": where}
    for path in CHANGES:
        query = {"next": where, "url": where, "return_to": where}
        response = admin.post(path, data=form, query_string=query, headers=BROWSER | {"Referer": where})
        assert re.match(r"/(?![/\\])", response.headers.get("Location", "/")), path
        form["csrf_token"] = csrf_token(admin, "/admin/sign-in")


@pytest.mark.parametrize("path", ["/admin", "/admin/sign-in", "/admin/runs/1", "/nothing", "/predict"])
def test_a_persons_errors_are_pages_without_internals(client, path):
    page = client.get(path, headers=BROWSER)
    assert page.mimetype == "text/html"
    assert not INTERNALS.search(page.text)


def test_a_proxys_own_authorization_does_not_stand_in_the_way(client):
    refused = client.post("/admin/retrain", headers={"Authorization": "Basic eDp5"})
    assert "sign in" in assert_error(refused, 401, "not_signed_in")
