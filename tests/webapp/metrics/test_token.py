"""METRICS_TOKEN: it opens /metrics from anywhere, and no other address."""

import re
from contextlib import closing
from dataclasses import replace

import pytest

from tests.conftest import TOKEN
from tests.support.requests import assert_error
from tests.webapp.http.test_authentication import attempts
from webapp.app import create_app
from webapp.auth import ATTEMPTS_PER_ADDRESS
from webapp.services import services
from webapp.settings import Settings, SettingsError

METRICS_TOKEN = "a-token-for-prometheus"


@pytest.fixture
def app(settings):
    app = create_app(replace(settings, metrics_token=METRICS_TOKEN))
    with closing(services(app)):
        yield app


def ask(client, token, path="/metrics", method="GET", address="192.0.2.1"):
    headers = {"Authorization": f"Bearer {token}"}
    return client.open(path, method=method, headers=headers, environ_base={"REMOTE_ADDR": address})


def test_metrics_are_told_to_either_token_from_anywhere(app, client):
    for token in (METRICS_TOKEN, TOKEN):
        assert "inkling_requests_total" in ask(client, token).text
    assert attempts(app) == []


def test_metrics_token_works_without_one_for_scripts(settings):
    app = create_app(replace(settings, admin_token="", metrics_token=METRICS_TOKEN))
    with closing(services(app)):
        client = app.test_client()
        assert ask(client, METRICS_TOKEN).status_code == 200
        assert_error(ask(client, TOKEN), 401, "not_signed_in")
        assert "ADMIN_TOKEN is not set" in assert_error(
            ask(client, METRICS_TOKEN, "/admin/runs/1"), 401, "not_signed_in"
        )


def test_metrics_token_opens_nothing_else(app, client):
    """Whatever an administrator may do, and so that each try counts."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/admin/") and "sign" not in rule.rule]
    asked = [(rule, method) for rule in rules for method in rule.methods - {"OPTIONS", "HEAD"}]
    assert len(asked) >= 20
    urls = [(re.sub("<[^>]*>", "npz", re.sub("<int:[^>]*>", "1", rule.rule)), way) for rule, way in asked]
    for number, (path, method) in enumerate(urls):
        assert_error(ask(client, METRICS_TOKEN, path, method, f"192.0.2.{number}"), 401, "not_signed_in")
    assert len(attempts(app)) == len(asked)


def test_metrics_token_wrong_is_counted_like_any_other(app, client):
    for token in ("", "wrong", METRICS_TOKEN[:-1], f"{METRICS_TOKEN}x", "t\u00f6ken"):
        assert_error(ask(client, token), 401, "not_signed_in")
    assert len(attempts(app)) == ATTEMPTS_PER_ADDRESS
    assert_error(ask(client, "wrong"), 429, "too_many_attempts")
    assert ask(client, METRICS_TOKEN).status_code == 200


@pytest.mark.parametrize("token", ["short", "of-15-character", "a token with many spaces", "from-a-file-with-end\n"])
def test_metrics_token_that_is_none_is_refused_by_name(tmp_path, token):
    with pytest.raises(SettingsError, match="^METRICS_TOKEN "):
        Settings.read({"DATA_DIR": str(tmp_path), "METRICS_TOKEN": token})
