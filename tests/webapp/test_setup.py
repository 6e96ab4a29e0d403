"""Set-up brings an installation up to date, as often as it runs."""

import re
import shutil
from dataclasses import replace

import pytest

from model import mnist, weights
from model.recognizer import SHIPPED
from model.weights import WeightsError
from tests.conftest import PASSWORD
from tests.webapp.versions import add_version, promote, promotions, turned
from webapp import setup
from webapp.database import Database, Version
from webapp.door import Door, PasswordRefused, WrongPassword
from webapp.settings import Settings
from webapp.setup import set_up


@pytest.fixture
def settings(tmp_path):
    """An installation that is not set up yet."""
    return Settings.read({"DATA_DIR": str(tmp_path / "data"), "MNIST_DIR": str(mnist.default_folder())})


@pytest.fixture
def database(settings):
    set_up(settings, say=lambda line: None)
    database = Database(settings.database_url)
    yield database
    database.close()


def said(settings):
    lines = []
    set_up(settings, lines.append)
    return "\n".join(lines)


def opens(settings, password):
    database = Database(settings.database_url)
    try:
        return bool(Door(database).sign_in(password, "an address"))
    except WrongPassword:
        return False
    finally:
        database.close()


def test_the_generated_password_is_said_once_and_opens(settings):
    password = re.search(r"sign in with the password (\S+)\n", said(settings))[1]
    assert len(password) >= 16
    assert opens(settings, password) and not opens(settings, "")
    again = said(settings)
    assert password not in again and "your password" in again
    assert opens(settings, password)


def test_two_installations_have_two_passwords(settings, tmp_path):
    other = replace(settings, data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/other.db")
    assert said(settings) != said(other)


def test_the_password_of_the_environment_is_set_and_never_said(settings):
    said(settings)
    line = said(replace(settings, admin_password=PASSWORD))
    assert PASSWORD not in line and "ADMIN_PASSWORD" in line
    assert opens(settings, PASSWORD)
    said(replace(settings, admin_password="another password"))
    assert opens(settings, "another password") and not opens(settings, PASSWORD)


def test_a_password_that_is_too_short_is_refused(settings):
    with pytest.raises(PasswordRefused, match="8 to 1024"):
        said(replace(settings, admin_password="1234567"))


def test_the_shipped_version_goes_into_service(database):
    with database.reading() as session:
        version = session.get(Version, 1)
        card = weights.read_card(SHIPPED.read_bytes())
        assert (version.source, version.preset, version.run_id) == ("shipped", card.preset, None)
        assert version.weights == SHIPPED.read_bytes() and version.card == card.as_dict()
        assert version.sha256 == weights.digest(version.weights)
        assert version.validation_accuracy == card.validation_accuracy
    assert promotions(database) == [1]


def test_a_second_set_up_changes_no_version(database, settings):
    promote(database, add_version(database, turned(1)))
    said(settings)
    with database.reading() as session:
        assert session.get(Version, 3) is None
    assert promotions(database) == [1, 2]


@pytest.mark.parametrize(("own", "promoted"), [(False, True), (True, False)])
def test_a_newer_shipped_version_takes_the_place_of_a_shipped_one(
    database, settings, monkeypatch, tmp_path, own, promoted
):
    """`own`: whether the installation has made its champion itself; that one is replaced by evidence alone."""
    if own:
        promote(database, add_version(database, turned(1)))
    newer = tmp_path / "newer.safetensors"
    newer.write_bytes(turned(2))
    monkeypatch.setattr(setup, "SHIPPED", newer)
    before = promotions(database)
    said(settings)
    number = 3 if own else 2
    with database.reading() as session:
        assert session.get(Version, number).weights == turned(2)
    assert promotions(database) == before + [number] * promoted
    said(settings)
    assert promotions(database) == before + [number] * promoted


@pytest.mark.parametrize("data", [b"", b"no weights", SHIPPED.read_bytes()[:100]])
def test_a_damaged_shipped_version_is_refused(settings, monkeypatch, tmp_path, data):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(data)
    monkeypatch.setattr(setup, "SHIPPED", damaged)
    with pytest.raises(WeightsError):
        said(settings)


def test_mnist_is_fetched_where_a_file_is_missing_or_damaged(settings, monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(mnist, "_download", lambda folder, say: fetched.append(folder))
    assert "verified" in said(settings)
    assert fetched == []
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(settings.mnist_dir / "MNIST" / "raw", raw)
    part = raw / "train-labels-idx1-ubyte"
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    said(replace(settings, mnist_dir=tmp_path))
    part.unlink()
    said(replace(settings, mnist_dir=tmp_path))
    assert fetched == [tmp_path, tmp_path]


def test_without_mnist_the_installation_works_and_says_so(settings, monkeypatch, tmp_path):
    def fail(folder, say):
        raise mnist.MnistMissing("MNIST is not in this folder")

    monkeypatch.setattr(mnist, "fetch", fail)
    settings = replace(settings, mnist_dir=tmp_path, admin_password=PASSWORD)
    assert "MNIST is not in this folder.\n" in said(settings) and "make data" in said(settings)
    assert opens(settings, PASSWORD)
