"""What a command cannot do it says in one line, and leaves nothing that hinders the next one."""

import contextlib
import errno
import io
import os
import socket
import sqlite3
import subprocess
import sys
import urllib.request

import pytest

from tests.servers import free_port, wait_until
from tests.webapp.test_worker import fill
from webapp import __main__ as command
from webapp.settings import ROOT

COMMANDS = ("setup", "run", "password")


@pytest.fixture
def environ(settings, monkeypatch):
    """The environment of the commands, which work on an installation that is set up."""
    variables = {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.mnist_dir), "PORT": str(free_port())}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", io.StringIO("another password\n"))


def refused(capsys, *arguments):
    """The line that a command is refused with."""
    capsys.readouterr()
    assert command.main([*arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("inkling: ") and said.count("\n") == 1, said
    return said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_schema_of_a_newer_release(environ, settings, capsys, name):
    with sqlite3.connect(settings.data_dir / "inkling.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert "newer release" in refused(capsys, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_database(environ, settings, capsys, name):
    (settings.data_dir / "inkling.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in refused(capsys, name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["setup.install_shipped", "setup.mnist.fetch", "settings.Settings.read"])
def test_a_disk_that_takes_nothing(environ, monkeypatch, capsys, step, number):
    def fail(*_):
        raise OSError(number, os.strerror(number), "a/file")

    monkeypatch.setattr(f"webapp.{step}", fail)
    assert refused(capsys, "setup") == f"inkling: a/file: {os.strerror(number)}\n"


@pytest.mark.parametrize("kilobytes", [4, 64, 400, 1000, 3000])
def test_a_full_disk_at_the_first_start(environ, settings, monkeypatch, capsys, tmp_path, kilobytes):
    """Wherever set-up is when the disk is full, it goes on from there when there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "disk", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk takes root's rights")
    try:
        fill(disk / "filler", leaving=kilobytes * 1000)
        (disk / "data").mkdir()
        monkeypatch.setenv("DATA_DIR", str(disk / "data"))
        refused(capsys, "setup")
        (disk / "filler").unlink()
        assert command.main(["setup"]) == 0
        assert "sign in with" in capsys.readouterr().out
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no.such.name.invalid", "a..b"])
def test_an_address_that_cannot_be_had(environ, monkeypatch, capsys, host):
    monkeypatch.setenv("HOST", host)
    with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))):
        assert f"{host}:{os.environ['PORT']} cannot be used (" in refused(capsys, "run")


def test_a_program_that_is_missing(environ, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert "setpriv is missing; it comes with util-linux" in refused(capsys, "run")


@pytest.mark.parametrize("module", ["webapp", "gunicorn"])
def test_a_wrong_setting(environ, monkeypatch, module):
    monkeypatch.setenv("PORT", "many")
    arguments = ["worker"] if module == "webapp" else []
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr == "inkling: PORT must be a whole number from 1 to 65535, not 'many'\n"


def test_what_is_made_at_run_time_is_its_users_alone(environ, monkeypatch, tmp_path):
    """Whatever the shell's umask is."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "fresh"))
    subprocess.run(["sh", "-c", f"umask 0; exec {sys.executable} -m webapp setup"], cwd=ROOT, check=True)
    modes = {path: path.stat().st_mode & 0o077 for path in (tmp_path / "fresh").rglob("*")}
    assert modes and not any(modes.values()), modes


def test_output_that_nobody_reads(environ):
    source, sink = os.pipe()
    os.close(source)
    run = [sys.executable, "-m", "webapp", "run"]
    done = subprocess.run(run, cwd=ROOT, stdout=sink, stderr=subprocess.PIPE, text=True)
    os.close(sink)
    assert (done.returncode, done.stderr) == (2, "")


def is_ready():
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{os.environ['PORT']}/readyz"):
        return True
    return False


@pytest.mark.stress
def test_a_closed_output(environ):
    """Nothing else may take the number of the standard output."""
    with subprocess.Popen(["sh", "-c", f"exec {sys.executable} -m webapp run >&-"], cwd=ROOT) as process:
        try:
            wait_until(lambda: process.poll() is not None or is_ready())
            assert process.poll() is None
        finally:
            process.terminate()
    assert process.returncode == 0
