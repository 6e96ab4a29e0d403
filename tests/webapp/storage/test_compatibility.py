"""Every migration suits the release before it, and a release tells whether a newer one's schema suits it."""

from contextlib import closing

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, select, text

from tests.conftest import TOKEN, own_database, unsynced
from tests.support.exposition import sample
from tests.support.requests import ONE
from tests.support.upgrading import migrate_further
from webapp.services import services
from webapp.storage import engine
from webapp.storage.compatibility import MIGRATIONS, known_revisions, misfits
from webapp.storage.engine import Database
from webapp.storage.schema import Base, Run

# Earlier ones had the installations stopped.
JUDGED_FROM = "0012"
# "table.column" that a migration takes away although the schema before it has it, with the revision whose release was
# the first not to use it: an earlier one than the migration's.
UNUSED_SINCE: dict[str, str] = {}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty(request, tmp_path_factory):
    """The URL of a database without tables."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("database")
        (folder / "inkling.db").touch()
        yield f"sqlite:///{folder}/inkling.db"
    else:
        with own_database(request.getfixturevalue("postgresql")) as url:
            yield url


@pytest.fixture(scope="module")
def found(empty):
    """A database on which every migration was run, with what it made unfit for the release before."""
    with closing(unsynced(Database(empty))) as database, database._writing_engine.begin() as connection:
        reasons, before = {}, None
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        for revision in sorted(known_revisions()):
            alembic.command.upgrade(config, revision)
            after = reflected(connection)
            if revision >= JUDGED_FROM:
                reasons[revision] = misfits(after, before, connection.dialect)
            before = after
        yield connection, before, reasons


def reflected(connection):
    tables = MetaData()
    tables.reflect(connection)
    return tables


def test_every_migration_suits_the_release_before(found):
    *_, reasons = found
    for revision, faults in reasons.items():
        unused = {f"{column} is missing" for column, since in UNUSED_SINCE.items() if since < revision}
        assert set(faults) <= unused, f"{revision} breaks the release before: see docs/upgrading.md"


def test_migrations_make_what_this_release_uses(found):
    connection, schema, _ = found
    assert misfits(schema, Base.metadata, connection.dialect) == []


def test_revisions_are_told_by_the_names_of_their_files():
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert known_revisions() == {script.revision for script in scripts.walk_revisions()}


def add(table, *column, **options):
    """A migration that adds a column; by a batch, as SQLite otherwise refuses one without default."""

    def change(op):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column(*column, **options))

    return change


def batch(table, do, *arguments, **options):
    def change(op):
        with op.batch_alter_table(table) as altered:
            getattr(altered, do)(*arguments, **options)

    return change


def direct(do, *arguments, **options):
    return lambda op: getattr(op, do)(*arguments, **options)


def new_table(**options):
    """A migration that adds a table which refers to corrections."""

    def change(op):
        key = sa.Column("id", sa.Integer, primary_key=True)
        reference = sa.ForeignKey("correction.id", **options)
        op.create_table("note", key, sa.Column("correction_id", sa.Integer, reference, nullable=False))

    return change


def another_key(op):
    op.drop_table("sign_in_attempt")
    columns = sa.Column("id", sa.Integer, nullable=False), sa.Column("address", sa.String, primary_key=True)
    op.create_table("sign_in_attempt", *columns, sa.Column("at", sa.Double, nullable=False))


def unique_when_given(op):
    add("run", "ticket", sa.String)(op)
    op.create_index("one_ticket", "run", ["kind", "ticket"], unique=True)


def unique_by_default(op):
    add("run", "ticket", sa.String, server_default="none")(op)
    op.create_index("one_ticket", "run", ["ticket"], unique=True)


BAD = {
    "a column without default": (
        add("correction", "colour", sa.String, nullable=False),
        "correction.colour must be given",
    ),
    "a column dropped": (direct("drop_column", "import", "fraction"), "import.fraction is missing"),
    "a column renamed": (
        direct("alter_column", "run", "history", new_column_name="epochs_done"),
        "run.history is missing",
    ),
    "a table dropped": (direct("drop_table", "import_file"), "import_file is missing"),
    "a table renamed": (direct("rename_table", "checkpoint", "saved"), "checkpoint is missing"),
    "another type": (batch("run", "alter_column", "epochs", type_=sa.String), "run.epochs is of type VARCHAR"),
    "shorter text": (
        batch("import", "alter_column", "name", type_=sa.String(5)),
        "import.name is of type VARCHAR(5)",
    ),
    "not empty any more": (
        batch("run", "alter_column", "error", existing_type=sa.String, nullable=False),
        "run.error must not be empty",
    ),
    "its default dropped": (
        batch("run", "alter_column", "losses", existing_type=sa.Integer, server_default=None),
        "run.losses must be given",
    ),
    "unique values": (
        direct("create_index", "one_source", "correction", ["source"], unique=True),
        "correction (source) must be unique",
    ),
    "a constraint of unique values": (
        batch("run", "create_unique_constraint", "one_seed", ["seed", "kind"]),
        "run (kind, seed) must be unique",
    ),
    "a new column's unique default": (unique_by_default, "run (ticket) must be unique"),
    "several active runs": (direct("drop_index", "one_active_run", "run"), "run (kind) need not be unique"),
    "a check": (
        batch("import", "create_check_constraint", "some", sa.text("digits > 0")),
        "import is checked for digits > 0",
    ),
    "another key": (another_key, "sign_in_attempt has another primary key"),
    "a reference": (
        batch("import", "create_foreign_key", "of_run", "run", ["attempt"], ["id"]),
        "import (attempt) must be of run",
    ),
    "a table that holds rows back": (new_table(), "rows of correction cannot be deleted while note refers to them"),
}
GOOD = {
    "a column": add("correction", "colour", sa.String),
    "a column with a default": add("correction", "colour", sa.String, nullable=False, server_default="black"),
    "a table": new_table(ondelete="CASCADE"),
    "an index": direct("create_index", "by_hand_and_time", "correction", ["hand", "created_at"]),
    "an index dropped": direct("drop_index", "ix_correction_hand", "correction"),
    "a new column unique where given": unique_when_given,
    "a column that may be empty": batch("run", "alter_column", "seed", existing_type=sa.BigInteger, nullable=True),
}


def judged(found, change):
    """What a trial migration makes unfit for the schema before it, and for this release; it is undone."""
    connection, before, _ = found
    with connection.begin_nested() as trial:
        change(Operations(MigrationContext.configure(connection)))
        after = reflected(connection)
        trial.rollback()
    return [misfits(after, used, connection.dialect) for used in (before, Base.metadata)]


@pytest.mark.parametrize(("change", "reason"), BAD.values(), ids=BAD)
def test_migration_that_breaks_the_release_before_is_found(found, change, reason):
    for reasons in judged(found, change):
        assert reason in reasons


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_migration_that_suits_the_release_before_is_let_pass(found, change):
    assert judged(found, change) == [[], []]


@pytest.mark.both_databases
def test_schema_that_asks_for_more_is_told_and_readings_go_on(app, client):
    """A newer release's migration added a column without default: this one answered 500 where it wrote, and said ok."""
    answer = client.post("/predict", json=ONE).get_json()
    migrate_further(services(app).database, BAD["a column without default"][0])
    checks = client.get("/readyz")
    assert checks.status_code == 503
    told = checks.get_json()["checks"]
    assert "newer release (revision 9999): correction.colour must be given" in told["database"]
    assert told["model"] == "ok, v1"
    assert client.post("/predict", json=ONE).get_json() == answer
    refused = client.post("/feedback", json=ONE | {"meant": 7})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (503, "database")
    assert "being upgraded" in refused.get_json()["error"]["message"]
    assert client.get("/gallery").status_code == 200


@pytest.mark.both_databases
def test_schema_without_what_is_read_is_told(app, client, admin):
    assert sample(client.get("/metrics").text, "inkling_schema_suits") == 1
    migrate_further(services(app).database, direct("drop_column", "correction", "doubt"))
    assert "correction.doubt is missing" in client.get("/readyz").get_json()["checks"]["database"]
    page = admin.get("/admin/corrections")
    assert page.status_code == 503 and "being upgraded" in page.text
    migrate_further(services(app).database, direct("drop_column", "import", "state"))  # which metrics are made of
    text = client.get("/metrics").text
    assert sample(text, "inkling_database_up") == 1 and sample(text, "inkling_schema_suits") == 0


@pytest.mark.both_databases
def test_schema_of_before_is_told_until_it_is_migrated(app, client):
    """The web server of a new release is started before its set-up."""
    database = services(app).database
    current = max(known_revisions())
    migrate_further(database, direct("drop_column", "correction", "doubt"), revision="0001")
    told = client.get("/readyz").get_json()["checks"]["database"]
    assert "an earlier release (revision 0001): correction.doubt is missing; `python -m webapp setup`" in told
    migrate_further(database, add("correction", "doubt", sa.JSON), revision=current)
    assert client.get("/readyz").status_code == 200


@pytest.mark.both_databases
def test_schema_that_something_else_has_changed_is_told_until_it_is_as_before(app, client, monkeypatch):
    """No release is to blame then, and set-up finds nothing to do."""
    monkeypatch.setattr(engine, "MISFIT_SECONDS", -1)
    database, current = services(app).database, max(known_revisions())
    migrate_further(database, direct("drop_column", "correction", "doubt"), revision=current)
    told = client.get("/readyz").get_json()["checks"]["database"]
    assert f"of this release, and something else has changed it (revision {current}): correction.doubt is mis" in told
    migrate_further(database, add("correction", "doubt", sa.JSON), revision=current)
    assert client.get("/readyz").status_code == 200


@pytest.mark.both_databases
@pytest.mark.parametrize("revision", ["0001", max(known_revisions())])
def test_table_of_another_program_that_refers_to_rows_is_no_misfit(app, client, revision):
    migrate_further(services(app).database, new_table(), revision)
    assert client.get("/readyz").status_code == 200


@pytest.mark.both_databases
def test_newer_schema_that_suits_is_worked_with(app, client, settings):
    migrate_further(services(app).database, GOOD["a column with a default"])
    assert client.get("/readyz").status_code == 200
    assert client.post("/feedback", json=ONE | {"meant": 7}).status_code == 201
    with closing(Database(settings.database_url)) as database:
        assert database.upgrade() is False
        with database.reading() as session:
            assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


@pytest.mark.both_databases
def test_run_that_the_schema_refuses_is_told(app, client):
    """A refused row was taken for a concurrent start, and tried again until the stack was full."""
    migrate_further(services(app).database, add("run", "colour", sa.String, nullable=False))
    token = {"Authorization": f"Bearer {TOKEN}"}
    answer = client.post("/admin/retrain", json={"preset": "basic"}, headers=token)
    with services(app).database.reading() as session:
        assert session.scalars(select(Run.id)).all() == []
    assert answer.status_code == 503
