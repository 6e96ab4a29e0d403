"""The schema and its migration, and sessions that queue up instead of failing."""

import sqlite3
from contextlib import closing

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, event, inspect, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from tests.conftest import own_database
from tests.support import processes
from webapp.settings import ROOT
from webapp.storage import engine
from webapp.storage.engine import Database
from webapp.storage.schema import ACTIVE, ENDED, Base, Promotion, Run, Version


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/inkling.db")
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def in_postgresql(postgresql):
    with own_database(postgresql) as url, closing(Database(url)) as database:
        database.upgrade()
        yield database


@pytest.fixture(params=["database", "in_postgresql"])
def either(request):
    """One on SQLite, and one on PostgreSQL."""
    return request.getfixturevalue(request.param)


def run(state="queued", **values):
    return Run(**{"state": state, "preset": "basic", "epochs": 2, "seed": 0, "requested_by": "a test"} | values)


def migrate(database, how, revision):
    config = alembic.config.Config()
    config.set_main_option("script_location", str(ROOT / "webapp" / "storage" / "migrations"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        how(config, revision)


def schema(database):
    """What the database's tables are made of, in words that do not depend on which one it is."""
    look = inspect(database.engine)
    return {table: described(look, table) for table in look.get_table_names()}


def described(look, table):
    return {
        "columns": {
            column["name"]: (
                type(column["type"].as_generic()),
                column["nullable"],
                column["default"] is None or "nextval" in column["default"],  # how PostgreSQL counts
            )
            for column in look.get_columns(table)
        },
        "key": look.get_pk_constraint(table)["constrained_columns"],
        "points to": {
            (*key["constrained_columns"], key["referred_table"], *key["referred_columns"], *key["options"].items())
            for key in look.get_foreign_keys(table)
        },
        "unique": [one["column_names"] for one in look.get_unique_constraints(table)],
        "indexes": {
            index["name"]: (index["column_names"], bool(index["unique"]), where(index) is not None)
            for index in look.get_indexes(table)
            if "duplicates_constraint" not in index
        },
    }


def where(index):
    """The condition of a partial index; SQLite says it with its name."""
    options = index.get("dialect_options", {})
    return options.get("postgresql_where", options.get("sqlite_where"))


def test_schema_is_the_same_on_both_databases(database, in_postgresql):
    assert schema(database) == schema(in_postgresql)
    assert schema(database)["run"]["indexes"] == {"one_active_run": (["kind"], True, True)}
    assert ("correction_id", "correction", "id", ("ondelete", "CASCADE")) in schema(database)["review"]["points to"]


def test_migrations_make_what_the_models_say(either):
    with either.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrade_again_changes_nothing(either):
    with either.writing() as session:
        session.add(run())
    before = schema(either)
    either.upgrade()
    assert schema(either) == before
    with either.reading() as session:
        assert session.scalars(select(Run.state)).all() == ["queued"]


def test_downgrade_and_upgrade_lead_back(either):
    before = schema(either)
    migrate(either, alembic.command.downgrade, "base")
    assert set(schema(either)) == {"alembic_version"}
    migrate(either, alembic.command.upgrade, "head")
    assert schema(either) == before


def test_upgrade_is_one_transaction(tmp_path):
    """Between two of them another process would find the first one done, and do the second one too."""
    database = Database(f"sqlite:///{tmp_path}/inkling.db")
    begun, ended = [], []
    event.listen(database.engine, "begin", begun.append)
    event.listen(database.engine, "commit", ended.append)
    database.upgrade()
    assert len(begun) == len(ended) == 1
    database.close()


def test_installations_started_together_set_up_once(tmp_path):
    """Two replicas may be started at the same moment on one new database."""
    keys = {key for key, *_ in processes.in_processes(processes.install, 3, tmp_path)}
    assert len(keys) == 1 and len(*keys) == 64
    assert {path.name for path in tmp_path.iterdir()} == {"inkling.db", "queue.db", "secret_key", "static"}
    with closing(Database(f"sqlite:///{tmp_path}/inkling.db")) as database, database.reading() as session:
        assert session.scalars(select(Version.source)).all() == ["shipped"]
        assert session.scalars(select(Promotion.version_id)).all() == [1]


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 6, 23), False),  # no write-ahead log at all
        ((3, 7, 0), False),
        ((3, 40, 1), False),  # Debian 12
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 44, 9), True),
        ((3, 45, 0), False),
        ((3, 46, 1), False),  # Debian 13
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_write_ahead_log_of_this_release_is_safe(version, safe):
    assert engine._wal_is_safe(version) is safe


@pytest.mark.parametrize("safe", [True, False])
def test_write_ahead_log_is_used_where_it_is_safe(tmp_path, monkeypatch, safe):
    monkeypatch.setattr(engine, "_wal_is_safe", lambda: safe)
    database = Database(f"sqlite:///{tmp_path}/inkling.db")
    database.upgrade()
    with database.reading() as session:
        mode = session.execute(text("PRAGMA journal_mode")).scalar_one()
    assert mode == ("wal" if safe else "delete")
    assert database.describe() == f"sqlite, {'write-ahead log' if safe else 'rollback journal'}"
    database.close()


def test_sqlite_at_hand_is_judged():
    assert engine._wal_is_safe() is engine._wal_is_safe(sqlite3.sqlite_version_info)


def test_connection_waits_for_locks_and_syncs(settings):
    with closing(Database(settings.database_url)) as database, database.reading() as session:
        values = {name: session.execute(text(f"PRAGMA {name}")).scalar_one() for name in PRAGMAS}
    assert values == PRAGMAS


PRAGMAS = {"busy_timeout": 5000, "synchronous": 2, "foreign_keys": 1}


def test_block_that_fails_writes_nothing(either):
    with pytest.raises(ZeroDivisionError), either.writing() as session:
        session.add(run())
        session.flush()
        raise ZeroDivisionError
    with either.reading() as session:
        assert session.scalars(select(Run)).all() == []


def test_run_second_active_is_refused_by_the_database(either):
    for first in ACTIVE:
        with either.writing() as session:
            session.execute(delete(Run))
            session.add(run(first))
        for second in ACTIVE:
            with pytest.raises(IntegrityError), either.writing() as session:
                session.add(run(second))


def test_runs_ended_do_not_block_another(either):
    with either.writing() as session:
        session.add_all([*map(run, ENDED), *map(run, ENDED), run("queued")])
    with either.writing() as session:
        session.scalars(select(Run).where(Run.state == "queued")).one().state = "finished"
        session.flush()
        session.add(run("queued"))


def test_database_gone_is_not_made_anew(database, tmp_path):
    (tmp_path / "inkling.db").unlink()
    with pytest.raises(OperationalError, match="is missing"), database.writing() as session:
        session.add(run())
    assert not (tmp_path / "inkling.db").exists()


def test_promotion_of_an_unknown_version_is_refused(either):
    with pytest.raises(IntegrityError), either.writing() as session:
        session.add(Promotion(version_id=7, by="a test", why=""))
