"""Everything made at run time is readable by its owner alone, from the moment it is there."""

import os
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from model.data import mnist
from model.presets import Config
from tests.support.requests import ONE
from webapp import private_files
from webapp.app import create_app
from webapp.services import services
from webapp.settings import ROOT, Settings, SettingsError
from webapp.setup.install import set_up
from webapp.storage.engine import Database

STRANGER = 65_534  # nobody


@pytest.fixture(autouse=True)
def usual_umask():
    """The one that most systems give to their users."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def settings_of(folder, **environ):
    return Settings.read({"DATA_DIR": str(folder), "MNIST_DIR": str(mnist.default_folder()), **environ})


def said(settings):
    lines = []
    set_up(settings, lines.append)
    return [line for line in lines if line.startswith("Warning")]


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


def open_to_others(folder):
    return {name for name, mode in modes(folder).items() if mode & 0o077}


def use(settings):
    """Reads a digit, starts a job and so makes what only running processes make."""
    app = create_app(settings)
    with app.test_client() as client:
        assert client.post("/predict", json=ONE).status_code == 200
    services(app).jobs.start(Config("basic", 1), "a test")
    services(app).close()


@pytest.mark.parametrize("umask", [0, 0o022])
def test_installation_new_is_its_owners_alone(tmp_path, umask):
    os.umask(umask)
    settings = settings_of(tmp_path / "data")
    assert said(settings) == []
    use(settings)
    assert {"data", "inkling.db", "queue.db", "secret_key", "static"} <= set(modes(settings.data_dir))
    assert open_to_others(settings.data_dir) == set()


def test_installation_is_never_readable_by_others(tmp_path):
    """Everything that is made there is looked at as it is made, before the next step may have closed it."""
    code = (
        "import os, sys\n"
        "os.umask(0o022)\n"
        "def look(event, arguments):\n"
        "    if event in ('os.chmod', 'os.rename', 'os.link', 'sqlite3.connect', 'os.listdir'):\n"
        "        for name in os.listdir(folder) if event != 'os.listdir' and os.path.isdir(folder) else ():\n"
        "            if os.stat(os.path.join(folder, name)).st_mode & 0o077:\n"
        "                print('open:', name)\n"
        "        if os.path.isdir(folder) and os.stat(folder).st_mode & 0o077: print('open: the folder')\n"
        "from webapp.settings import Settings\n"
        "from webapp.setup.install import set_up\n"
        "folder = os.environ['DATA_DIR']\n"
        "sys.addaudithook(look)\n"
        "set_up(Settings.read(), print)\n"
    )
    environ = os.environ | {"DATA_DIR": str(tmp_path / "data"), "MNIST_DIR": str(mnist.default_folder())}
    environ.pop("SECRET_KEY", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 and "Administrator" in done.stdout, done.stderr
    assert "open:" not in done.stdout


@pytest.fixture
def left_open(tmp_path):
    """An installation as earlier releases made it: open to every user."""
    settings = settings_of(tmp_path / "data")
    said(settings)
    use(settings)
    (settings.data_dir / "supervisord.pid").write_text("123\n")
    (settings.data_dir / "inkling.db.bak").write_bytes(b"a copy of the database")
    for path in (settings.data_dir, *settings.data_dir.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return settings


def test_set_up_closes_what_earlier_releases_left_open(left_open):
    assert said(left_open) == []
    assert open_to_others(left_open.data_dir) == set()


def test_set_up_closes_what_a_link_leads_to(left_open, tmp_path):
    (tmp_path / "link").symlink_to(left_open.data_dir)
    assert said(settings_of(tmp_path / "link")) == []
    assert open_to_others(left_open.data_dir) == set()


@pytest.mark.parametrize("there_before", [False, True])
def test_set_up_closes_a_database_elsewhere_not_its_folder(tmp_path, there_before):
    file = tmp_path / "elsewhere" / "x.db"
    file.parent.mkdir(0o755)
    settings = settings_of(tmp_path / "data", DATABASE_URL=f"sqlite:///{file}")
    if there_before:
        with closing(Database(settings.database_url)) as database:
            database.upgrade()
        file.chmod(0o644)
    assert said(settings) == []
    assert modes(file.parent) == {"elsewhere": 0o755, "x.db": 0o600}


def test_set_up_in_a_shared_folder_keeps_its_mode(left_open):
    (left_open.data_dir / "documents").mkdir(0o755)
    (warning,) = said(left_open)
    assert "holds other things" in warning and str(left_open.data_dir) in warning
    assert open_to_others(left_open.data_dir) == {"data", "documents"}


def test_set_up_permissions_that_stay_are_said_in_one_line(left_open, monkeypatch):
    def refused(path, mode):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(private_files.Path, "chmod", refused)
    (warning,) = said(left_open)
    assert f"{left_open.data_dir} (Operation not permitted)" in warning and "inkling.db (" in warning


def test_set_up_in_a_public_folder_with_content_is_refused(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "something").touch()
    with pytest.raises(SettingsError, match="^DATA_DIR .*shared with others"):
        settings_of(shared)
    assert set(modes(shared)) == {"shared", "something"}
    settings_of(shared / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a file to somebody else")
def test_set_up_in_a_public_folder_with_a_strangers_key_is_refused(tmp_path):
    """Its author would be able to sign everything."""
    tmp_path.chmod(0o1777)
    key = tmp_path / "secret_key"
    key.write_text("a stranger's")
    os.chown(key, STRANGER, STRANGER)
    with pytest.raises(SettingsError, match="^DATA_DIR "):
        settings_of(tmp_path)


def test_set_up_in_an_empty_public_folder_leaves_its_mode(tmp_path):
    """Containers mount a file system in memory like that."""
    tmp_path.chmod(0o1777)
    (warning,) = said(settings_of(tmp_path))
    assert "for all users" in warning
    assert open_to_others(tmp_path) == {tmp_path.name}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


@pytest.mark.timeout(30)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_secret_key_that_is_no_file_is_said_at_once(tmp_path, make):
    make(tmp_path / "secret_key")
    with pytest.raises(SettingsError, match="SECRET_KEY .*secret_key"):
        settings_of(tmp_path)
