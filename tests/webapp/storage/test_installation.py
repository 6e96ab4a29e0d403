"""What the machines of an installation share in PostgreSQL, and a web that goes on while that is away."""

import json
import os
import re
import signal
import stat
import time
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import make_url, select, text

from tests.conftest import ON_POSTGRESQL, own_database, settings_in
from tests.support import processes
from tests.support.gunicorn import START_SECONDS, serve, wait_until_ready
from tests.support.requests import ONE
from tests.support.servers import wait_until
from tests.support.versions import add_version, promote, turned
from webapp.app import create_app
from webapp.services import services
from webapp.settings import SettingsError
from webapp.setup.install import set_up
from webapp.storage.compatibility import revision_of
from webapp.storage.engine import Database
from webapp.storage.schema import Administrator, Installation, Promotion, Version
from webapp.storage.secret_key import NotSetUp, wait_for_secret_key, with_secret_key


@pytest.fixture
def empty(postgresql):
    """The URL of an empty database."""
    with own_database(postgresql) as url:
        yield url


@pytest.mark.stress
def test_replicas_started_together_set_up_once(empty, tmp_path):
    lines = processes.in_processes(processes.install, 4, tmp_path, DATABASE_URL=empty)
    said = "\n".join(sum(lines, []))
    assert len(re.findall("sign in with the password ", said)) == 1
    assert said.count("sign in with your password") == 3
    with closing(Database(empty)) as database, database.reading() as session:
        assert session.scalars(select(Version.source)).all() == ["shipped"]
        assert session.execute(select(Promotion.version_id, Promotion.from_id)).all() == [(1, None)]
        assert session.scalars(select(Administrator.id)).all() == session.scalars(select(Installation.id)).all() == [1]
        assert len(session.scalars(select(Installation.secret_key)).one()) == 64
        assert session.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1


def test_replicas_share_one_secret_key(empty, tmp_path):
    settings = [settings_in(tmp_path / name, DATABASE_URL=empty) for name in ("one", "other")]
    with pytest.raises(NotSetUp, match="python -m webapp setup"):
        with_secret_key(settings[0])
    with closing(Database(empty)) as database:
        database.upgrade()
    with pytest.raises(NotSetUp):  # between the first step of set-up and the next
        with_secret_key(settings[0])
    for one in settings:
        set_up(one, say=lambda line: None)
    keys = {with_secret_key(one).secret_key for one in settings}
    assert len(keys) == 1 and keys != {""}
    apps = [create_app(one) for one in settings]
    assert len({app.config["SESSION_COOKIE_NAME"] for app in apps}) == 1
    for app in apps:
        services(app).close()
    assert with_secret_key(replace(settings[0], secret_key="given")).secret_key == "given"
    assert not list(tmp_path.rglob("secret_key")) and not list(tmp_path.rglob("*.db"))


@ON_POSTGRESQL
@pytest.mark.parametrize("key", ["short", ""])
def test_secret_key_too_short_in_the_database_is_said(settings, database, key):
    """As an earlier release copied it there from an environment. Set-up said all was well; no server started."""
    with database.writing() as session:
        session.get(Installation, 1).secret_key = key
        session.execute(text("UPDATE alembic_version SET version_num = '0013'"))
    kept = replace(settings, secret_key="")
    for use in (with_secret_key, lambda settings: set_up(settings, say=lambda line: None)):
        with pytest.raises(
            SettingsError, match=f"^SECRET_KEY .* in the database has {len(key)} characters and needs 32"
        ):
            use(kept)
    with database.reading() as session:
        assert revision_of(session.connection()) == "0013"


def test_secret_key_is_created_by_set_up_for_its_owner_alone(tmp_path):
    keys = set()
    for folder in (tmp_path / "one", tmp_path / "other"):
        settings = settings_in(folder)
        with pytest.raises(NotSetUp):
            with_secret_key(settings)
        for _ in range(2):
            set_up(settings, say=lambda line: None)
            keys.add(with_secret_key(settings).secret_key)
        assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    assert list(map(len, keys)) == [64, 64]


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can make a file of somebody else's")
def test_secret_key_created_by_root_belongs_to_the_folders_owner(tmp_path):
    os.chown(tmp_path, 10001, 10001)
    set_up(settings_in(tmp_path), say=lambda line: None)
    assert (tmp_path / "secret_key").stat().st_uid == 10001


def test_wait_for_the_database_is_said_once(monkeypatch, empty, tmp_path):
    settings = settings_in(tmp_path, DATABASE_URL=empty)
    naps = iter([lambda: None, lambda: set_up(settings, say=lambda line: None)])
    monkeypatch.setattr(time, "sleep", lambda _: next(naps)())
    said = []
    assert wait_for_secret_key(settings, said.append).secret_key
    assert len(said) == 1 and "is not set up yet" in said[0]


def test_web_whose_role_has_no_rights_ends_with_one_line(empty, postgresql, tmp_path):
    url = make_url(empty)
    stranger = f"stranger_of_{url.database}"
    with postgresql.connect(url.database) as connection:
        connection.execute(f"CREATE TABLE installation (id integer, secret_key text); CREATE USER {stranger}")
    address = url.set(username=stranger).render_as_string()
    with serve(tmp_path / "data", workers=1, ready=False, DATABASE_URL=address, SECRET_KEY="") as server:
        assert server.process.wait(START_SECONDS) == 1
    said = server.log.read_text()
    assert re.fullmatch("inkling: the database cannot be used: .*permission denied for table installation\n", said)


@pytest.mark.stress
@pytest.mark.timeout(300)
@ON_POSTGRESQL
def test_web_without_postgresql_starts_and_goes_on(settings, postgresql, tmp_path):
    """Pages say so at once, readings go on from memory, and nobody has to help it up again."""
    (tmp_path / "web").mkdir()
    postgresql.stop()
    try:
        with serve(
            tmp_path / "web" / "data", workers=1, ready=False, DATABASE_URL=settings.database_url, SECRET_KEY=""
        ) as server:
            wait_until(lambda: "waiting for the database: connection" in server.log.read_text())
            postgresql.start()
            wait_until_ready(server)
            version = predict(server)["version"]

            postgresql.stop()
            assert predict(server)["version"] == version
            for path, status in PAGES.items():
                assert server.request("GET", path).status == status, path
            assert "does not answer" in server.request("GET", "/readyz").body.decode()

            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: server.workers() - {worker})
            assert server.request("GET", "/healthz").status == 200
            assert server.request("POST", "/predict", json.dumps(ONE).encode(), JSON).status == 503

            postgresql.start()
            wait_until_ready(server)
            assert predict(server)["version"] == version
            with closing(Database(settings.database_url)) as database:
                promote(database, add_version(database, turned(3)))
            wait_until(lambda: predict(server)["version"] == "v2")
    finally:
        if not postgresql.running:
            postgresql.start()


PAGES = {"/healthz": 200, "/": 200, "/readyz": 503, "/gallery": 503, "/receipts/x": 503}
JSON = {"Content-Type": "application/json"}.items()


def predict(server):
    answer = server.request("POST", "/predict", json.dumps(ONE).encode(), JSON)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)
