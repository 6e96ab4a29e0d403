"""The database: engine, sessions and tables. SQLite by default, PostgreSQL by DATABASE_URL."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    TypeDecorator,
    create_engine,
    delete,
    event,
    exists,
    false,
    func,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from model.inference.weights import ModelCard, digest
from model.presets import canonical
from webapp.private_files import create

BUSY_SECONDS = 5
CONNECT_SECONDS = 2
REQUEST_SECONDS = 10  # gunicorn ends a worker whose request takes 15
WORK_SECONDS = 600
IDLE_SECONDS = 15  # less than a run's lease
MIGRATION_LOCK = 0x696E6B6C  # any number that no other program takes on the same database
Active = Literal["queued", "running"]
ACTIVE = get_args(Active)
ReviewState = Literal["received", "approved", "refused"]
REVIEW_STATES = get_args(ReviewState)
BIGGEST_ROW_ID = 2**31 - 1
Ended = Literal["finished", "failed", "cancelled", "lost"]
ENDED = get_args(Ended)
RunState = Active | Ended


class PresetName(TypeDecorator[str]):
    """A preset's name. Rows hold former names as well; all are read by their present one."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and canonical(value)

    process_result_value = process_bind_param


class Base(DeclarativeBase):
    type_annotation_map = {float: Double, dict: JSON, list: JSON, bytes: LargeBinary}


class Version(Base):
    """One trained model: its weights as safetensors bytes and its card. Never changed once written."""

    __tablename__ = "version"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time)
    source: Mapped[str]  # "shipped" or "run"
    run_id: Mapped[int | None]
    preset: Mapped[str] = mapped_column(PresetName)
    sha256: Mapped[str]
    weights: Mapped[bytes] = mapped_column(deferred=True)
    card: Mapped[dict]
    validation_accuracy: Mapped[float]
    test_accuracy: Mapped[float | None]

    @property
    def name(self) -> str:
        return f"v{self.id}"

    @classmethod
    def of(cls, data: bytes, card: ModelCard, source: str, run_id: int | None = None) -> Version:
        """A new one with these weights."""
        return cls(
            source=source,
            run_id=run_id,
            preset=card.preset,
            sha256=digest(data),
            weights=data,
            card=card.as_dict(),
            validation_accuracy=card.validation_accuracy,
            test_accuracy=card.test_accuracy,
        )


class Promotion(Base):
    """Which version has answered since when, who or what put it there and why. The last row names the champion."""

    __tablename__ = "promotion"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    from_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # the champion until then
    at: Mapped[float] = mapped_column(default=time.time)
    by: Mapped[str]
    why: Mapped[str]


class Comparison(Base):
    """A challenger measured against the champion of that time: `model.evaluation.comparison.Evidence.as_dict()`, or
    what an earlier release made, with sentences."""

    __tablename__ = "comparison"
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    champion_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    at: Mapped[float] = mapped_column(default=time.time)
    passed: Mapped[bool]
    evidence: Mapped[dict]


class Run(Base):
    """One training. Its row is the truth about it; a worker holds it by `attempt` and a lease that it renews."""

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="retrain")
    state: Mapped[str]  # of ACTIVE or ENDED
    preset: Mapped[str] = mapped_column(PresetName)
    epochs: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    processes: Mapped[int] = mapped_column(default=1, server_default="1")  # that train it together
    corrections: Mapped[bool] = mapped_column(default=False, server_default=false())  # the approved ones
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # whose weights fine-tuning goes on from
    requested_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0, server_default="0")  # attempts that ended without a word
    lease_until: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    progress: Mapped[dict] = mapped_column(default=dict)
    history: Mapped[list] = mapped_column(default=list)
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    error: Mapped[str | None]

    __table_args__ = (
        # At most one active run: the database refuses a second start, whichever process asks.
        Index(
            "one_active_run",
            "kind",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )


class Checkpoint(Base):
    """Where a run under way stands after its last epoch: what the next attempt goes on from. Gone when the run ends."""

    __tablename__ = "checkpoint"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    at: Mapped[float] = mapped_column(default=time.time)
    data: Mapped[bytes]


class Correction(Base):
    """A drawing with what its author meant by it, kept because the author said so.

    `meant` and `label` are 0 to 9, or NO_DIGIT: what the author said, and what the reviewer made of it. `source` is a
    keyed digest of the sender's address. A correction that is nearly the same as an earlier one is its twin: reviewed
    with it, and learnt from once.
    """

    __tablename__ = "correction"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    source: Mapped[str] = mapped_column(index=True)
    receipt_sha256: Mapped[str] = mapped_column(unique=True)  # of the secret in the receipt's address
    meant: Mapped[int]
    label: Mapped[int]
    digit_image: Mapped[bytes]  # uint8 (28, 28)
    picture: Mapped[bytes] = mapped_column(deferred=True)  # a PNG of our own making
    answered: Mapped[dict]  # verdict, digits, reason, top, not_a_digit, as POST /predict answers
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # which answered; None for an imported one
    held_out: Mapped[bool]  # never learnt from: for comparing versions
    state: Mapped[str] = mapped_column(default="received")  # of REVIEW_STATES
    reason: Mapped[str | None]  # why it was refused
    decided_at: Mapped[float] = mapped_column(default=0.0, server_default="0")  # when a reviewer last changed it
    twin_of: Mapped[int | None] = mapped_column(ForeignKey("correction.id"), index=True)
    suspicion: Mapped[float | None]  # 0 to 1; None until it is computed
    doubt: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))  # what the suspicion rests on

    @classmethod
    def firsts(cls, state: str) -> tuple[ColumnElement[bool], ...]:
        """The conditions of those in a state without the twins, which go with their first."""
        return cls.state == state, cls.twin_of.is_(None)

    __table_args__ = (
        # Pages of the review and their numbers come from it alone, however many were decided.
        Index("ix_correction_review", "state", "twin_of", "decided_at", "id"),
        # A worker looks for those that nobody has judged every few seconds.
        Index("ix_correction_unjudged", "state", "suspicion"),
        # A number is never used again: a decision about one that was deleted must not fall on the next one sent.
        {"sqlite_autoincrement": True},
    )


class Review(Base):
    """One decision about one correction, with what it replaced; decisions taken together share a `batch`."""

    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[str] = mapped_column(index=True)
    at: Mapped[float] = mapped_column(default=time.time)
    by: Mapped[str]
    correction_id: Mapped[int] = mapped_column(ForeignKey("correction.id", ondelete="CASCADE"), index=True)
    state: Mapped[str]
    label: Mapped[int]
    reason: Mapped[str | None]
    state_before: Mapped[str]
    label_before: Mapped[int]
    reason_before: Mapped[str | None]


class Import(Base):
    """A file of digits that a worker takes in as corrections. Its row is the truth about it; a worker holds it by
    `attempt` and tells its progress as long as it does."""

    __tablename__ = "import"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time)
    updated_at: Mapped[float] = mapped_column(default=time.time)
    requested_by: Mapped[str]
    state: Mapped[str]  # of ACTIVE, "finished" or "failed"
    name: Mapped[str]  # of the file, as it may be shown
    sha256: Mapped[str]
    digits: Mapped[int]  # that the file holds
    fraction: Mapped[float] = mapped_column(default=0.0)
    done: Mapped[int] = mapped_column(default=0)  # digits that are stored, or were there already
    added: Mapped[int] = mapped_column(default=0)  # the first of these
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)  # attempts that ended without a word
    error: Mapped[str | None]


class ImportFile(Base):
    """The file of an import under way. Apart from its row, which is written each second; gone when the import ends."""

    __tablename__ = "import_file"
    import_id: Mapped[int] = mapped_column(ForeignKey("import.id"), primary_key=True)
    data: Mapped[bytes]


class RunCorrection(Base):
    """Which approved corrections a run learns from or, held out, is compared by; chosen when it first begins."""

    __tablename__ = "run_correction"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    correction_id: Mapped[int] = mapped_column(
        ForeignKey("correction.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Computation(Base):
    """What is computed about a version besides its training: `kind` is one of `webapp.worker.artifacts.COMPUTATIONS`.

    A row comes with the first attempt; `fraction` is 1 once the `result` is there, in that kind's own coding.
    """

    __tablename__ = "computation"
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[float] = mapped_column(default=time.time)
    fraction: Mapped[float] = mapped_column(default=0.0)
    result: Mapped[bytes | None]
    error: Mapped[str | None]


class Installation(Base):
    """What all processes of an installation share on whichever machine they run; one row."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(primary_key=True)
    secret_key: Mapped[str]


class Administrator(Base):
    """The administrator's password, hashed; one row."""

    __tablename__ = "administrator"
    id: Mapped[int] = mapped_column(primary_key=True)
    password_hash: Mapped[str]


class AdminSession(Base):
    """A signed-in browser, by the digest of its cookie's secret. Gone at sign-out: a copied cookie is worthless."""

    __tablename__ = "admin_session"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]
    seen_at: Mapped[float]


class SignInAttempt(Base):
    """A failed or undecided sign-in, counted across all processes."""

    __tablename__ = "sign_in_attempt"
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(index=True)
    at: Mapped[float]


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


def alone(session: Session, table: type[Base]) -> None:
    """Keeps all others from writing to a table until this transaction ends: what it has read of it stays true.

    Who takes several takes them in the order promotion, run's row, correction, import.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text(f"LOCK TABLE {table.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))


def add_missing(session: Session, table: type[Base], **values) -> bool:
    """Adds a row unless there is one with its key, whoever adds it at the same moment; returns whether it did."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    added = insert(table).values(values).on_conflict_do_nothing().returning(literal(True))
    return session.scalar(added) is not None


def coded(code: str, **numbers: Any) -> str:
    """A code with its numbers as a column of text keeps it (webapp/presentation/wording.py makes sentences of them)."""
    return json.dumps({"code": code, **numbers})


def champion_id(session: Session) -> int | None:
    """The version that answers now: the one promoted last."""
    return session.scalar(select(Promotion.version_id).order_by(Promotion.id.desc()).limit(1))


def champion_of(session: Session) -> Version | None:
    """The same, as its row."""
    return session.get(Version, champion_id(session) or 0)


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
