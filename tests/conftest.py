"""Fixtures for everybody: an installation of its own for each test, made once and copied."""

import shutil
from dataclasses import replace

import pytest

from model import mnist
from webapp import create_app
from webapp.database import Database
from webapp.services import services
from webapp.settings import Settings
from webapp.setup import set_up

PASSWORD = "correct horse battery"
TOKEN = "a-token-for-scripts"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A DATA_DIR after set-up: schema, shipped version in service, password; the data set where it was fetched to."""
    folder = tmp_path_factory.mktemp("prepared")
    set_up(settings_in(folder), say=lambda line: None)
    return folder


@pytest.fixture
def settings(prepared, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    return settings_in(folder)


@pytest.fixture
def database(settings):
    database = Database(settings.database_url)
    yield database
    database.close()


@pytest.fixture
def app(settings):
    app = create_app(settings)
    yield app
    services(app).live.stop()
    services(app).database.close()


@pytest.fixture
def client(app):
    return app.test_client()


def settings_in(folder) -> Settings:
    settings = Settings.read({"DATA_DIR": str(folder), "MNIST_DIR": str(mnist.default_folder())})
    return replace(settings, admin_password=PASSWORD, admin_token=TOKEN)
