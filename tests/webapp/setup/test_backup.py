"""A backup made while others write is whole, verified, and there is none before it is complete."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from tests.conftest import install
from tests.support.servers import free_port, wait_until
from tests.support.small import begin_to_write, marks, small
from tests.webapp.worker.test_worker import fill
from webapp.cli import main
from webapp.settings import ROOT
from webapp.setup import backup as backup_module
from webapp.setup.backup import LAST, TEMPORARY, back_up, last_backup
from webapp.setup.backup_file import BackupError, BackupFile, check_database
from webapp.setup.restore import restore


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Spares waiting for the disk, which only tells when the whole machine fails."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def settings(tmp_path):
    return small(tmp_path / "data", "mine")


def unpacked(file):
    """The database in a backup, in a file."""
    path = file.with_suffix(".db")
    with BackupFile.open(file) as backup, path.open("wb") as target:
        backup.copy_to("inkling.db", target)
    check_database(path)
    return path


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*), max(at) FROM sign_in_attempt").fetchone()


def test_backup_has_database_and_key_and_is_private(settings, tmp_path):
    told = []
    manifest = back_up(settings, tmp_path / "backup.zip", told.append)
    assert (tmp_path / "backup.zip").stat().st_mode & 0o777 == 0o600
    assert told == sorted(told) and told[-1] == 1.0
    assert abs(datetime.now(UTC) - manifest.made_at) < timedelta(minutes=5)
    restore(small(tmp_path / "there", "other"), tmp_path / "backup.zip", environ={})
    assert marks(tmp_path / "there") == ["mine", "mine"]


def test_backup_beside_a_transaction_waits_and_is_whole_where_a_copy_is_not(settings, tmp_path):
    """A copy of the file holds half of what was never committed: the reason why there is this command."""
    database, copy = settings.data_dir / "inkling.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(database, check_same_thread=False)) as writer:
        begin_to_write(writer)
        copy.write_bytes(database.read_bytes())
        thread = Thread(target=back_up, args=(settings, tmp_path / "backup.zip"))
        thread.start()
        wait_until(lambda: list(tmp_path.glob(f"{TEMPORARY}*/inkling.db")))
        writer.rollback()
        thread.join()
    assert changed(copy) > 0
    assert changed(unpacked(tmp_path / "backup.zip")) == 0


def changed(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM sign_in_attempt WHERE at = 1.0").fetchone()[0]


WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], 60) as connection:
    connection.execute("PRAGMA synchronous = OFF")
    for number in range(1_000_000):
        with connection:
            connection.executemany("INSERT INTO sign_in_attempt (address, at) VALUES ('x', ?)", [[number]] * 50)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_backups_beside_constant_writing_are_whole(settings, tmp_path, monkeypatch, mode):
    """Of each transaction all fifty rows or none, though SQLite begins anew after each."""
    monkeypatch.setattr(backup_module, "PAGES", 3)
    database = settings.data_dir / "inkling.db"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
    with subprocess.Popen([sys.executable, "-c", WRITER, database]) as writer:
        try:
            wait_until(lambda: rows(database)[0])
            for number in range(4):
                back_up(settings, tmp_path / f"{number}.zip")
            assert writer.poll() is None
        finally:
            writer.kill()
    found = [rows(unpacked(tmp_path / f"{number}.zip")) for number in range(4)]
    assert [(50 * (last + 1), last) for _, last in found] == found
    assert found == sorted(found) and found[0] != found[-1]


@pytest.mark.timeout(60)
def test_backup_ends_though_others_write_between_all_its_steps(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(backup_module, "PAGES", 3)

    def write(done):
        with closing(sqlite3.connect(settings.data_dir / "inkling.db")) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("INSERT INTO sign_in_attempt (address, at) VALUES ('x', 0)")

    back_up(settings, tmp_path / "backup.zip", on_progress=write)
    assert rows(unpacked(tmp_path / "backup.zip"))[0] > 3


def test_backup_killed_anywhere_leaves_a_whole_file_or_none(settings, tmp_path):
    settings.data_dir.rename(tmp_path / "old")
    command = [sys.executable, "-m", "tests.support.killing_files", "backup", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 10
    assert {json.dumps([left, of]) for _, left, of in found} == {'[[], ["mine", "mine"]]'}
    there = [was_there for was_there, _, _ in found]
    assert there == sorted(there) and not there[0] and there[-1]


@pytest.mark.parametrize("there", ["a file", "a folder", "a link to nowhere"])
def test_backup_never_replaces_what_is_there(settings, tmp_path, there):
    file = tmp_path / "backup.zip"
    {"a file": file.touch, "a folder": file.mkdir, "a link to nowhere": lambda: file.symlink_to("nowhere")}[there]()
    with pytest.raises(BackupError, match="no backup was made: .*/backup.zip exists already"):
        back_up(settings, file)


def test_backup_removes_leftovers_and_leaves_what_is_none(settings, tmp_path):
    leftover, file, link = (tmp_path / f"{TEMPORARY}{name}" for name in ("killed", "file", "link"))
    leftover.mkdir()
    file.touch()
    link.symlink_to(".")
    back_up(settings, tmp_path / "backup.zip")
    assert sorted(tmp_path.glob(f"{TEMPORARY}*")) == [file, link]


def test_backup_into_no_folder_is_refused(settings, tmp_path):
    with pytest.raises(BackupError, match="no backup was made in .*/none: No such file or directory"):
        back_up(settings, tmp_path / "none" / "backup.zip")


def test_backup_without_the_secret_key_is_refused(settings, tmp_path):
    with pytest.raises(BackupError, match="no backup was made: .*/secret_key is missing"):
        back_up(replace(settings, secret_key=""), tmp_path / "backup.zip")


def test_backup_of_nothing_is_refused(settings, tmp_path):
    (settings.data_dir / "inkling.db").unlink()
    with pytest.raises(BackupError, match="there is no installation in .*/data/inkling.db"):
        back_up(settings, tmp_path / "backup.zip")


@pytest.mark.parametrize("damaged", [b"no database" * 1000, None])
def test_backup_of_a_damaged_database_is_refused(settings, tmp_path, damaged):
    database = settings.data_dir / "inkling.db"
    data = bytearray(database.read_bytes())
    data[4096 * 5 : 4096 * 8] = bytes(4096 * 3)
    database.write_bytes(damaged or data)
    with pytest.raises(BackupError, match="no backup was made: "):
        back_up(settings, tmp_path / "backup.zip")
    assert list(tmp_path.iterdir()) == [settings.data_dir]


@pytest.mark.parametrize("kilobytes", [0, 40, 160, 250])
def test_backup_on_a_full_disk_leaves_nothing(settings, disk, tmp_path, kilobytes):
    (disk / "backups").mkdir()
    fill(disk / "filler", leaving=kilobytes * 1000)
    with pytest.raises(BackupError) as refused:
        back_up(settings, disk / "backups" / "backup.zip")
    assert re.search("No space left on device|database or disk is full|disk I/O error", str(refused.value))
    assert "\n" not in str(refused.value) and list((disk / "backups").iterdir()) == []


def test_backup_to_another_disk_is_made_though_that_of_the_installation_is_full(disk, tmp_path):
    settings = small(disk / "mine", "mine")
    fill(disk / "filler", leaving=0)
    back_up(settings, tmp_path / "backup.zip")
    assert rows(unpacked(tmp_path / "backup.zip")) == (0, None)
    assert last_backup(settings).startswith("Last backup: none yet")


def test_last_backup_is_told(settings, tmp_path):
    assert last_backup(settings) == "Last backup: none yet (docs/backup.md tells how)"
    back_up(settings, tmp_path / "my backup.zip")
    assert re.fullmatch(rf"Last backup: today, [-0-9]+ [:0-9]+ UTC, in {tmp_path}/my backup.zip", last_backup(settings))
    for days, told in ((1.5, "yesterday"), (40, "40 days ago")):
        at = datetime.now(UTC) - timedelta(days=days)
        (settings.data_dir / LAST).write_text(f"{at.isoformat()} /a/file\n")
        assert last_backup(settings).startswith(f"Last backup: {told}, ")
    (settings.data_dir / LAST).write_bytes(b"\xff\n")
    assert last_backup(settings).startswith("Last backup: none yet")


def test_commands_back_up_and_restore(settings, tmp_path, monkeypatch, capsys):
    environ = {"DATA_DIR": str(settings.data_dir), "PATH": "/usr/bin:/bin"}

    def run(name):
        command = [sys.executable, "-m", "webapp", name, tmp_path / "backup.zip"]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "verified" in run("backup")
    assert "inkling-before-restore-" in run("restore")
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    assert main(["restore", str(tmp_path / "none.zip")]) == 2
    told = f"Restoring {tmp_path}/none.zip in place of {settings.data_dir}/inkling.db\n"
    assert capsys.readouterr() == (told, f"inkling: {tmp_path}/none.zip cannot be used: there is no such file\n")


@pytest.mark.stress
def test_drill_of_the_documents_succeeds_and_touches_nothing(prepared, tmp_path):
    """With the settings of an installation that has its database elsewhere, and other addresses."""
    install(prepared, tmp_path / "data")
    database = tmp_path / "data" / "its.db"
    (tmp_path / "data" / "inkling.db").rename(database)
    before = database.stat().st_ino
    page = (ROOT / "docs" / "backup.md").read_text()
    (drill,) = re.findall(r"^## Try it\n.+?```sh\n(.+?)```", page, re.M | re.S)
    drill = drill.replace("/tmp/", f"{tmp_path}/").replace("8099", str(free_port()))
    environ = os.environ | {"DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": f"sqlite:///{database}"}
    environ |= {"BASE_PATH": "/inkling", "REDIS_URL": "redis://127.0.0.1:1/0"}
    drill = f"trap 'kill $! || :' EXIT\n{drill}"  # a drill that fails must not leave its server behind
    done = subprocess.run(["sh", "-e"], input=drill, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"in place of {tmp_path}/drill/inkling.db" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert database.stat().st_ino == before and not list(database.parent.glob("*before-restore*"))
