"""The database engine and its sessions: SQLite by default, PostgreSQL by DATABASE_URL."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    create_engine,
    delete,
    event,
    exists,
    func,
    inspect,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from webapp.private_files import create
from webapp.storage.compatibility import MIGRATIONS, describe_misfit, known_revisions, revision_of
from webapp.storage.schema import Base

BUSY_SECONDS = 5
CONNECT_SECONDS = 2
REQUEST_SECONDS = 10  # gunicorn ends a worker whose request takes 15
WORK_SECONDS = 600  # in a worker, which no request waits for
IDLE_SECONDS = 15  # shorter than a run's lease
MISFIT_SECONDS = 5  # looking at the schema takes some time, and every failing request asks
MIGRATION_LOCK = 0x696E6B6C  # an arbitrary key for PostgreSQL's advisory lock


class SchemaMisfit(Exception):
    """This release cannot work with the schema, which another one made; the message says what to do."""


class Database:
    """One engine per process. `reading()` and `writing()` yield a session whose transaction ends with the block.

    `statement_seconds` limits each statement on PostgreSQL.
    """

    def __init__(self, url: str, statement_seconds: int = REQUEST_SECONDS):
        if url.startswith("sqlite"):
            # No pool: an open connection would keep using a file that was moved away or replaced.
            self.engine = create_engine(url, poolclass=NullPool, hide_parameters=True, json_serializer=to_json)
            event.listen(self.engine, "do_connect", _require_sqlite_file)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(
                _with_limits(make_url(url), statement_seconds),
                isolation_level="READ COMMITTED",  # the locks and conditional updates of this package rely on it
                pool_pre_ping=True,  # connections from before a restart of the server are dead
                pool_size=2,
                pool_timeout=CONNECT_SECONDS,
                hide_parameters=True,
                json_serializer=to_json,
            )
        # The revision judged last, why it does not suit, and until when that is believed.
        self._fit: tuple[str, str | None, float] | None = None
        self._writing_engine = self.engine.execution_options(writing=True)
        self._reading_engine = self.engine
        if self.is_postgresql:  # as in SQLite, one block reads one snapshot
            self._reading_engine = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @property
    def files(self) -> list[Path]:
        """The files of an SQLite database, some of which exist only at times; the first is the database itself."""
        file = self.engine.url.database
        return [] if self.is_postgresql else [Path(f"{file}{end}") for end in ("", "-wal", "-shm", "-journal")]

    @property
    def place(self) -> str:
        """Where the database is: SQLite's file, or PostgreSQL's address without its password."""
        url = self.engine.url
        if self.files:
            return str(self.files[0])
        return URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string()

    def is_set_up(self) -> bool:
        """Tell whether set-up has made an installation's tables here."""
        if self.files and not self.files[0].exists():
            return False
        with self.reading() as session:
            return inspect(session.connection()).has_table("alembic_version")

    def connect(self) -> Any:
        """Return a new connection of the driver, which is not pooled here."""
        arguments, parameters = self.engine.dialect.create_connect_args(self.engine.url)
        return self.engine.dialect.connect(*arguments, **parameters)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self._reading_engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with Session(self._writing_engine, expire_on_commit=False) as session, session.begin():
            yield session

    def delete_where(self, table: type[Base], which: ColumnElement[bool]) -> None:
        """Delete the rows that meet a condition; take the write lock only if there are any."""
        with self.reading() as session:
            if not session.scalar(select(exists().where(which))):
                return
        with self.writing() as session:
            session.execute(delete(table).where(which))

    def truncate_log(self) -> None:
        """Remove what was deleted from SQLite's write-ahead log too, unless somebody is reading from it."""
        if not self.is_postgresql:
            with closing(self.engine.raw_connection()) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def upgrade(self) -> bool:
        """Migrate the schema to the latest revision; return False if it is of a newer release, and so left as it is.

        Raises SchemaMisfit if this release cannot work with a newer one. To be run before the other processes start.
        Safe to run concurrently: all of it is one transaction that begins with a lock, so one process migrates and the
        others find nothing to do.
        """
        import alembic.command  # imported here to keep the web processes' start fast
        import alembic.config
        from alembic.migration import MigrationContext

        if self.files:
            try:
                create(self.files[0])
            except OSError as error:
                raise OperationalError(None, None, error) from error
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._writing_engine.begin() as connection:
            if self.is_postgresql:  # SQLite's write lock is held since the transaction began
                connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            revision = MigrationContext.configure(connection).get_current_revision()
            if revision is not None and revision not in known_revisions():
                if reason := describe_misfit(connection, revision, Base.metadata):
                    raise SchemaMisfit(reason)
                return False
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")
        return True

    def misfit(self) -> str | None:
        """Return in one line why this release cannot work with the schema; None if it can. Raises a database error.

        Judges each revision once, and one that does not suit again after MISFIT_SECONDS: it may be mended by hand.
        """
        with self._reading_engine.connect() as connection:
            revision = revision_of(connection)
            if self._fit is None or self._fit[0] != revision or self._fit[2] < time.monotonic():
                reason = describe_misfit(connection, revision, Base.metadata)
                self._fit = revision, reason, time.monotonic() + MISFIT_SECONDS if reason else math.inf
            return self._fit[1]

    def require_fit(self) -> None:
        """Raise SchemaMisfit if this release cannot work with the schema, or a database error."""
        if reason := self.misfit():
            raise SchemaMisfit(reason)

    def describe(self) -> str:
        """Return the kind of database, for SQLite with its journal mode."""
        if self.is_postgresql:
            return "postgresql"
        return f"sqlite, {'write-ahead log' if _wal_is_safe() else 'rollback journal'}"

    def close(self) -> None:
        self.engine.dispose()


def lock_table(session: Session, table: type[Base]) -> None:
    """Prevent other transactions from writing to a table until this one ends, so that its reads stay valid.

    To avoid deadlocks, take several locks in the order promotion, run's row, correction, import.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text(f"LOCK TABLE {table.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))


def insert_if_absent(session: Session, table: type[Base], **values) -> bool:
    """Insert a row unless its key exists, also under concurrent inserts; return whether it was inserted."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    added = insert(table).values(values).on_conflict_do_nothing().returning(literal(True))
    return session.scalar(added) is not None


def _with_limits(url: URL, statement_seconds: int) -> URL:
    """Return PostgreSQL's URL with time limits; those that it sets itself take precedence.

    They bound the waiting for a dead server, a statement and a lock, and end transactions whose client stopped.
    """
    limits = {
        "statement_timeout": f"{statement_seconds}s",
        "lock_timeout": f"{BUSY_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "2",
    }
    defaults = {
        "connect_timeout": str(CONNECT_SECONDS),
        "tcp_user_timeout": "3000",  # milliseconds without acknowledgement
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }
    return url.set(query=defaults | dict(url.query))


def to_json(value: Any) -> str:
    """Serialize to JSON, with null in place of NaN and infinity."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(nonfinite_to_none(value))


def nonfinite_to_none(value: Any) -> Any:
    """Return a copy of a JSON-like value with None in place of NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: nonfinite_to_none(one) for name, one in value.items()}
    return [nonfinite_to_none(one) for one in value] if isinstance(value, list | tuple) else value


def _wal_is_safe(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Return whether this SQLite is free of the WAL-reset race (3.7.0 to 3.51.2; fixed also in 3.44.6 and 3.50.7).

    It can corrupt a database with several writers.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def _require_sqlite_file(_dialect, _record, arguments: list, _parameters) -> None:
    if not Path(arguments[0]).exists():
        # SQLite would create an empty one, and hide that the installation's file is missing.
        raise sqlite3.OperationalError(f"{arguments[0]} is missing")


def _prepare_sqlite(connection: sqlite3.Connection, _record) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        f"journal_mode = {'WAL' if _wal_is_safe() else 'DELETE'}",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # overwrite deleted drawings in the file
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection) -> None:
    # A reader that becomes a writer fails at once, without busy timeout, when another wrote meanwhile: writers take the
    # lock at the start.
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
