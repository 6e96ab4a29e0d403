"""The database engine and its sessions: SQLite by default, PostgreSQL by DATABASE_URL."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
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
from webapp.storage.schema import Base

BUSY_SECONDS = 5
CONNECT_SECONDS = 2
REQUEST_SECONDS = 10  # gunicorn ends a worker whose request takes 15
WORK_SECONDS = 600
IDLE_SECONDS = 15  # less than a run's lease
MIGRATION_LOCK = 0x696E6B6C  # any number that no other program takes on the same database


class SchemaTooNew(Exception):
    """A later release has made the schema; the message says what to do."""


class Database:
    """One engine per process. `reading()` and `writing()` give a session whose transaction ends with the block.

    On PostgreSQL a statement may take `statement_seconds`.
    """

    def __init__(self, url: str, statement_seconds: int = REQUEST_SECONDS):
        if url.startswith("sqlite"):
            # Opened anew each time: a connection that is kept goes on with a file that was moved away or replaced.
            self.engine = create_engine(url, poolclass=NullPool, hide_parameters=True, json_serializer=as_json)
            event.listen(self.engine, "do_connect", _find_sqlite)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(
                _with_limits(make_url(url), statement_seconds),
                isolation_level="READ COMMITTED",  # what the locks and conditional updates of this package count on
                pool_pre_ping=True,  # after the server was away, its old connections are worth nothing
                pool_size=2,
                pool_timeout=CONNECT_SECONDS,
                hide_parameters=True,
                json_serializer=as_json,
            )
        self._writing_engine = self.engine.execution_options(writing=True)
        self._reading_engine = self.engine
        if self.is_postgresql:  # as in SQLite, what is read within one block is of one moment
            self._reading_engine = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @property
    def files(self) -> list[Path]:
        """Those of an SQLite database, some of which are there only at times; the first one is the database itself."""
        file = self.engine.url.database
        return [] if self.is_postgresql else [Path(f"{file}{end}") for end in ("", "-wal", "-shm", "-journal")]

    def connect(self) -> Any:
        """A connection of the driver's own, beside those that are pooled here."""
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

    def remove(self, table: type[Base], which: ColumnElement[bool]) -> None:
        """Deletes rows. Only where there are any does it take the lock that every writer waits for."""
        with self.reading() as session:
            if not session.scalar(select(exists().where(which))):
                return
        with self.writing() as session:
            session.execute(delete(table).where(which))

    def upgrade(self) -> None:
        """Brings the schema up to date; to be run before the other processes start, and safe to run twice at once.

        All of it is one transaction, begun with a lock: of several processes one migrates, and the others find it done.
        Raises SchemaTooNew.
        """
        import alembic.command  # only here: the web processes need not wait for it
        import alembic.config

        if self.files:
            try:
                create(self.files[0])
            except OSError as error:
                raise OperationalError(None, None, error) from error
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._writing_engine.begin() as connection:
            if self.is_postgresql:  # SQLite's write lock is taken already
                connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            try:
                alembic.command.upgrade(config, "head")
            except alembic.util.CommandError as error:  # this release does not know the database's revision
                told = "the database was made by a newer release of Inkling; start that release, or restore a backup"
                raise SchemaTooNew(told) from error

    def describe(self) -> str:
        """Which database this is, with what its users should know of it."""
        if self.is_postgresql:
            return "postgresql"
        return f"sqlite, {'write-ahead log' if _wal_is_safe() else 'rollback journal'}"

    def close(self) -> None:
        self.engine.dispose()


def lock_table(session: Session, table: type[Base]) -> None:
    """Keeps all others from writing to a table until this transaction ends: what it has read of it stays true.

    Who takes several takes them in the order promotion, run's row, correction, import.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text(f"LOCK TABLE {table.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))


def insert_if_absent(session: Session, table: type[Base], **values) -> bool:
    """Adds a row unless there is one with its key, whoever adds it at the same moment; returns whether it did."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    added = insert(table).values(values).on_conflict_do_nothing().returning(literal(True))
    return session.scalar(added) is not None


def _with_limits(url: URL, statement_seconds: int) -> URL:
    """PostgreSQL's address with what keeps everybody from waiting for ever; what it says itself of that stands.

    Neither for a server that is gone, nor for a statement, nor for a lock. And who holds one and stops, or vanishes
    with its machine, is thrown out.
    """
    limits = {
        "statement_timeout": f"{statement_seconds}s",
        "lock_timeout": f"{BUSY_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "2",
    }
    ours = {
        "connect_timeout": str(CONNECT_SECONDS),
        "tcp_user_timeout": "3000",  # milliseconds without an acknowledgement
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }
    return url.set(query=ours | dict(url.query))


def as_json(value: Any) -> str:
    """JSON, which knows no NaN and no infinity: null stands for them."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value))


def finite(value: Any) -> Any:
    """The same with None in place of what JSON does not know: NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def _wal_is_safe(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite is free of the race in resetting the write-ahead log (3.7.0 to 3.51.2, fixed also in
    3.44.6 and 3.50.7), which can corrupt a database with several writers."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def _find_sqlite(_dialect, _record, arguments: list, _parameters) -> None:
    if not Path(arguments[0]).exists():
        # SQLite would make a new one, and hide that the installation's own is gone.
        raise sqlite3.OperationalError(f"{arguments[0]} is missing")


def _prepare_sqlite(connection: sqlite3.Connection, _record) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        f"journal_mode = {'WAL' if _wal_is_safe() else 'DELETE'}",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # a drawing that its author deleted is to leave the file, not only the table
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection) -> None:
    # A reader that turns writer fails at once when another wrote meanwhile, whatever the time-out: writers queue up
    # from the start instead.
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
