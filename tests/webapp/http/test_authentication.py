"""Who may do what by HTTP: cookies, CSRF tokens, the scripts' token, and what a run may be started with."""

import re
import time
from dataclasses import replace

import pytest
from sqlalchemy import select, text

from model.presets import PRESETS
from tests.conftest import PASSWORD, TOKEN
from tests.support.administrator import BROWSER, SCRIPT, csrf_token, sign_in
from tests.support.requests import INTERNALS, assert_error
from tests.support.versions import promotions
from webapp.app import create_app
from webapp.auth import ATTEMPT_WINDOW_SECONDS, ATTEMPTS_PER_ADDRESS
from webapp.services import services
from webapp.storage.schema import Run, SignInAttempt, Version
from webapp.storage.timestamps import SKEW_SECONDS

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
    "/admin/versions/1/remove": "/admin/versions/<int:version_id>/remove",
    "/admin/runs/1/remove": "/admin/runs/<int:run_id>/remove",
    "/admin/corrections/removal": "/admin/corrections/removal",
    "/admin/corrections/remove": "/admin/corrections/remove",
}
# What anybody may send, without a cookie's power.
OPEN = {"/predict", "/read", "/feedback", "/receipts/<secret>", "/receipts/<secret>/delete"}
# What a script may change.
SCRIPTED = [path for path in CHANGES if not path.startswith("/admin/sign-")]


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


def test_routes_that_change_something_are_known_and_answer_no_get(shared_app):
    rules = list(shared_app.url_map.iter_rules())
    assert {rule.rule for rule in rules if rule.methods - {"GET", "HEAD", "OPTIONS"}} == set(CHANGES.values()) | OPEN
    answer_get = {rule.rule for rule in rules if "GET" in rule.methods}
    assert answer_get & set(CHANGES.values()) == {"/admin/sign-in"}


@pytest.mark.parametrize("path", CHANGES)
def test_csrf_token_missing_is_refused(shared_app, signed_in, path):
    assert_error(signed_in.post(path), 400, "csrf")
    assert_error(signed_in.post(path, json={}), 400, "csrf")
    assert_error(signed_in.post(path, data={"csrf_token": "", "password": PASSWORD}), 400, "csrf")
    assert is_signed_in(signed_in) and runs(shared_app) == 0


@pytest.mark.parametrize("path", CHANGES)
def test_csrf_token_foreign_is_refused(shared_app, signed_in, path):
    foreign = csrf_token(shared_app.test_client(), "/admin/sign-in")
    own = csrf_token(signed_in)
    forged = own[:-9] + ("A" if own[-9] != "A" else "B") + own[-8:]
    for token in (foreign, forged, "x", "\u00e9"):
        assert_error(signed_in.post(path, data={"csrf_token": token, "password": PASSWORD}), 400, "csrf")
        if token.isascii():
            assert_error(signed_in.post(path, json={}, headers={"X-CSRFToken": token}), 400, "csrf")
    assert is_signed_in(signed_in) and runs(shared_app) == 0


def assert_not_admitted(client, path, headers, words):
    for body in ({"json": {}}, {"data": {}}):
        response = client.post(path, headers=headers, **body)
        assert words in assert_error(response, 401, "not_signed_in")
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", SCRIPTED)
def test_script_without_token_is_refused(shared_app, reader, path):
    assert_not_admitted(reader, path, {}, "sign in")
    assert runs(shared_app) == 0 and promotions(services(shared_app).database) == [1]


# The second: a proxy's own authorization is none of ours, so it does not count as a wrong token.
OTHER_TOKENS = [
    ({"Authorization": ""}, "sign in"),
    ({"Authorization": "Basic eDp5"}, "sign in"),
    ({"Authorization": f"Basic {TOKEN}"}, "sign in"),
    ({"Authorization": TOKEN}, "sign in"),
    ({"X-CSRFToken": "x"}, "sign in"),
    ({"Authorization": "Bearer"}, "wrong"),
    ({"Authorization": "Bearer "}, "wrong"),
    ({"Authorization": "Bearer wrong"}, "wrong"),
    ({"Authorization": f"Bearer {TOKEN}x"}, "wrong"),
    ({"Authorization": f"Bearer {TOKEN[:-1]}"}, "wrong"),
    ({"Authorization": "Bearer t\u00f6ken"}, "wrong"),
]


def test_script_with_another_token_is_refused(app):
    client = app.test_client()
    for number, (headers, words) in enumerate(OTHER_TOKENS):
        client.environ_base["REMOTE_ADDR"] = f"10.0.0.{number}"
        assert_not_admitted(client, "/admin/retrain", headers, words)
    assert runs(app) == 0


def test_script_where_no_token_is_configured_is_refused(settings):
    client = create_app(replace(settings, admin_token="")).test_client()
    for authorization in ("Bearer ", "Bearer", "Bearer None", f"Bearer {TOKEN}"):
        response = client.post("/admin/retrain", json={}, headers={"Authorization": authorization})
        assert "ADMIN_TOKEN" in assert_error(response, 401, "not_signed_in")


def ask(client, token, **environ):
    """The answer to a script's question with this token."""
    return client.get("/admin/versions/1/card", headers={"Authorization": f"Bearer {token}"}, environ_overrides=environ)


@pytest.mark.both_databases
def test_tokens_wrong_are_counted_and_a_right_one_goes_on_working(app, client):
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


@pytest.mark.parametrize(("proxies", "client"), [(0, "127.0.0.1"), (1, "10.0.0.3"), (2, "10.0.0.2"), (4, "127.0.0.1")])
def test_client_is_whom_the_outermost_trusted_proxy_has_seen(settings, proxies, client):
    app = create_app(replace(settings, trusted_proxies=proxies))
    ask(app.test_client(), "guess", HTTP_X_FORWARDED_FOR="10.0.0.1, 10.0.0.2, 10.0.0.3")
    assert attempts(app) == [f"token:{services(app).corrections.submitter_of(client)}"]
    services(app).close()


def test_token_right_writes_nothing(app, client):
    ask(client, "guess")
    before = attempts(app)
    assert len(before) == 1
    for _ in range(ATTEMPTS_PER_ADDRESS + 1):
        assert ask(client, TOKEN).status_code == 200
    assert attempts(app) == before


@pytest.mark.both_databases
@pytest.mark.parametrize("address", ["10.1.2.3", "2001:db8::1", "x" * 5000, "".join(map(chr, range(256, 8192)))])
def test_attempt_from_any_address_does_not_store_it(settings, address):
    app = create_app(replace(settings, https=True, trusted_proxies=1))
    secure = {"base_url": "https://localhost", "headers": {"X-Forwarded-For": address.encode().decode("latin-1")}}
    client = app.test_client()
    page = client.get("/admin/sign-in", **secure)
    form = {"csrf_token": re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1]}
    secure["headers"] |= {"Referer": "https://localhost/"}
    assert client.post("/admin/sign-in", data=form | {"password": "wrong"}, **secure).status_code == 403
    (stored,) = attempts(app)
    assert re.fullmatch("password:[0-9a-f]{32}", stored)
    services(app).close()


def test_run_started_by_a_script_is_queued(app, client):
    response = client.post("/admin/retrain", json={"preset": "basic", "epochs": 3, "seed": 7}, headers=SCRIPT)
    assert response.status_code == 202
    run = response.get_json()
    assert (run["id"], run["state"], run["requested_by"]) == (1, "queued", "script")
    assert (run["preset"], run["epochs"], run["seed"]) == ("basic", 3, 7)
    assert run["version"] is None and run["error"] is None
    assert response.headers["Location"] == run["url"] == "/admin/runs/1"
    assert client.get(run["url"], headers=SCRIPT).get_json() == run
    assert services(app).jobs.huey.pending_count() == 1
    assert "Set-Cookie" not in response.headers


def test_run_started_by_a_presets_former_name_has_the_present_one(app, client):
    assert client.post("/admin/retrain", json={"preset": "seed"}, headers=SCRIPT).get_json()["preset"] == "basic"
    with services(app).database.reading() as session:
        assert session.scalar(text("SELECT preset FROM run")) == "basic"


@pytest.mark.both_databases
def test_rows_of_a_presets_former_name_show_the_present_one(app, client, admin):
    client.post("/admin/retrain", json={"preset": "basic"}, headers=SCRIPT)
    with services(app).database.writing() as session:
        session.execute(text("UPDATE run SET preset = 'seed'"))
        session.execute(text("UPDATE version SET preset = 'seed'"))
        version = session.get(Version, 1)
        version.card = version.card | {"preset": "seed"}
    assert client.get("/admin/runs/1", headers=SCRIPT).get_json()["preset"] == "basic"
    assert client.get("/admin/versions", headers=SCRIPT).get_json()["versions"][0]["preset"] == "basic"
    for path in ("/admin/runs/1", "/admin/versions/1", "/admin/runs"):
        page = admin.get(path, headers=BROWSER).text
        assert ">basic</" in page and ">seed<" not in page


@pytest.mark.parametrize("body", [{}, {"json": {}}, {"data": {}}, {"data": {"epochs": "", "seed": ""}}])
def test_run_without_settings_has_those_of_the_preset(client, body):
    run = client.post("/admin/retrain", headers=SCRIPT, **body).get_json()
    assert (run["preset"], run["epochs"], run["seed"]) == ("standard", PRESETS["standard"].epochs, 0)


@pytest.mark.both_databases
def test_run_started_during_another_is_refused(app, client):
    client.post("/admin/retrain", json={}, headers=SCRIPT)
    for body in ({"json": {"preset": "basic"}}, {"data": {"preset": "basic"}}):
        response = client.post("/admin/retrain", headers=SCRIPT, **body)
        assert "Training 1 is still going" in assert_error(response, 409, "run_active")
        assert response.get_json()["error"]["run"] == 1
    assert runs(app) == 1
    assert client.post("/admin/runs/1/cancel", headers=SCRIPT).get_json()["state"] == "cancelled"
    assert client.post("/admin/retrain", json={}, headers=SCRIPT).get_json()["id"] == 2


BAD_SETTINGS = {
    "preset": ["huge", "", "Standard", "../seed"],
    "epochs": ["-1", "1001", "two", "2.5", "1e3", "\u0662", "9" * 400],
    "seed": ["-1", str(2**32), "0x10", "nan"],
}
BAD_TYPES = {
    "preset": [None, True, [], {}, 2.5, [1], {"a": 1}, 1],
    "epochs": [None, True, [], {}, 2.5, [1], {"a": 1}, -1, 10**400],
    "seed": [None, True, [], {}, 2.5, [1], {"a": 1}, 2**32, -(10**400)],
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_run_with_bad_settings_is_refused(shared_app, reader, name):
    bodies = [{kind: {name: value}} for kind in ("json", "data") for value in BAD_SETTINGS[name]]
    for body in bodies + [{"json": {name: value}} for value in BAD_TYPES[name]]:
        response = reader.post("/admin/retrain", headers=SCRIPT, **body)
        assert name in assert_error(response, 400, "bad_settings").lower(), body
    assert runs(shared_app) == 0


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "NaN", '{"seed": 1, "seed": 2}', "[" * 5000])
def test_body_that_is_no_json_object_changes_nothing(shared_app, reader, body):
    for path in SCRIPTED[:-1]:  # the last one takes a form alone
        response = reader.post(path, data=body, content_type="application/json", headers=SCRIPT)
        assert_error(response, 400, response.get_json()["error"]["code"])
    assert runs(shared_app) == 0 and promotions(services(shared_app).database) == [1]


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
def test_body_not_understood_changes_nothing(shared_app, reader, body, kind, status, code):
    """It was passed over, and a training with the default settings began."""
    for path in SCRIPTED:
        response = reader.post(path, data=body, content_type=kind, headers=SCRIPT)
        if path.endswith("/import"):
            assert_error(response, 400, "no_file" if b"filename" not in body else "bad_file")
        else:
            assert_error(response, status, code or response.get_json()["error"]["code"])
    assert runs(shared_app) == 0 and promotions(services(shared_app).database) == [1]


def test_form_field_that_occurs_twice_is_named(reader):
    response = reader.post("/admin/retrain", data={"epochs": ["2", "3"]}, headers=SCRIPT)
    assert "'epochs'" in assert_error(response, 400, "bad_form")


def test_sign_in_that_is_no_form_is_no_attempt(app, client):
    token = csrf_token(client, "/admin/sign-in")
    for body in ({"json": {"password": PASSWORD}}, {"data": b"password", "content_type": "text/plain"}):
        response = client.post("/admin/sign-in", headers={"X-CSRFToken": token}, **body)
        assert_error(response, 415, "unsupported_media_type")
    assert attempts(app) == []


def test_run_started_by_form_redirects_to_its_page(app, admin):
    response = admin.post("/admin/retrain", data={"csrf_token": csrf_token(admin), "preset": "basic"}, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/admin/runs/1")
    run = admin.get("/admin/runs/1", headers={"Accept": "application/json"}).get_json()
    assert (run["preset"], run["requested_by"]) == ("basic", "administrator")


def test_csrf_token_in_a_header_admits_json(admin):
    response = admin.post("/admin/retrain", json={"preset": "basic"}, headers={"X-CSRFToken": csrf_token(admin)})
    assert response.status_code == 202


def test_not_signed_in_a_page_leads_to_the_sign_in_and_a_script_is_refused(reader):
    version = "/admin/versions/1"
    parts = [version, f"{version}?part=1", f"{version}/weights", f"{version}/card"]
    parts += ["/admin/versions", "/admin/promotions", "/admin/removals", f"{version}/removal", "/admin/runs/1/removal"]
    parts += ["/admin/corrections", "/admin/corrections/1/picture.png"]
    parts += ["/admin/corrections/export.npz", "/admin/corrections/export.zip", "/admin/corrections/imports/1"]
    for path in ("/admin", "/admin/runs/1", *parts):
        response = reader.get(path, headers=BROWSER)
        assert response.status_code == 303 and re.match(r"/admin/sign-in(\?|$)", response.headers["Location"])
    for path in ("/admin/runs/1", *parts):
        assert_error(reader.get(path), 401, "not_signed_in")


def test_sign_in_with_wrong_passwords_is_refused_after_five(client):
    for _ in range(ATTEMPTS_PER_ADDRESS):
        response = sign_in(client, "wrong password")
        assert response.status_code == 403
        page = response.get_data(as_text=True)
        assert "not the password" in page and "wrong password" not in page
    response = sign_in(client)
    assert response.status_code == 429 and int(response.headers["Retry-After"]) > 0
    assert not is_signed_in(client)


def test_attempts_with_forwarded_addresses_count_together_without_a_proxy(settings):
    plain = create_app(settings).test_client()
    for number in range(ATTEMPTS_PER_ADDRESS + 1):
        status = sign_in(plain, "wrong", headers={"X-Forwarded-For": f"10.0.0.{number}"}).status_code
    assert status == 429


def test_cookie_is_kept_from_scripts_and_other_sites(client):
    response = sign_in(client)
    name, value, attributes = cookie_of(response)
    assert re.fullmatch("inkling-[0-9a-f]{8}", name)
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert not [attribute for attribute in attributes if attribute.startswith("domain")]
    assert "secure" not in attributes and PASSWORD not in value


def test_cookie_behind_tls_is_bound_to_it(settings):
    client = create_app(replace(settings, https=True, trusted_proxies=1)).test_client()
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


def test_cookies_of_two_installations_on_one_host_differ(settings):
    other = replace(settings, secret_key="another installation's")
    names = [cookie_of(create_app(each).test_client().get("/admin/sign-in"))[0] for each in (settings, other)]
    assert len(set(names)) == 2


def test_sign_out_ends_the_session_of_a_copied_cookie_too(app, admin):
    thief = app.test_client()
    cookie = admin.get_cookie(app.config["SESSION_COOKIE_NAME"])
    thief.set_cookie(cookie.key, cookie.value)
    assert is_signed_in(thief)
    response = admin.post("/admin/sign-out", data={"csrf_token": csrf_token(admin)})
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert not is_signed_in(admin) and not is_signed_in(thief)
    thief.set_cookie(cookie.key, cookie.value)
    assert not is_signed_in(thief)


def test_sign_in_gives_a_new_session(app, client):
    name = app.config["SESSION_COOKIE_NAME"]
    csrf_token(client, "/admin/sign-in")
    before = client.get_cookie(name).value
    sign_in(client)
    assert client.get_cookie(name).value != before
    visitor = app.test_client()
    visitor.set_cookie(name, before)
    assert not is_signed_in(visitor)


def test_run_begun_by_a_clock_ahead_shows_no_negative_time(app, admin):
    admin.post("/admin/retrain", data={"csrf_token": csrf_token(admin)})
    ahead = time.time() + 365 * 24 * 3600
    for state, shown in (("queued", "is it running?"), ("running", "Training for")):
        with services(app).database.writing() as session:
            row = session.get(Run, 1)
            row.state, row.created_at, row.started_at, row.lease_until = state, ahead, ahead, time.time() + 10
        page = admin.get("/admin/runs/1", headers=BROWSER).text
        assert shown in page and "0&nbsp;s" in page and not re.search(r"-\d+&nbsp;", page)


def test_clock_put_back_a_little_signs_nobody_out(admin, monkeypatch):
    """The cookie is signed anew with each answer, and one signed in the future was none."""
    token = csrf_token(admin)
    there = time.time
    monkeypatch.setattr(time, "time", lambda: there() - SKEW_SECONDS / 2)
    assert is_signed_in(admin)
    assert admin.post("/admin/sign-out", data={"csrf_token": token}).status_code == 303


@pytest.mark.parametrize("where", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"])
def test_redirect_to_another_host_is_never_given(admin, where):
    form = {"csrf_token": csrf_token(admin), "password": PASSWORD, "next": where}
    for path in CHANGES:
        query = {"next": where, "url": where, "return_to": where}
        response = admin.post(path, data=form, query_string=query, headers=BROWSER | {"Referer": where})
        assert re.match(r"/(?![/\\])", response.headers.get("Location", "/")), path
        form["csrf_token"] = csrf_token(admin, "/admin/sign-in")


def test_page_of_an_error_shows_no_internals(reader):
    for path in ("/admin", "/admin/sign-in", "/admin/runs/1", "/nothing", "/predict"):
        page = reader.get(path, headers=BROWSER)
        assert page.mimetype == "text/html" and not INTERNALS.search(page.text)
