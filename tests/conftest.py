"""Fixtures for everybody: an installation of its own for each test, made once and copied."""

import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from sqlalchemy import make_url

from model import mnist
from tests import servers
from webapp import create_app
from webapp.database import Database
from webapp.installation import NotSetUp, with_secret_key
from webapp.services import services
from webapp.settings import Settings
from webapp.setup import set_up

ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
PASSWORD = "correct horse battery"
TOKEN = "a-token-for-scripts"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A DATA_DIR after set-up: schema, shipped version in service, password; the data set where it was fetched to."""
    folder = tmp_path_factory.mktemp("prepared")
    set_up(settings_in(folder), say=lambda line: None)
    return folder


def pytest_generate_tests(metafunc):
    chosen = any("settings" in mark.args for mark in metafunc.definition.iter_markers("parametrize"))
    both = metafunc.definition.get_closest_marker("both_databases")
    if both and "settings" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(request, tmp_path):
    """Those of an installation of its own: on SQLite alone, unless the test is marked `both_databases`."""
    folder = tmp_path / "data"
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copytree(request.getfixturevalue("prepared"), folder)
        yield settings_in(folder)
    else:
        server, template = request.getfixturevalue("prepared_postgresql")
        with own_database(server, template) as url:
            yield settings_in(folder, DATABASE_URL=url)


@pytest.fixture(scope="session")
def postgresql():
    """A server for all tests; each has a database of its own there."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def prepared_postgresql(postgresql, tmp_path_factory):
    """The server, and the name of a database after set-up."""
    url = postgresql.create_database()
    set_up(settings_in(tmp_path_factory.mktemp("prepared"), DATABASE_URL=url), say=lambda line: None)
    return postgresql, make_url(url).database


@contextmanager
def own_database(server, template="template1"):
    """The URL of a copy of `template` that is gone afterwards."""
    url = server.create_database(template)
    yield url
    with server.connect() as connection:
        connection.execute(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")


@pytest.fixture
def database(settings):
    database = Database(settings.database_url)
    yield database
    database.close()


@pytest.fixture
def app(settings):
    app = create_app(settings)
    yield app
    services(app).close()


@pytest.fixture
def client(app):
    return app.test_client()


def settings_in(folder, **environ: str) -> Settings:
    settings = Settings.read({"DATA_DIR": str(folder), "MNIST_DIR": str(mnist.default_folder()), **environ})
    settings = replace(settings, admin_password=PASSWORD, admin_token=TOKEN)
    with suppress(NotSetUp):
        settings = with_secret_key(settings)
    return settings
