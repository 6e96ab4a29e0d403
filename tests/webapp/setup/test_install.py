"""Set-up brings an installation up to date, as often as it runs."""

import re
import resource
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from sqlalchemy import func, select

from model.data import download, mnist
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.inference.weights import WeightsError
from tests.conftest import PASSWORD
from tests.support.versions import add_version, damaged, promote, promotions, turned
from webapp.app import create_app
from webapp.auth import Authenticator, PasswordRefused, WrongPassword
from webapp.cli import main
from webapp.services import services
from webapp.settings import Settings
from webapp.setup import install
from webapp.setup.install import set_up
from webapp.storage.engine import Database
from webapp.storage.schema import SignInAttempt, Version


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
        return bool(Authenticator(database).sign_in(password, "an address"))
    except WrongPassword:
        return False
    finally:
        database.close()


def test_set_up_generated_password_is_said_once_and_opens(settings):
    password = re.search(r"sign in with the password (\S+)\n", said(settings))[1]
    assert len(password) >= 16
    assert opens(settings, password) and not opens(settings, "")
    again = said(settings)
    assert password not in again and "your password" in again
    assert opens(settings, password)


def test_set_up_passwords_of_two_installations_differ(settings, tmp_path):
    other = replace(settings, data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/other.db")
    assert said(settings) != said(other)


def test_set_up_password_of_the_environment_is_never_said(settings):
    said(settings)
    line = said(replace(settings, admin_password=PASSWORD))
    assert PASSWORD not in line and "ADMIN_PASSWORD" in line
    assert opens(settings, PASSWORD)
    said(replace(settings, admin_password="another password"))
    assert opens(settings, "another password") and not opens(settings, PASSWORD)


def test_set_up_again_with_the_same_password_signs_nobody_out(settings, database):
    settings = replace(settings, admin_password=PASSWORD)
    said(settings)
    door = Authenticator(database)
    token = door.sign_in(PASSWORD, "an address")
    with pytest.raises(WrongPassword):
        door.sign_in("wrong", "an address")
    said(settings)
    assert door.holder(token)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(SignInAttempt)) == 1
    said(replace(settings, admin_password="another password"))
    assert not door.holder(token)


def test_set_up_password_too_short_is_refused(settings):
    with pytest.raises(PasswordRefused, match="8 to 1024"):
        said(replace(settings, admin_password="1234567"))


def test_set_up_puts_the_shipped_version_into_service(database):
    with database.reading() as session:
        version = session.get(Version, 1)
        card = weights.read_card(SHIPPED.read_bytes())
        assert (version.source, version.preset, version.run_id) == ("shipped", card.preset, None)
        assert version.weights == SHIPPED.read_bytes() and version.card == card.as_dict()
        assert version.sha256 == weights.digest(version.weights)
        assert version.validation_accuracy == card.validation_accuracy
    assert promotions(database) == [1]


def test_set_up_again_changes_no_version(database, settings):
    promote(database, add_version(database, turned(1)))
    said(settings)
    with database.reading() as session:
        assert session.get(Version, 3) is None
    assert promotions(database) == [1, 2]


@pytest.mark.parametrize(("own", "promoted"), [(False, True), (True, False)])
def test_set_up_newer_shipped_version_replaces_a_shipped_one(database, settings, monkeypatch, tmp_path, own, promoted):
    """`own`: whether the installation has made its champion itself; that one is replaced by evidence alone."""
    if own:
        promote(database, add_version(database, turned(1)))
    newer = tmp_path / "newer.safetensors"
    newer.write_bytes(turned(2))
    monkeypatch.setattr(install, "SHIPPED", newer)
    before = promotions(database)
    said(settings)
    number = 3 if own else 2
    with database.reading() as session:
        assert session.get(Version, number).weights == turned(2)
    assert promotions(database) == before + [number] * promoted
    said(settings)
    assert promotions(database) == before + [number] * promoted


WHOLE = SHIPPED.read_bytes()


def not_finite():
    """Weights that are whole, with an infinite one; their digest is right."""
    arrays = load_arrays(WHOLE)
    arrays["layers.0.bias"][0] = np.inf
    metadata = weights._header(WHOLE)["__metadata__"]
    return save_arrays(arrays, metadata | {"sha256": weights._checksum(metadata["card"], arrays)})


DAMAGES = {
    "missing": None,
    "empty": b"",
    "half": WHOLE[: len(WHOLE) // 2],
    "one bit flipped": damaged(WHOLE),
    "not finite": not_finite(),
    "another program's": save_arrays({"weight": np.zeros((10, 784), np.float16)}),
}
damage = pytest.mark.parametrize(
    "data",
    [
        pytest.param(data, id=name, marks=[] if name in ("missing", "half", "not finite") else pytest.mark.stress)
        for name, data in DAMAGES.items()
    ],
)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """The file with the shipped weights, which a test may change."""
    file = tmp_path / "shipped.safetensors"
    file.write_bytes(WHOLE)
    monkeypatch.setattr(install, "SHIPPED", file)
    return file


def ship(file, data):
    file.unlink(missing_ok=True)
    if data is not None:
        file.write_bytes(data)


@damage
def test_set_up_damaged_shipped_version_alone_is_refused(settings, shipped, data):
    ship(shipped, data)
    with pytest.raises(WeightsError, match=re.escape(str(shipped))):
        said(settings)
    ship(shipped, WHOLE)
    said(settings)
    with closing(Database(settings.database_url)) as database:
        assert promotions(database) == [1]


@damage
def test_set_up_damaged_shipped_version_leaves_the_good_one(database, settings, shipped, data):
    ship(shipped, data)
    (warning,) = [line for line in said(settings).splitlines() if str(shipped) in line]
    assert warning.startswith("Warning: ") and warning.endswith("v1 answers")
    assert promotions(database) == [1]
    with database.reading() as session:
        assert session.get(Version, 2) is None
    ship(shipped, WHOLE)
    assert "Warning" not in said(settings)
    assert promotions(database) == [1]


@pytest.mark.parametrize("source", ["shipped", "run"])
def test_set_up_damaged_champion_is_replaced_by_the_shipped_one(database, settings, shipped, source):
    """Earlier releases promoted what they had not tried out, and a whole file that they knew already never again."""
    number = add_version(database, WHOLE[:-1])
    with database.writing() as session:
        session.get(Version, number).source = source
    promote(database, number)
    assert "v1 is in service now: v2 cannot be used: " in said(settings)
    assert promotions(database) == [1, 2, 1]
    ship(shipped, WHOLE[:-1])
    said(settings)
    assert promotions(database) == [1, 2, 1]


def test_set_up_all_damaged_puts_back_the_last_good_one(database, settings, shipped):
    for data in (turned(1), turned(2), WHOLE[:-1], b""):
        promote(database, add_version(database, data))
    promote(database, 2)
    promote(database, 5)
    ship(shipped, WHOLE[:-1])
    assert "v2 answers" in said(settings)
    assert promotions(database)[-2:] == [5, 2]


def test_set_up_damaged_row_is_added_again(database, settings):
    with database.writing() as session:
        session.get(Version, 1).weights = damaged(WHOLE)
    said(settings)
    assert promotions(database) == [1, 2]
    with database.reading() as session:
        assert session.get(Version, 2).weights == WHOLE


@pytest.mark.parametrize(
    "most", [30, 300_000, *(pytest.param(most, marks=pytest.mark.stress) for most in (0, 3_000, 30_000, 3_000_000))]
)
def test_set_up_without_room_can_be_repeated(settings, monkeypatch, capsys, most):
    """No file may grow beyond `most` bytes: the first one that would is left half, or not at all."""
    shutil.rmtree(settings.data_dir)
    environ = {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.mnist_dir), "ADMIN_PASSWORD": PASSWORD}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        assert main(["setup"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "inkling: " in error and "Traceback" not in error
    assert main(["setup"]) == 0
    now = Settings.read()
    assert len(now.secret_key) == 64 and opens(now, PASSWORD)
    with closing(Database(now.database_url)) as database:
        assert promotions(database) == [1]
    found = {path.name for path in settings.data_dir.iterdir()}
    assert found == {"inkling.db", "inkling.db-lock", "queue.db", "secret_key", "static"}


@pytest.mark.parametrize("left", ["a file", "a link to nowhere"])
def test_set_up_without_copies_of_static_files_goes_on(settings, left):
    place = settings.data_dir / "static"
    place.touch() if left == "a file" else place.symlink_to(settings.data_dir / "nowhere")
    (warning,) = [line for line in said(settings).splitlines() if line.startswith("Warning")]
    assert "uncompressed" in warning
    with closing(services(app := create_app(settings))):
        address = re.search(r'href="(/static/[^"]+\.css)"', app.test_client().get("/").text)[1]
        with app.test_client().get(address) as sent:
            assert sent.status_code == 200


def test_set_up_command_refuses_damaged_weights_in_one_line(settings, shipped, capsys, monkeypatch):
    ship(shipped, WHOLE[:-1])
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    assert main(["setup"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"inkling: no version can be put into service: {shipped}: ") and error.count("\n") == 1


def test_set_up_fetches_mnist_where_missing_or_damaged(settings, monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(download, "_download", lambda folder, say: fetched.append(folder))
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


def test_set_up_without_mnist_works_and_says_so(settings, monkeypatch, tmp_path):
    def fail(folder, say):
        raise mnist.MnistMissing("MNIST is not in this folder")

    monkeypatch.setattr(download, "fetch", fail)
    settings = replace(settings, mnist_dir=tmp_path, admin_password=PASSWORD)
    assert "MNIST is not in this folder.\n" in said(settings) and "make data" in said(settings)
    assert opens(settings, PASSWORD)
