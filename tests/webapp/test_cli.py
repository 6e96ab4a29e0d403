"""What a command cannot do it says in one line, and leaves nothing that hinders the next one."""

import contextlib
import errno
import io
import os
import socket
import subprocess
import sys
import urllib.request

import pytest
from sqlalchemy import Column, String

from tests.conftest import own_database
from tests.support.servers import free_port, wait_until
from tests.support.upgrading import migrate_further
from tests.webapp.worker.test_worker import fill
from webapp import cli as command
from webapp.auth import Authenticator
from webapp.settings import ROOT
from webapp.storage.engine import Database

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


@pytest.fixture
def database(settings):
    with contextlib.closing(Database(settings.database_url)) as database:
        yield database


@pytest.mark.parametrize("name", [*COMMANDS, "worker"])
def test_command_on_a_newer_schema_is_refused(environ, database, capsys, name):
    migrate_further(database, lambda op: op.drop_column("correction", "doubt"))
    said = refused(capsys, name)
    assert "of a newer release (revision 9999): correction.doubt is missing; start that release, or restore" in said


def test_set_up_on_a_newer_schema_that_suits_goes_on(environ, database, capsys):
    """The way back to the release before."""
    migrate_further(database, lambda op: op.add_column("correction", Column("colour", String)))
    assert command.main(["setup"]) == 0
    assert "of a newer release, which this one can work with" in capsys.readouterr().out
    assert command.main(["password"]) == 0


def test_password_names_the_installation_that_it_changed(environ, settings, database, capsys):
    assert command.main(["password"]) == 0
    assert f"is set in {settings.data_dir}/inkling.db; administrator is signed out" in capsys.readouterr().out
    assert Authenticator(database).sign_in("another password", "192.0.2.1")


def test_password_of_no_installation_is_refused(environ, monkeypatch, capsys, tmp_path):
    """In a checkout whose servers have their data elsewhere it made a database, and reported success."""
    for folder in "elsewhere", "empty":
        (tmp_path / folder).mkdir()
        monkeypatch.setenv("DATA_DIR", str(tmp_path / folder))
        if folder == "empty":
            (tmp_path / folder / "inkling.db").touch()
        there = sorted(tmp_path.glob(f"{folder}/*.db"))
        assert f"there is no installation in {tmp_path}/{folder}/inkling.db" in refused(capsys, "password")
        assert sorted(tmp_path.glob(f"{folder}/*.db")) == there


def test_password_in_postgresql_is_not_shown(environ, postgresql, monkeypatch, capsys):
    with own_database(postgresql) as url:
        monkeypatch.setenv("DATABASE_URL", url.replace("inkling@", "inkling:secret@"))
        said = refused(capsys, "password")
    assert "no installation in postgresql://inkling@127.0.0.1:" in said and "secret" not in said


@pytest.mark.parametrize("name", COMMANDS)
def test_command_on_a_damaged_database_is_refused(environ, settings, capsys, name):
    (settings.data_dir / "inkling.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in refused(capsys, name)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("setup.install.install_shipped", errno.ENOSPC),
        ("setup.install.download.fetch", errno.EROFS),
        ("settings.Settings.read", errno.EACCES),
    ],
)
def test_command_on_a_disk_that_takes_nothing_is_refused(environ, monkeypatch, capsys, step, number):
    def fail(*_):
        raise OSError(number, os.strerror(number), "a/file")

    monkeypatch.setattr(f"webapp.{step}", fail)
    assert refused(capsys, "setup") == f"inkling: a/file: {os.strerror(number)}\n"


@pytest.mark.parametrize("kilobytes", [4, 400, 3000])
def test_set_up_on_a_full_disk_can_be_repeated(environ, settings, monkeypatch, capsys, tmp_path, kilobytes):
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


def test_administrators_are_added_listed_and_removed(environ, monkeypatch, capsys):
    command.main(["setup"])
    capsys.readouterr()
    for name in ("Anna", "ben"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("another password\n"))
        assert command.main(["admin", "add", name]) == 0
    assert command.main(["admin", "remove", "ben"]) == 0
    assert "ben is no administrator any more" in capsys.readouterr().out
    assert command.main(["admin", "list"]) == 0
    assert capsys.readouterr().out == "administrator\nanna\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("a third password\n"))
    assert command.main(["password", "anna"]) == 0
    assert "The password of anna is set" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", ["admin remove nobody", "admin remove administrator", "admin add script", "password nobody"]
)
def test_administrator_who_cannot_be_changed_is_refused(environ, capsys, words):
    command.main(["setup"])
    capsys.readouterr()
    refused(capsys, *words.split())


def test_run_on_an_address_in_use_is_refused(environ, capsys):
    with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))):
        assert f"127.0.0.1:{os.environ['PORT']} cannot be used (" in refused(capsys, "run")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no.such.name.invalid", "a..b"])
def test_run_on_a_foreign_address_is_refused(environ, monkeypatch, capsys, host):
    monkeypatch.setenv("HOST", host)
    assert f"HOST {host} is no address of this machine (" in refused(capsys, "run")


def test_run_without_a_program_is_refused(environ, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert "setpriv is missing; it comes with util-linux" in refused(capsys, "run")


BAD_PORT = "inkling: PORT must be a whole number from 1 to 65535, not 'many'\n"


def test_command_with_a_bad_setting_is_refused(environ, monkeypatch, capsys):
    monkeypatch.setenv("PORT", "many")
    for name in (*COMMANDS, "worker"):
        assert refused(capsys, name) == BAD_PORT


def test_gunicorn_with_a_bad_setting_is_refused(environ, monkeypatch):
    monkeypatch.setenv("PORT", "many")
    done = subprocess.run([sys.executable, "-m", "gunicorn"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr == BAD_PORT


def test_run_without_a_reader_ends(environ):
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
def test_run_with_closed_output_serves(environ):
    """Nothing else may take the number of the standard output."""
    with subprocess.Popen(["sh", "-c", f"exec {sys.executable} -m webapp run >&-"], cwd=ROOT) as process:
        try:
            wait_until(lambda: process.poll() is not None or is_ready())
            assert process.poll() is None
        finally:
            process.terminate()
    assert process.returncode == 0
