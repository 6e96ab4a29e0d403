"""An installation that many tests only read from, so that the network is loaded once for all of them."""

import shutil

import pytest

from tests.conftest import settings_in
from tests.webapp.administrator import sign_in
from webapp import create_app
from webapp.services import services


@pytest.fixture(scope="module")
def shared_app(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "data"
    shutil.copytree(prepared, folder)
    app = create_app(settings_in(folder))
    services(app).live.recognizer().warm()
    yield app
    services(app).close()


@pytest.fixture(scope="module")
def reader(shared_app):
    return shared_app.test_client()


@pytest.fixture
def admin(client):
    """A signed-in browser."""
    assert sign_in(client).status_code == 303
    return client
