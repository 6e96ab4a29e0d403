"""Small installations without versions, for tests of their files: made and copied in no time."""

import functools
import os
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from webapp import private_files
from webapp.settings import Settings
from webapp.storage.engine import Database


def small(data_dir: Path, name: str) -> Settings:
    """An installation that is known by a row of this name and by its secret key, `key(name)`."""
    Settings.read({"DATA_DIR": str(data_dir)})
    private_files.create(data_dir / "secret_key")
    (data_dir / "secret_key").write_text(key(name))
    private_files.create(data_dir / "inkling.db")
    (data_dir / "inkling.db").write_bytes(_empty())
    with closing(sqlite3.connect(data_dir / "inkling.db")) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("INSERT INTO installation (id, secret_key) VALUES (1, ?)", [name])
    return Settings.read({"DATA_DIR": str(data_dir)})


def key(name: str) -> str:
    return f"the secret key of the installation named {name}"


def marks(data_dir: Path) -> list[str]:
    """What the database in a folder, which is whole, and the secret key there are known by."""
    with closing(sqlite3.connect(data_dir / "inkling.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        ((name,),) = connection.execute("SELECT secret_key FROM installation").fetchall()
    return [name, (data_dir / "secret_key").read_text().removeprefix(key(""))]


@functools.cache
def _empty() -> bytes:
    """A database without rows."""
    with tempfile.TemporaryDirectory() as folder, closing(Database(f"sqlite:///{folder}/empty.db")) as database:
        database.upgrade()
        return Path(folder, "empty.db").read_bytes()


def begin_to_write(connection: sqlite3.Connection) -> None:
    """Begin a transaction so large that some of its pages are in the file before it ends, and the old in the journal.

    It sets `at` of 5,000 attempts to sign in from 0 to 1.
    """
    with connection:
        rows = [(str(number), 0.0) for number in range(5_000)]
        connection.executemany("INSERT INTO sign_in_attempt (address, at) VALUES (?, ?)", rows)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("UPDATE installation SET secret_key = 'half'")
    connection.execute("UPDATE sign_in_attempt SET at = 1.0")


def leave_hot_journal(data_dir: Path) -> None:
    """Leave the files as a process does that is killed while it writes."""
    child = os.fork()
    if child == 0:
        begin_to_write(sqlite3.connect(data_dir / "inkling.db"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (data_dir / "inkling.db-journal").stat().st_size
