"""An embedded installation is copied into PostgreSQL: every row, every digest, every address; or nothing is."""

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import select, text

from model.presets import Config
from tests.conftest import PASSWORD, own_database, settings_in
from tests.webapp.administrator import sign_in
from tests.webapp.asking import ONE
from tests.webapp.corrected import add_correction, digits
from tests.webapp.versions import add_version, compared, evidence, measured, promote, promotions, turned
from webapp import create_app, imports, runs
from webapp.copying import TABLES, CopyRefused, copy, digest
from webapp.corrections import Corrections
from webapp.database import (
    Computation,
    Correction,
    Database,
    Installation,
    Run,
)
from webapp.decisions import Wish, decide
from webapp.door import Door, WrongPassword
from webapp.installation import with_secret_key
from webapp.runs import Hold
from webapp.services import services
from webapp.settings import ROOT
from webapp.setup import set_up


@pytest.fixture
def target(postgresql):
    """An empty PostgreSQL database."""
    with own_database(postgresql) as url, closing(Database(url)) as database:
        yield database


@pytest.fixture
def lived_in(settings, database):
    """A database with a row or more in each of its tables."""
    other = add_version(database, turned(3))
    promote(database, other)
    measured(database, other)
    compared(database, other, evidence())
    one, two, three, last = (
        add_correction(settings, database, *digit) for digit in digits(4)
    )
    add_correction(settings, database, *digits(1)[0])  # a twin of the first
    with database.writing() as session:
        decide(session, Wish((one, two), "approved", None, None, None), "a test")
        decide(session, Wish((three,), "refused", None, "a scribble, and no \N{DIGIT SEVEN}", None), "a test")
        session.get(Correction, one).suspicion = 0.1
        session.get(Correction, one).doubt = {"read": 4, "neighbours": {"7": 3}}
    Corrections(database, settings).delete(last)
    Corrections(database, settings).delete(last + 1)  # their numbers are never used again
    with database.writing() as session:
        session.add(Computation(version_id=other, kind="predictions", fraction=1.0, result=bytes(range(256))))
    run = runs.start(database, Config("seed", 1, 2**32 - 1), "a test", True)
    hold = Hold(database, run.id, runs.claim(database, run.id))
    hold.keep(b"\0 where the training stands \xff")
    hold.release(progress={"fraction": 0.1 + 0.2}, history=[{"train_loss": 1e-300}])
    imports.queue(database, "digits.npz", b"\0 a file \xff" * 99, "0" * 64, 3, "a test")
    Door(database).sign_in(PASSWORD, "here")
    with pytest.raises(WrongPassword):
        Door(database).sign_in("wrong", "there")
    with database.reading() as session:
        assert all(digest(session, table)[0] for table in TABLES)
    return database


def digests(database):
    with database.reading() as session:
        return {table.name: digest(session, table) for table in TABLES}


def test_everything_is_copied_and_compared(settings, lived_in, target):
    said = []
    copy(lived_in, target, settings.secret_key, said.append)
    assert digests(target) == digests(lived_in)
    assert [line.split()[0] for line in said] == [table.name for table in TABLES]
    assert all(digests(target)[line.split()[0]][1] == line.split()[-1] for line in said)
    with target.reading() as session:
        assert session.scalars(select(Installation.secret_key)).all() == [settings.secret_key]


def test_numbers_go_on_from_where_they_were(settings, lived_in, target):
    copy(lived_in, target, settings.secret_key, lambda line: None)
    with lived_in.reading() as session:
        newest = session.scalars(select(Correction.id).order_by(Correction.id.desc())).first()
    copied = settings_in(settings.data_dir.parent / "there", DATABASE_URL=address(target))
    assert add_correction(copied, target, *digits(1, start=50)[0]) == newest + 1 + DELETED
    assert add_version(target, turned(4)) == 3


DELETED = 2


def test_a_browser_and_a_receipt_go_on_as_if_nothing_had_happened(settings, lived_in, target, tmp_path):
    app = create_app(settings)
    client = app.test_client()
    assert sign_in(client).status_code == 303
    sent = client.post("/feedback", json=ONE | {"meant": 1})
    cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    pages = {path: client.get(path, headers=JSON).get_json() for path in PAGES}
    services(app).close()

    copy(lived_in, target, settings.secret_key, lambda line: None)
    there = create_app(settings_in(tmp_path / "there", DATABASE_URL=address(target)))
    client = there.test_client()
    client.set_cookie(cookie.key, cookie.value)
    assert {path: client.get(path, headers=JSON).get_json() for path in PAGES} == pages
    assert client.get(sent.location, headers=JSON).status_code == 200
    again = client.post("/feedback", json=ONE | {"meant": 1})
    assert (again.status_code, again.location) == (200, sent.location)  # the same source, by the same key
    services(there).close()


PAGES = ("/admin/versions", "/admin/versions/2", "/admin/promotions", "/admin/runs/1", "/admin/corrections")
JSON = {"Accept": "application/json"}


def test_what_set_up_has_made_gives_way(settings, lived_in, target, tmp_path):
    there = settings_in(tmp_path / "there", DATABASE_URL=address(target))
    set_up(there, say=lambda line: None)
    copy(lived_in, target, settings.secret_key, lambda line: None)
    assert digests(target) == digests(lived_in)
    assert with_secret_key(replace(there, secret_key="")).secret_key == settings.secret_key
    set_up(there, say=lambda line: None)
    assert promotions(target) == [1, 2]


def test_a_database_in_use_is_left_alone(settings, lived_in, target, tmp_path):
    set_up(settings_in(tmp_path / "there", DATABASE_URL=address(target)), say=lambda line: None)
    add_version(target, turned(5))
    before = digests(target)
    with pytest.raises(CopyRefused, match="is in use .version is not empty"):
        copy(lived_in, target, settings.secret_key)
    assert digests(target) == before


def test_a_run_that_is_under_way_is_not_copied(settings, lived_in, target):
    assert runs.claim(lived_in, 1) == 2
    with pytest.raises(CopyRefused, match="run 1 is under way; end Inkling first"):
        copy(lived_in, target, settings.secret_key)


def test_an_import_that_is_under_way_is_not_copied_and_one_that_waits_is(settings, lived_in, target):
    claimed = imports.claim(lived_in)
    with pytest.raises(CopyRefused, match="import 1 is under way; end Inkling first"):
        copy(lived_in, target, settings.secret_key)
    imports.Hold(lived_in, *claimed).write(state="queued")
    copy(lived_in, target, settings.secret_key, lambda line: None)
    there = imports.Hold(target, *imports.claim(target)).read()
    assert (there[0].name, there[1]) == ("digits.npz", b"\0 a file \xff" * 99)


def test_a_lease_from_a_clock_that_was_ahead_keeps_nobody_from_copying(settings, lived_in, target):
    assert runs.claim(lived_in, 1) == 2
    with lived_in.writing() as session:
        session.get(Run, 1).lease_until += 365 * 24 * 3600
    copy(lived_in, target, settings.secret_key, say=lambda line: None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("NEW.epochs := 7; RETURN NEW", "run would be another"),
        ("RETURN NULL", "violates foreign key"),
        ("RAISE EXCEPTION 'no room'", "no room"),
    ],
)
def test_a_copy_that_goes_wrong_is_none(settings, lived_in, target, fault, reason):
    target.upgrade()
    with target.writing() as session:
        session.execute(text(f"CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN {fault}; END $$ LANGUAGE plpgsql"))
        session.execute(text("CREATE TRIGGER spoil BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION spoil()"))
    with pytest.raises(CopyRefused, match=f"^nothing was copied: .*{reason}"):
        copy(lived_in, target, settings.secret_key)
    assert all(count == 0 for count, _ in digests(target).values())


def command(settings, **environ):
    own = {"DATA_DIR": str(settings.data_dir), "SECRET_KEY": "", "REDIS_URL": ""} | environ
    arguments = [sys.executable, "-m", "webapp", "copy"]
    return subprocess.run(arguments, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)


def test_the_command_takes_the_key_along_and_says_what_it_did(settings, lived_in, target):
    done = command(settings, DATABASE_URL=address(target))
    assert done.returncode == 0, done.stderr
    assert digests(target) == digests(lived_in)
    assert digests(target)["correction"][1] in done.stdout
    with target.reading() as session:
        assert session.scalars(select(Installation.secret_key)).all() == [settings.secret_key]


def test_the_command_refuses_in_one_line(settings, tmp_path):
    nowhere = "postgresql://me:hunter2@127.0.0.1:1/inkling"
    empty = replace(settings, data_dir=tmp_path / "empty")
    for folder, url, reason in (
        (settings, "", "DATABASE_URL must name"),
        (empty, nowhere, "there is no embedded installation in"),
        (settings, nowhere, "the database cannot be used: "),
    ):
        done = command(folder, DATABASE_URL=url)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"inkling: {reason}") and done.stderr.count("\n") == 1
        assert "hunter2" not in done.stderr
    (settings.data_dir / "secret_key").unlink()
    done = command(settings, DATABASE_URL=nowhere)
    assert done.returncode == 2 and "SECRET_KEY" in done.stderr


def address(database) -> str:
    return database.engine.url.set(query={}).render_as_string(hide_password=False)
