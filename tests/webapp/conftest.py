"""An installation that many tests only read from, so that the network is loaded once for all of them."""

import shutil
import subprocess

import pytest

from tests.conftest import install, settings_in
from tests.support.administrator import sign_in
from webapp.app import create_app
from webapp.services import services


@pytest.fixture(scope="module")
def shared_app(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "data"
    install(prepared, folder)
    app = create_app(settings_in(folder))
    services(app).active_model.classifier().warm()
    yield app
    services(app).close()


@pytest.fixture(scope="module")
def reader(shared_app):
    return shared_app.test_client()


@pytest.fixture(scope="module")
def signed_in(shared_app):
    """A signed-in browser at the installation that is only read from."""
    client = shared_app.test_client()
    assert sign_in(client).status_code == 303
    return client


@pytest.fixture
def admin(client):
    """A signed-in browser."""
    assert sign_in(client).status_code == 303
    return client


@pytest.fixture
def disk(settings, tmp_path):
    """A disk of 24 MB with the installation on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "disk", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a disk takes root's rights")
    shutil.copytree(settings.data_dir, disk / "data")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
