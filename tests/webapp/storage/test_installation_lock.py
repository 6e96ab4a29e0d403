"""Who uses an installation is known until its process ends; who replaces it waits for nobody, and others for it."""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.conftest import settings_in
from tests.support.gunicorn import serve
from tests.support.servers import wait_until
from tests.support.small import key, small
from webapp.settings import ROOT
from webapp.setup.backup import back_up
from webapp.setup.restore import restore
from webapp.storage.installation_lock import InUse, exclusive, share

REFUSED = "/data/inkling.db is in use: end web and worker first"


@pytest.fixture
def file(settings, tmp_path):
    back_up(settings, tmp_path / "backup.zip")
    return tmp_path / "backup.zip"


@contextmanager
def worker(settings, log):
    environ = os.environ | {"DATA_DIR": str(settings.data_dir)}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "webapp", "worker"], cwd=ROOT, env=environ, stderr=output)
    try:
        wait_until(lambda: b"the worker is ready" in log.read_bytes())
        yield process
    finally:
        process.kill()
        process.wait()


def refuses(settings, file):
    try:
        restore(settings, file, environ={})
    except InUse as error:
        return "in use" in str(error)
    return False


def test_restore_while_the_web_serves_is_refused_until_its_last_process_is_gone(settings, file):
    with serve(settings.data_dir, workers=1) as server:
        assert refuses(settings, file)
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)  # the same master goes on, with new workers
        wait_until(lambda: server.workers() and not server.workers() & before)
        assert refuses(settings, file)
        (of_web,) = server.workers()
        os.kill(of_web, signal.SIGSTOP)
        server.process.kill()
        server.process.wait()
        assert refuses(settings, file)  # by a process that might go on and write
        os.kill(of_web, signal.SIGKILL)
        wait_until(lambda: not refuses(settings, file))


def test_restore_beside_a_worker_is_refused_until_it_is_killed(settings, file, tmp_path):
    with worker(settings, tmp_path / "log") as process:
        assert refuses(settings, file)
        process.kill()
        process.wait()
        assert not refuses(settings, file)


def test_command_waits_for_a_restore_and_goes_on_with_its_key(tmp_path):
    settings = small(tmp_path / "data", "old")
    code = "import sys; from webapp.settings import Settings; from webapp.storage.installation_lock import share\n"
    code += "print(share(Settings.read(), lambda line: print(line, flush=True)).secret_key)"
    environ = os.environ | {"DATA_DIR": str(settings.data_dir), "SECRET_KEY": ""}
    with exclusive(settings):
        command = [sys.executable, "-c", code]
        waiting = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout.readline() == f"waiting: {settings.data_dir}/inkling.db is being restored or copied\n"
        (settings.data_dir / "secret_key").write_text(key("new"))
    assert waiting.communicate()[0] == f"{key('new')}\n"


def test_lock_is_that_of_the_database_whatever_its_name(tmp_path):
    settings = small(tmp_path / "data", "old")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    other = settings_in(tmp_path / "other", DATABASE_URL=f"sqlite:///{tmp_path}/link/inkling.db")
    with exclusive(settings), pytest.raises(InUse, match=REFUSED), exclusive(other):
        pass


@pytest.mark.parametrize("file_system_locks", [True, False])
def test_installation_that_cannot_be_locked_is_served_all_the_same(tmp_path, monkeypatch, file_system_locks):
    settings, said = small(tmp_path / "data", "mine"), []
    if file_system_locks:
        (settings.data_dir / "inkling.db-lock").mkdir()
    else:
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(37, "No locks available")))
    assert share(settings, said.append) == settings
    (line,) = said
    assert line.startswith("Warning: ") and "cannot be locked" in line
    with pytest.raises(OSError), exclusive(settings):
        pass


def test_lock_made_by_root_belongs_to_the_owner_of_the_folder(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("giving a file away takes root's rights")
    settings = small(tmp_path / "data", "mine")
    os.chown(settings.data_dir, 12345, 12345)
    with exclusive(settings):
        pass
    back_up(settings, tmp_path / "backup.zip")
    owners = {(settings.data_dir / name).stat().st_uid for name in ("inkling.db-lock", "inkling-last-backup")}
    assert owners == {12345}
