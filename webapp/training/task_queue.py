"""The queue that tells workers what to do: Huey's, on whatever the settings name.

Opening it connects to nothing, so that a web process starts, and goes on, while the queue's server is away.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable

from huey import PostgresHuey, RedisHuey
from huey.api import Huey
from huey.serializer import SignedSerializer
from huey.storage import PostgresStorage
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text
from sqlalchemy.orm import Session

from webapp.private_files import create
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.training.queue_file import FileHuey

# A request waits no longer for a message to be taken; a worker looks so often whether there is one.
REDIS_SECONDS = 1.0
READ_SECONDS = 0.5


def open_queue(settings: Settings, database: Database) -> Huey:
    """Redis where the settings name one, else PostgreSQL where that is the database, else a file."""
    common = {"results": False, "serializer": SignedSerializer(secret=settings.secret_key)}
    if settings.redis_url:
        pool = ConnectionPool.from_url(
            settings.redis_url,
            socket_connect_timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        # A name for each installation, as two of them may use the same Redis.
        name = "inkling" + hashlib.sha256(settings.secret_key.encode()).hexdigest()[:8]
        return RedisHuey(name, connection_pool=pool, read_timeout=READ_SECONDS, **common)
    if database.is_postgresql:
        return PostgresHuey("inkling", connection=database.connect, create_tables=False, **common)
    return FileHuey("inkling", path=settings.data_dir / "queue.db", journal_mode="delete", fsync=True, **common)


def make_file(settings: Settings, database: Database, say: Callable[[str], object]) -> None:
    """Makes the file that the queue is in, where it is in one; `say` gets a line where that cannot be."""
    if settings.redis_url or database.is_postgresql:
        return
    storage = open_queue(settings, database).storage
    try:
        create(storage.path)
        storage.initialize_schema()
    except (sqlite3.Error, OSError) as error:
        say(f"Warning: the queue in {storage.path} cannot be used, and jobs begin some seconds late: {error}")


def make_tables(session: Session) -> None:
    """Makes the tables that the queue has in PostgreSQL, unless they are there."""
    if session.get_bind().dialect.name == "postgresql":
        for statement in PostgresStorage(create_tables=False).ddl:
            session.execute(text(statement))
