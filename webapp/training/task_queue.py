"""The task queue: Huey on Redis, PostgreSQL or a file, by the settings.

Opening it does not connect, so that a web process starts and runs while the queue's server is down.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable

from huey import PostgresHuey, RedisHuey
from huey.api import Huey
from huey.serializer import SignedSerializer
from huey.storage import PostgresStorage
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text
from sqlalchemy.orm import Session

from webapp.private_files import create
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.training.queue_file import FileHuey

REDIS_SECONDS = 1.0  # the longest that a request waits for Redis
READ_SECONDS = 0.5  # the longest that a worker blocks in one read


def open_queue(settings: Settings, database: Database) -> Huey:
    """Return the queue in Redis if the settings name one, else in PostgreSQL if it is the database, else in a file."""
    common = {"results": False, "serializer": SignedSerializer(secret=settings.secret_key)}
    if settings.redis_url:
        pool = ConnectionPool.from_url(
            settings.redis_url,
            socket_connect_timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        # One name for each installation, since several may use the same Redis.
        name = "inkling" + hashlib.sha256(settings.secret_key.encode()).hexdigest()[:8]
        return RedisHuey(name, connection_pool=pool, read_timeout=READ_SECONDS, **common)
    if database.is_postgresql:
        return PostgresHuey("inkling", connection=database.connect, create_tables=False, **common)
    return FileHuey("inkling", path=settings.data_dir / "queue.db", journal_mode="delete", fsync=True, **common)


def redis_of(queue: Huey) -> Redis | None:
    """Return the client of the Redis that carries the queue; None if another server does."""
    return queue.storage.conn if isinstance(queue, RedisHuey) else None


def make_file(settings: Settings, database: Database, say: Callable[[str], object]) -> None:
    """Create the queue's file unless the queue is in Redis or PostgreSQL; `say` gets a warning if that fails."""
    if settings.redis_url or database.is_postgresql:
        return
    storage = open_queue(settings, database).storage
    try:
        create(storage.path)
        storage.initialize_schema()
    except (sqlite3.Error, OSError) as error:
        say(f"Warning: the queue in {storage.path} cannot be used, and jobs begin some seconds late: {error}")


def make_tables(session: Session) -> None:
    """Create the queue's tables in PostgreSQL if missing."""
    if session.get_bind().dialect.name == "postgresql":
        for statement in PostgresStorage(create_tables=False).ddl:
            session.execute(text(statement))
