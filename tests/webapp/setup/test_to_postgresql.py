"""An embedded installation is copied into PostgreSQL: every row, every digest, every address; or nothing is."""

import fcntl
import os
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import Column, String, select, text

from model.presets import Config
from tests.conftest import PASSWORD, own_database, settings_in
from tests.support.administrator import sign_in
from tests.support.corrections import add_correction, digits
from tests.support.requests import ONE
from tests.support.upgrading import migrate_further
from tests.support.versions import add_version, compared, evidence, measured, promote, promotions, turned
from webapp.app import create_app
from webapp.auth import Authenticator, WrongPassword
from webapp.cli import main
from webapp.corrections import import_queue
from webapp.corrections.review import DecisionRequest, decide
from webapp.corrections.store import Corrections
from webapp.removal.audit import AuditEntry
from webapp.removal.corrections import remove_corrections
from webapp.services import services
from webapp.setup.install import set_up
from webapp.setup.to_postgresql import TABLES, CopyRefused, copy, digest
from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Correction, Installation, Run
from webapp.storage.secret_key import with_secret_key
from webapp.training import runs
from webapp.training.runs import Lease


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
    one, two, three, last = (add_correction(settings, database, *digit) for digit in digits(4))
    add_correction(settings, database, *digits(1)[0])  # a twin of the first
    with database.writing() as session:
        decide(session, DecisionRequest((one, two), "approved", None, None, None), "a test")
        why = "a scribble, and no \N{DIGIT SEVEN}"
        decide(session, DecisionRequest((three,), "refused", None, why, None), "a test")
        session.get(Correction, one).suspicion = 0.1
        session.get(Correction, one).doubt = {"read": 4, "neighbours": {"7": 3}}
    Corrections(database, settings).delete(last)
    remove_corrections(database, [last + 1], AuditEntry("a test", "corrections"))  # their numbers are never used again
    with database.writing() as session:
        session.add(Artifact(version_id=other, kind="predictions", fraction=1.0, result=bytes(range(256))))
    run = runs.start(database, Config("basic", 1, 2**32 - 1), "a test", True)
    hold = Lease(database, run.id, runs.claim(database, run.id))
    hold.save_checkpoint(b"\0 where the training stands \xff")
    hold.release(progress={"fraction": 0.1 + 0.2}, history=[{"train_loss": 1e-300}])
    import_queue.enqueue(database, "digits.npz", b"\0 a file \xff" * 99, "0" * 64, 3, "a test")
    Authenticator(database).add("anna", PASSWORD)
    Authenticator(database).sign_in(PASSWORD, "here")
    with pytest.raises(WrongPassword):
        Authenticator(database).sign_in("wrong", "there")
    with database.reading() as session:
        assert all(digest(session, table)[0] for table in TABLES)
    return database


def digests(database):
    with database.reading() as session:
        return {table.name: digest(session, table) for table in TABLES}


def test_copy_has_every_row_with_its_digest(settings, lived_in, target):
    said = []
    copy(lived_in, target, settings.secret_key, said.append)
    assert digests(target) == digests(lived_in)
    compared = [line for line in said if " of " not in line]  # without the progress that a slow machine is told
    assert [line.split()[0] for line in compared] == [table.name for table in TABLES]
    assert all(digests(target)[line.split()[0]][1] == line.split()[-1] for line in said)
    with target.reading() as session:
        assert session.scalars(select(Installation.secret_key)).all() == [settings.secret_key]


def test_copy_goes_on_counting(settings, lived_in, target):
    copy(lived_in, target, settings.secret_key, lambda line: None)
    with lived_in.reading() as session:
        newest = session.scalars(select(Correction.id).order_by(Correction.id.desc())).first()
    copied = settings_in(settings.data_dir.parent / "there", DATABASE_URL=address(target))
    assert add_correction(copied, target, *digits(1, start=50)[0]) == newest + 1 + DELETED
    assert add_version(target, turned(4)) == 3


DELETED = 2


def test_copy_knows_cookies_and_receipts(settings, lived_in, target, tmp_path):
    app = create_app(settings)
    client = app.test_client()
    assert sign_in(client).status_code == 303
    sent = client.post("/feedback", json=ONE | {"meant": 1})
    name = app.config["SESSION_COOKIE_NAME"]
    cookies = [client.get_cookie(name), client.get_cookie(f"{name}-browser")]
    pages = {path: client.get(path, headers=JSON).get_json() for path in PAGES}
    services(app).close()

    copy(lived_in, target, settings.secret_key, lambda line: None)
    there = create_app(settings_in(tmp_path / "there", DATABASE_URL=address(target)))
    client = there.test_client()
    for cookie in cookies:
        client.set_cookie(cookie.key, cookie.value)
    assert {path: client.get(path, headers=JSON).get_json() for path in PAGES} == pages
    assert client.get(sent.location, headers=JSON).status_code == 200
    again = client.post("/feedback", json=ONE | {"meant": 1})
    assert (again.status_code, again.location) == (200, sent.location)  # the same browser, by the same key
    services(there).close()


PAGES = ("/admin/versions", "/admin/versions/2", "/admin/promotions", "/admin/runs/1", "/admin/corrections")
JSON = {"Accept": "application/json"}


@pytest.mark.stress
def test_copy_replaces_what_set_up_has_made(settings, lived_in, target, tmp_path):
    there = settings_in(tmp_path / "there", DATABASE_URL=address(target))
    set_up(there, say=lambda line: None)
    copy(lived_in, target, settings.secret_key, lambda line: None)
    assert digests(target) == digests(lived_in)
    assert with_secret_key(replace(there, secret_key="")).secret_key == settings.secret_key
    set_up(there, say=lambda line: None)
    assert promotions(target) == [1, 2]


def test_copy_into_a_database_in_use_is_refused(settings, lived_in, target, tmp_path):
    set_up(settings_in(tmp_path / "there", DATABASE_URL=address(target)), say=lambda line: None)
    add_version(target, turned(5))
    before = digests(target)
    with pytest.raises(CopyRefused, match="is in use .version is not empty"):
        copy(lived_in, target, settings.secret_key)
    assert digests(target) == before


def test_copy_during_a_run_is_refused(settings, lived_in, target):
    assert runs.claim(lived_in, 1) == 2
    with pytest.raises(CopyRefused, match="run 1 is under way; end Inkling first"):
        copy(lived_in, target, settings.secret_key)


@pytest.mark.stress
def test_copy_during_an_import_is_refused(settings, lived_in, target):
    claimed = import_queue.claim(lived_in)
    with pytest.raises(CopyRefused, match="import 1 is under way; end Inkling first"):
        copy(lived_in, target, settings.secret_key)
    import_queue.ImportLease(lived_in, *claimed).write(state="queued")
    copy(lived_in, target, settings.secret_key, lambda line: None)
    there = import_queue.ImportLease(target, *import_queue.claim(target)).read()
    assert (there[0].name, there[1]) == ("digits.npz", b"\0 a file \xff" * 99)


def test_copy_of_a_newer_release_is_refused(settings, lived_in, target):
    """What this release does not know of would be left behind."""
    migrate_further(lived_in, lambda op: op.add_column("correction", Column("colour", String)))
    with pytest.raises(CopyRefused, match="of a newer release; copy it with that release"):
        copy(lived_in, target, settings.secret_key, lambda line: None)


@pytest.mark.stress
def test_copy_despite_a_lease_from_a_clock_ahead_succeeds(settings, lived_in, target):
    assert runs.claim(lived_in, 1) == 2
    with lived_in.writing() as session:
        session.get(Run, 1).lease_until += 365 * 24 * 3600
    copy(lived_in, target, settings.secret_key, say=lambda line: None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("NEW.epochs := 7; RETURN NEW", "run would be another"),
        pytest.param("RETURN NULL", "violates foreign key", marks=pytest.mark.stress),
        pytest.param("RAISE EXCEPTION 'no room'", "no room", marks=pytest.mark.stress),
    ],
)
def test_copy_that_goes_wrong_leaves_nothing(settings, lived_in, target, fault, reason):
    target.upgrade()
    with target.writing() as session:
        session.execute(text(f"CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN {fault}; END $$ LANGUAGE plpgsql"))
        session.execute(text("CREATE TRIGGER spoil BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION spoil()"))
    with pytest.raises(CopyRefused, match=f"^nothing was copied: .*{reason}"):
        copy(lived_in, target, settings.secret_key)
    assert all(count == 0 for count, _ in digests(target).values())


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command for a DATA_DIR and a DATABASE_URL; its exit code, output and error output."""

    def run(data_dir, url):
        own = {"DATA_DIR": data_dir, "DATABASE_URL": url, "SECRET_KEY": "", "REDIS_URL": ""}
        for name, value in own.items():
            monkeypatch.setenv(name, str(value))
        return main(["copy"]), *capsys.readouterr()

    return run


def test_copy_command_takes_the_key_along_and_says_what_it_did(settings, lived_in, target, command):
    code, out, err = command(settings.data_dir, address(target))
    assert code == 0, err
    assert digests(target) == digests(lived_in)
    assert digests(target)["correction"][1] in out
    with target.reading() as session:
        assert session.scalars(select(Installation.secret_key)).all() == [settings.secret_key]


def test_copy_command_that_cannot_is_refused_in_one_line(settings, tmp_path, command):
    nowhere = "postgresql://me:hunter2@127.0.0.1:1/inkling"
    for folder, url, reason in (
        (settings.data_dir, "", "DATABASE_URL must name"),
        (tmp_path / "empty", nowhere, "there is no embedded installation in"),
        (settings.data_dir, nowhere, "the database cannot be used: "),
    ):
        code, out, err = command(folder, url)
        assert (code, out) == (2, "") and "hunter2" not in err
        assert err.startswith(f"inkling: {reason}") and err.count("\n") == 1
    (settings.data_dir / "secret_key").unlink()
    code, _, err = command(settings.data_dir, nowhere)
    assert code == 2 and "SECRET_KEY" in err


def test_copy_command_while_inkling_serves_is_refused(settings, lived_in, target, command):
    lock = os.open(settings.data_dir / "inkling.db-lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_SH)  # as web and worker do
    refused = f"inkling: {settings.data_dir}/inkling.db is in use: end web and worker first\n"
    assert command(settings.data_dir, address(target)) == (2, "", refused)
    os.close(lock)
    assert command(settings.data_dir, address(target))[0] == 0


def address(database) -> str:
    return database.engine.url.set(query={}).render_as_string(hide_password=False)
