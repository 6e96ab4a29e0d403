"""A backup restored is the installation as it was, whatever was in its place; anything else is refused."""

import io
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing, suppress
from dataclasses import replace

import alembic.command
import alembic.config
import pytest
from sqlalchemy import select

from model.presets import Config
from tests.conftest import settings_in
from tests.support.administrator import sign_in
from tests.support.requests import ONE
from tests.support.small import key, leave_hot_journal, marks, small
from tests.webapp.worker.test_worker import fill
from webapp.app import create_app
from webapp.auth import Authenticator
from webapp.services import services
from webapp.settings import ROOT, Settings
from webapp.setup import backup_file
from webapp.setup.backup import back_up
from webapp.setup.backup_file import BackupError, BackupFile
from webapp.setup.install import set_up
from webapp.setup.restore import restore
from webapp.storage.engine import Database
from webapp.storage.installation_lock import exclusive
from webapp.storage.replacement import Replacement
from webapp.storage.schema import Run
from webapp.training import runs
from webapp.training.jobs import Jobs

JSON = {"Accept": "application/json"}
MIGRATIONS = ROOT / "webapp" / "storage" / "migrations"


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Spares waiting for the disk, which only tells when the whole machine fails."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def old(tmp_path):
    return small(tmp_path / "old", "old")


@pytest.fixture
def file(tmp_path):
    """A backup of another small installation."""
    back_up(small(tmp_path / "new", "new"), tmp_path / "new.zip")
    return tmp_path / "new.zip"


def refusal(settings, file, environ=None):
    """Why a backup is not restored; nothing is changed then."""
    before = {path.name: path.read_bytes() for path in settings.data_dir.iterdir() if path.is_file()}
    with pytest.raises(BackupError) as refused:
        restore(settings, file, environ=environ or {})
    after = {path.name: path.read_bytes() for path in settings.data_dir.iterdir() if path.is_file()}
    assert after in (before, before | {"inkling.db-lock": b""})
    assert [path.name for path in settings.data_dir.iterdir() if path.is_dir() and path.name != "static"] == []
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_restored_installation_knows_sessions_receipts_and_its_run(settings, database, tmp_path):
    app = create_app(settings)
    client = app.test_client()
    assert sign_in(client).status_code == 303
    sent = client.post("/feedback", json=ONE | {"meant": 1})
    cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    run = services(app).jobs.start(Config("basic", 1), "a test")
    runs.claim(database, run.id)
    back_up(settings, tmp_path / "backup.zip")
    client.delete(sent.location)
    Authenticator(database).set_password("another password")  # signs everybody out
    services(app).close()

    there = settings_in(tmp_path / "there")
    restored = restore(there, tmp_path / "backup.zip", environ={})
    assert restored.kept is None
    set_up(there, say=lambda line: None)
    app = create_app(settings_in(tmp_path / "there"))
    client = app.test_client()
    client.set_cookie(cookie.key, cookie.value)
    assert client.get("/admin/runs/1", headers=JSON).status_code == 200
    assert client.get(sent.location, headers=JSON).status_code == 200
    database = services(app).database
    with database.writing() as session:
        session.get(Run, run.id).lease_until -= 3600
    Jobs(database, services(app).settings).expire_leases()
    with database.reading() as session:
        assert session.scalar(select(Run.state)) == "queued"
    services(app).close()


def test_restore_keeps_what_was_there(old, file):
    leave_hot_journal(old.data_dir)
    (old.data_dir / "queue.db").write_bytes(b"messages about rows of before")
    kept = restore(old, file, environ={}).kept
    assert marks(old.data_dir) == ["new", "new"] and marks(kept) == ["old", "old"]
    assert not (old.data_dir / "queue.db").exists()
    assert {path.stat().st_mode & 0o077 for path in (kept, *kept.iterdir(), *old.data_dir.iterdir())} == {0}
    assert marks(restore(old, file, environ={}).kept) == ["new", "new"]  # at the same second


def test_restore_in_place_of_a_damaged_database(old, file):
    (old.data_dir / "inkling.db").write_bytes(b"no database" * 1000)
    kept = restore(old, file, environ={}).kept
    assert marks(old.data_dir) == ["new", "new"]
    assert (kept / "inkling.db").read_bytes() == b"no database" * 1000


def test_restore_of_a_database_elsewhere(tmp_path, file):
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    settings = settings_in(tmp_path / "data", DATABASE_URL=url)
    assert restore(settings, file, environ={}).kept is None
    shutil.copy(tmp_path / "elsewhere.db", tmp_path / "data" / "inkling.db")
    assert marks(tmp_path / "data") == ["new", "new"]


@pytest.mark.parametrize("hot", [True, pytest.param(False, marks=pytest.mark.stress)], ids=["in a write", "at rest"])
def test_restore_killed_anywhere_leaves_the_old_or_the_new(tmp_path, old, file, hot):
    if hot:
        leave_hot_journal(old.data_dir)
    command = [sys.executable, "-m", "tests.support.killing_files", "restore", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 20
    before, after = ["old", "old"], ["new", "new"]
    for step, (left, again, kept, unfinished) in enumerate(found, 1):
        assert left in (before, after) and again == after and unfinished == [], step
        assert kept == ([before] if left == before else [before, after]), step
    assert found[0][0] == before and found[-1][0] == after


def test_restore_of_an_older_schema_is_brought_up_to_date_by_set_up(settings, database, tmp_path):
    downgrade(database)
    back_up(settings, tmp_path / "backup.zip")
    there = settings_in(tmp_path / "there")
    assert restore(there, tmp_path / "backup.zip", environ={}).manifest.schema != newest()
    set_up(there, say=lambda line: None)
    with sqlite3.connect(there.data_dir / "inkling.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest(),)]
    connection.close()


def test_restore_of_a_newer_schema_is_refused(old, tmp_path):
    newer = small(tmp_path / "newer", "newer")
    with closing(sqlite3.connect(newer.data_dir / "inkling.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    back_up(newer, tmp_path / "newer.zip")
    assert "made by a newer release of Inkling (schema 9999)" in refusal(old, tmp_path / "newer.zip")


def test_restore_beside_another_secret_key_is_refused(old, file):
    assert "SECRET_KEY is set" in refusal(old, file, {"SECRET_KEY": "another"})
    restore(old, file, environ={"SECRET_KEY": key("new")})
    assert marks(old.data_dir) == ["new", "new"]


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        ("short", "its secret key has 5 characters and needs 32"),
        ("ü" * 32, "its secret key has characters that are not ASCII"),
    ],
)
def test_restore_of_a_key_with_which_nothing_starts_takes_another_one(old, tmp_path, unusable, reason):
    """Earlier releases took such keys from SECRET_KEY: it must be possible to restore their backups."""
    back_up(replace(old, secret_key=unusable), tmp_path / "backup.zip")
    assert reason in (told := refusal(old, tmp_path / "backup.zip")) and "set SECRET_KEY to another one" in told
    chosen = {"DATA_DIR": str(old.data_dir), "SECRET_KEY": "k" * 32}
    restore(old, tmp_path / "backup.zip", environ=chosen)
    assert Settings.read(chosen).secret_key == "k" * 32


def test_restore_for_another_user_is_refused(old, file, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "belongs to another user" in refusal(old, file)


def test_restore_in_place_of_another_users_database_elsewhere_is_refused(tmp_path, file):
    if os.geteuid() != 0:
        pytest.skip("giving a file away takes root's rights")
    database = tmp_path / "elsewhere.db"
    settings = settings_in(tmp_path / "data", DATABASE_URL=f"sqlite:///{database}")
    database.touch()
    os.chown(database, 12345, 12345)
    assert f"{database} belongs to another user" in refusal(settings, file)


def test_restore_on_a_full_disk_is_refused(settings, disk, tmp_path):
    back_up(settings, tmp_path / "backup.zip")
    there = settings_in(disk / "data")
    with exclusive(there):
        pass
    fill(disk / "filler", leaving=2_000_000)
    assert "No space left on device" in refusal(there, tmp_path / "backup.zip")


def test_restore_that_a_full_disk_stops_at_its_last_step_says_that_it_counts(disk, file, monkeypatch):
    settings = small(disk / "data", "old")
    commit = Replacement.commit

    def commit_then_fill(replacement):
        commit(replacement)
        fill(disk / "filler", leaving=0)

    monkeypatch.setattr(Replacement, "commit", commit_then_fill)
    for failing in (lambda: restore(settings, file, environ={}), exclusive(settings).__enter__):
        with pytest.raises(OSError, match="inkling.db is restored, but .*: No space left .*; the next start"):
            failing()
    (disk / "filler").unlink()
    with exclusive(settings):
        assert marks(settings.data_dir) == ["new", "new"]


def zipped(change):
    """A change to a backup's parts, as bytes by name, and what zipfile then writes of them."""

    def spoil(file):
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        change(parts)
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)

    return spoil


def manifest(**values):
    @zipped
    def change(parts):
        read = json.loads(parts["manifest.json"])
        parts["manifest.json"] = json.dumps(read | values).encode()

    return change


def compressed(file):
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def twice(file):
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("secret_key", "another")


def other_database(sql):
    """A whole database that is none of ours, with the right digest."""

    def spoil(file):
        path = file.with_name("other.db")
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(sql)
        file.unlink()
        backup_file.write(file, path, "0011", key("new"), lambda done: None)

    return spoil


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def pipe(file):
    file.unlink()
    os.mkfifo(file)


NOT_UNDERSTOOD = "its manifest cannot be understood"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut, "it is no backup of Inkling, or not all of one"),
        (flip, "inkling.db in it is damaged"),
        (pipe, "it is no file"),
        (lambda file: file.unlink(), "there is no such file"),
        (lambda file: file.write_bytes(b""), "it is no backup of Inkling, or not all of one"),
        (lambda file: file.write_bytes(b"PK\5\6" + bytes(18)), "it is no backup of Inkling"),
        (compressed, "is compressed or encrypted"),
        (twice, "it holds other files than a backup does"),
        (zipped(lambda parts: parts.update({"../../etc/passwd": b""})), "it holds other files than a backup does"),
        (zipped(lambda parts: parts.update({"inkling.db-journal": b""})), "it holds other files than a backup does"),
        (zipped(lambda parts: parts.pop("secret_key")), "it holds other files than a backup does"),
        (zipped(lambda parts: parts.pop("manifest.json")), "it is no backup of Inkling"),
        (zipped(lambda parts: parts.update(secret_key=b"another")), "secret_key in it is damaged"),
        (zipped(lambda parts: parts.update(secret_key=bytes(10**6))), "'secret_key' in it has an impossible size"),
        (zipped(lambda parts: parts.update({"manifest.json": b"[" * 9000})), NOT_UNDERSTOOD),
        (zipped(lambda parts: parts.update({"manifest.json": b"[1]"})), NOT_UNDERSTOOD),
        (zipped(lambda parts: parts.update({"manifest.json": b"\xff"})), NOT_UNDERSTOOD),
        (manifest(format="other"), NOT_UNDERSTOOD),
        (manifest(format_version=2), "made by a newer release"),
        (manifest(format_version="2"), NOT_UNDERSTOOD),
        (manifest(schema=11), NOT_UNDERSTOOD),
        (manifest(schema="\N{DIGIT SEVEN}\n\x1b[2J"), NOT_UNDERSTOOD),
        (manifest(made_at="yesterday"), NOT_UNDERSTOOD),
        (manifest(parts={}), NOT_UNDERSTOOD),
        (manifest(schema="0001"), "another schema than its manifest says"),
        (other_database("CREATE TABLE digit (id)"), "the database is none of Inkling"),
        (other_database("CREATE TABLE alembic_version (version_num)"), "the database is none of Inkling"),
        (
            other_database("CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('0011')"),
            "the database is none of Inkling: no such table",
        ),
    ],
)
def test_restore_of_what_is_no_whole_backup_is_refused(old, file, spoil, reason):
    spoil(file)
    assert reason in refusal(old, file)


def test_backup_damaged_anywhere_is_refused_or_reads_the_same(file, tmp_path):
    """A bit turned where it means nothing, such as in a date, may pass; the parts are the same then."""
    whole, chance = file.read_bytes(), random.Random(1)
    spoilt = tmp_path / "spoilt.zip"

    def parts():
        with BackupFile.open(spoilt) as backup:
            backup.copy_to("inkling.db", database := io.BytesIO())
            return database.getvalue(), backup.secret_key

    spoilt.write_bytes(whole)
    expected = parts()
    headers = [*range(100), *range(len(whole) - 800, len(whole))]
    for place in chance.sample(headers, 200) + chance.sample(range(len(whole)), 50):
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        spoilt.write_bytes(data)
        with suppress(BackupError):
            assert parts() == expected, place
    for length in chance.sample(range(len(whole)), 50):
        spoilt.write_bytes(whole[:length])
        with pytest.raises(BackupError):
            parts()


def newest() -> str:
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))


def downgrade(database: Database) -> None:
    """Take back the latest migration."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "-1")
