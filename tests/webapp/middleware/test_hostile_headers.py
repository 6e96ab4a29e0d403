"""No value of any header makes a fault, and none decides where a redirect leads."""

import itertools
import re
import shutil
from dataclasses import replace
from urllib.parse import unquote

import pytest
from flask import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import create_environ

from tests.conftest import TOKEN, settings_in
from tests.support.requests import assert_error
from webapp.app import create_app
from webapp.services import services

BIG, HUGE = "9" * 30, "9" * 5000
DATES = [
    "Mon, 01 Jan 0000 99:00:00 GMT",
    f"Mon, 01 Jan 2020 {BIG}:00:00 GMT",
    f"Mon, {BIG} Jan 2020 00:00:00 GMT",
    f"Mon, 01 Jan 2020 00:00:00 +{BIG}",
    f"Mon, 01 Jan {HUGE} 00:00:00 GMT",
    f"Mon, 01 Jan {BIG} 00:00:00 GMT",
]
RANGES = ["bytes=-", "bytes=5-1", "bytes=--5", f"bytes=-{BIG}", f"bytes={HUGE}-", "bytes=0-1,3-4", "bytes=²-", "x=1-"]
QUALITIES = [f"text/html;q={q}" for q in ("nan", "inf", "-1", "1e999", "٣", HUGE)]
METRICS = "application/openmetrics-text; version=x"
MEDIA = [*QUALITIES, METRICS, "/", "a/b/c", ";", ",,;=", "text/html; charset=\xff", "*/*;q"]
TAGS = ['"', "W/", "*", '"a",', f'"{HUGE}"', "\xff"]
ADDRESSES = ["[::1", "999.999.999.999", "::1%lo", "\xff", "a,,b", ",", "h:99999999", "..", "xn--" + "x" * 80, "<b>"]
VALUES = {
    "If-Modified-Since": [*DATES, *TAGS],
    "If-Unmodified-Since": DATES[-2:],
    "If-None-Match": TAGS,
    "If-Match": TAGS,
    "If-Range": [*DATES[-2:], *TAGS],
    "Range": RANGES,
    "Accept": MEDIA,
    "Accept-Encoding": ["gzip;q=nan", f"gzip;q={HUGE}", "*", ";", "\xff"],
    "Accept-Language": ["\xff", ";q=", "*"],
    "Content-Type": [*MEDIA, "multipart/form-data", "multipart/form-data; boundary=\xff", "text/plain; charset=no"],
    "Content-Length": ["-1", "0x5", "٣", HUGE, "1, 2", ""],
    "Cookie": [";;=", 'a="\\777"', "session=\xff", "=" * 2000, "\xff=\xff"],
    "Authorization": ["Bearer", "Bearer \xff", "Basic x", "Basic ====", 'Digest "', "Digest a*=UTF-8''%ff", "\xff"],
    "X-Forwarded-For": ADDRESSES,
    "X-Forwarded-Host": ADDRESSES,
    "X-Forwarded-Proto": ["\xff", ",", "javascript", HUGE],
    "X-Forwarded-Port": ["x", BIG],
    "X-Forwarded-Prefix": ["//evil.example", "\xff"],
    "Forwarded": ["for=;", 'for="[::1'],
    "X-Request-ID": ["\xff", "٣", HUGE],
    "X-CSRFToken": ["\xff", ".." * 100, HUGE],
    "Referer": ["\xff", "http://[::1", "//", "http://h:99999999/"],
    "Origin": ["null", "\xff", "http://[::1"],
    "Expect": ["100-continue", "miracles"],
    "Host": [*ADDRESSES, "", "a b", "a/b", "a@b", "a?b", "h:x", ":80"],
}
EXPECTED = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}", "REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture(scope="module")
def apps(prepared, tmp_path_factory):
    """An installation that many only read from, reached directly and behind a proxy."""
    folder = tmp_path_factory.mktemp("asked") / "data"
    shutil.copytree(prepared, folder)
    own = settings_in(folder)
    made = [create_app(own), create_app(replace(own, https=True, trusted_proxies=1))]
    yield made
    for app in made:
        services(app).close()


def addresses(app):
    """One address for each rule, as it is where there is something, and a file."""
    yield app.jinja_env.globals["asset"]("css/base.css")
    for rule in app.url_map.iter_rules():
        rule = re.sub(r"<string\(length=3\):\w+>", "csv", re.sub(r"<[^>]*string[^>]*>", "x" * 12, rule.rule))
        yield re.sub(r"<[^>]*int[^>]*>", "1", re.sub(r"<(path:)?\w+>", "x", rule))


def asked(app, path, headers, method="GET"):
    """The answer to headers as a server passes them on: in latin-1, under the names that WSGI has for them."""
    environ = create_environ(path, method=method) | EXPECTED
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        raw = value if all(ord(sign) < 256 for sign in value) else value.encode().decode("latin-1")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = raw
    return Response.from_app(app, environ, buffered=True)


@pytest.mark.parametrize("name", VALUES)
def test_header_of_any_value_never_fails(apps, name):
    """Each at those addresses that compare and parse most, and at some of the others."""
    most = ["/admin/versions/1/weights"] if name.startswith(("If-", "Range")) else ["/metrics"]
    for app in apps if name.startswith("X-F") else apps[:1]:
        file, *others = addresses(app)
        others = itertools.cycle(others)
        for value in VALUES[name]:
            for path in [file, *most, *itertools.islice(others, 2)]:
                answer = asked(app, path, {name: value})
                assert answer.status_code < 500, (path, value[:60])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_headers_of_any_mixture_never_fail(apps, data):
    # What no server passes on: control characters, and a value's spaces at its ends.
    anything = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=80).map(str.strip)
    app = data.draw(st.sampled_from(apps))
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5, unique=True))
    headers = {name: data.draw(st.sampled_from(VALUES[name]) | anything) for name in names}
    path = data.draw(st.sampled_from(list(addresses(app))))
    method = data.draw(st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"])) if "/delete" not in path else "GET"
    if method == "POST":
        headers.setdefault("Authorization", "Bearer wrong")
    assert asked(app, path, headers, method).status_code < 500


def test_header_with_a_date_is_compared(apps):
    path = apps[0].jinja_env.globals["asset"]("css/base.css")
    since = asked(apps[0], path, {}).headers["Last-Modified"]
    assert asked(apps[0], path, {"If-Modified-Since": since}).status_code == 304
    assert asked(apps[0], path, {"If-Modified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"}).status_code == 200


# Where redirects lead

SLASHES = ["//", "//admin", "///admin", "/admin//", "//evil.example/..", "//evil.example/%2e%2e", "/%2fevil.example"]


@pytest.mark.parametrize("path", [*SLASHES, "/\\evil.example", "/admin/", "/gallery/", "/gallery//1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_address_with_too_many_slashes_is_not_found(apps, path, method):
    for app in apps:
        environ = create_environ("/", method=method) | {"HTTP_HOST": "evil.example", "PATH_INFO": unquote(path)}
        answer = Response.from_app(app, environ, buffered=True)
        assert "Location" not in answer.headers
        assert answer.status_code == 404
        if method == "GET":
            assert_error(answer, 404, "not_found")


def test_redirect_never_takes_its_host_from_a_header(apps):
    hosts = {"Host": "evil.example", "X-Forwarded-Host": "worse.example", "X-Forwarded-Prefix": "//evil.example"}
    found = {}
    for app in apps:
        for path in [*addresses(app), "/gallery?page=2&only=wrong&more", "/gallery?x=//evil.example", "/gallery/1?x"]:
            for method in ("GET", "POST"):
                for signed in ({}, {"Authorization": ""}):
                    answer = asked(app, path, hosts | {"Accept": "text/html"} | signed, method)
                    if location := answer.headers.get("Location"):
                        found[method, path] = location
    assert len(found) > 3
    assert all(re.match(r"/(?!/)", to) and "example/" not in to.partition("?")[0] for to in found.values()), found


# What names its host wrongly, or not at all


NO_HOSTS = [
    "",
    " ",
    "a b",
    "a/b",
    "a@b",
    "a?b",
    "a#b",
    "h:x",
    ":80",
    "<b>",
    "[::1",
    "é",
    "a:1:2",
    "a, b",
    "a..b",
    ".",
    "a" * 64,
    ".".join(["a"] * 132),
]
HOSTS = ["localhost", "a.example:443", "127.0.0.1:80", "[::1]:8000", "web_1:8000", "EXAMPLE.", "xn--bcher-kva.ch"]


def test_host_that_is_none_is_refused_everywhere(apps):
    hosts = itertools.cycle(NO_HOSTS)
    for path in addresses(apps[0]):
        assert_error(asked(apps[0], path, {"Host": next(hosts)}), 400, "bad_host")


@pytest.mark.parametrize("host", NO_HOSTS)
def test_host_that_is_none_is_refused_with_a_page(apps, host):
    answer = asked(apps[0], "/gallery", {"Host": host, "Accept": "text/html"})
    assert answer.status_code == 400 and "The request must name its host" in answer.get_data(as_text=True)


def test_host_that_may_be_one_is_answered(apps):
    for host in HOSTS:
        assert asked(apps[0], "/healthz", {"Host": host}).status_code == 200


def test_host_missing_is_refused_but_for_http_1_0(apps):
    for path in addresses(apps[0]):
        nameless = {name: value for name, value in create_environ(path).items() if name != "HTTP_HOST"} | EXPECTED
        assert_error(Response.from_app(apps[0], dict(nameless), buffered=True), 400, "bad_host")
        old = nameless | {"SERVER_PROTOCOL": "HTTP/1.0"}
        assert Response.from_app(apps[0], old, buffered=True).status_code in (200, 202, 303, 404, 405)
