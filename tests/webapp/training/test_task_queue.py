"""The queue on a file, PostgreSQL and Redis: what it carries, and that nothing hangs or is lost while it is away."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from huey import PostgresHuey, RedisHuey

from model.presets import Config
from tests.conftest import ON_POSTGRESQL
from tests.support import processes, servers
from tests.support.servers import wait_until
from webapp.services import Services
from webapp.settings import ROOT
from webapp.setup.install import set_up
from webapp.storage.schema import Run
from webapp.training.queue_file import FileHuey

CONFIG = Config("basic", 1)
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def redis():
    with servers.redis() as server:
        yield server


def ring(services):
    """Has a message sent: the same file is taken in once, however often it comes."""
    services.jobs.import_file("digits.npz", b"", "0" * 64, 1, "a test")


@contextmanager
def opened(settings, **changes):
    services = Services.open(replace(settings, **changes))
    yield services
    services.close()


@pytest.mark.both_databases
def test_queue_is_in_the_database_or_in_redis(settings, database, redis):
    kind = PostgresHuey if database.is_postgresql else FileHuey
    for redis_url, expected in (("", kind), (redis.url, RedisHuey)):
        with opened(settings, redis_url=redis_url) as services:
            assert type(services.jobs.huey) is expected
            ring(services)
            assert services.jobs.huey.pending_count() == 1
            assert services.jobs.huey.dequeue().name == "do_imports"
            assert services.jobs.huey.dequeue() is None


def test_queue_is_not_shared_by_installations_of_one_redis(settings, redis):
    with opened(settings, redis_url=redis.url) as one, opened(settings, redis_url=redis.url, secret_key="x") as other:
        ring(one)
        assert other.jobs.huey.pending_count() == 0
        one.jobs.huey.flush()


@pytest.mark.both_databases
def test_queue_message_of_another_key_is_not_read(settings):
    """Messages are pickles: to read one is to run it."""
    with opened(settings) as ours, opened(settings, secret_key="another") as theirs:
        ring(theirs)
        with pytest.raises(ValueError, match="Signature"):
            ours.jobs.huey.dequeue()


@pytest.mark.both_databases
def test_queue_away_fails_and_hangs_nothing(settings, caplog):
    with opened(settings, redis_url=NOWHERE) as services:
        run = services.jobs.start(CONFIG, "test")
        assert "the queue does not take a message" in caplog.text
        with services.database.reading() as session:
            assert session.get(Run, run.id).state == "queued"


@contextmanager
def working(settings):
    """A real worker, and the file that it logs to; without MNIST every run that it takes ends at once."""
    own = {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.data_dir / "nothing")}
    own |= {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "SECRET_KEY": ""}
    command = [sys.executable, "-m", "webapp", "worker"]
    log = settings.data_dir / "log"
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stderr=file) as worker:
        try:
            yield log
            assert worker.poll() is None, "it has gone on all the while"
        finally:
            worker.terminate()
    assert f"{os.sep}huey{os.sep}" not in log.read_text(), "no traceback each second"


def await_end(services, run):
    """Waits until a worker has taken and, as MNIST is missing, failed the run."""

    def state():
        with services.database.reading() as session:
            return session.get(Run, run.id).state

    wait_until(lambda: state() == "failed")


def await_outage(log):
    wait_until(lambda: "the queue does not answer" in log.read_text())


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_queue_without_redis_runs_go_on(settings):
    with servers.redis() as redis:
        settings = replace(settings, redis_url=redis.url)
        with opened(settings) as services, working(settings) as log:
            redis.stop()
            await_outage(log)
            await_end(services, services.jobs.start(CONFIG, "test"))
            redis.start()
            with redis.connect() as client:
                wait_until(lambda: len(client.client_list()) > 1)  # the worker is there again
            await_end(services, services.jobs.start(CONFIG, "test"))


@pytest.mark.stress
@pytest.mark.timeout(300)
@ON_POSTGRESQL
def test_worker_outlives_an_outage_of_postgresql(settings, postgresql):
    with opened(settings) as services, working(settings) as log:
        await_end(services, services.jobs.start(CONFIG, "test"))
        postgresql.stop()
        await_outage(log)
        postgresql.start()
        await_end(services, services.jobs.start(CONFIG, "test"))


# A file of the queue that is damaged


def foreign(path):
    """Another program's database."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE task (x); CREATE TABLE other (y)")


def changed(start, data):
    def change(path):
        with path.open("r+b") as file:
            file.seek(start)
            file.write(data)

    return change


def with_a_journal(path):
    path.with_name("queue.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + b"\xff" * 600)
    path.write_bytes(b"damaged")


DAMAGES = {
    "text": lambda path: path.write_text("this is no database\n" * 1000),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, 5000),
    "header": changed(0, b"sqlite"),
    "format": changed(18, b"\x09\x09"),
    "page": changed(4096, os.urandom(32768)),
    "schema": changed(100, os.urandom(3000)),
    "foreign": foreign,
    "gone": lambda path: path.unlink(),
    "journal": with_a_journal,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_queue_damaged_is_made_anew(settings, damage, caplog):
    path = settings.data_dir / "queue.db"
    with opened(settings) as web, opened(settings) as worker:
        ring(web)
        for _ in range(2):
            damage(path)
            assert worker.jobs.huey.dequeue() is None
            ring(web)
            assert worker.jobs.huey.dequeue().name == "do_imports"
        assert caplog.text.count("is made anew") == 2
        assert "does not take" not in caplog.text and path.stat().st_mode & 0o077 == 0
    damage(path)
    with opened(settings) as web:
        ring(web)
        assert web.jobs.huey.pending_count() == 1


def test_queue_in_use_is_not_taken_for_damaged(settings):
    with opened(settings) as web, closing(sqlite3.connect(settings.data_dir / "queue.db")) as other:
        ring(web)
        error = sqlite3.DatabaseError("from another process, which has read the file before it was made anew")
        web.jobs.huey.storage.recreate(error)
        assert web.jobs.huey.pending_count() == 1
        other.execute("BEGIN EXCLUSIVE")
        web.jobs.huey.storage._timeout = 0
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            web.jobs.huey.storage.recreate(error)
        other.rollback()
        assert web.jobs.huey.pending_count() == 1


def test_queue_found_damaged_by_many_loses_no_message(settings):
    (settings.data_dir / "queue.db").write_bytes(b"damaged" * 1000)
    processes.in_processes(processes.send_messages, 4, settings.data_dir)
    with opened(settings) as services:
        assert services.jobs.huey.pending_count() == 4 * processes.MESSAGES


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_queue_that_cannot_be_made_anew_stops_nobody(settings, caplog):
    path = settings.data_dir / "queue.db"
    path.unlink()
    path.mkdir()
    said = []
    set_up(settings, said.append)
    (warning,) = [line for line in said if line.startswith("Warning")]
    assert str(path) in warning
    with opened(settings) as services, working(settings) as log:
        run = services.jobs.start(CONFIG, "test")
        assert f"{path} cannot be made anew" in caplog.text
        await_outage(log)
        await_end(services, run)
        path.rmdir()
        wait_until(path.is_file)
        await_end(services, services.jobs.start(CONFIG, "test"))


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_worker_goes_on_when_its_queue_is_damaged(settings):
    with opened(settings) as services, working(settings) as log:
        await_end(services, services.jobs.start(CONFIG, "test"))
        (settings.data_dir / "queue.db").write_bytes(os.urandom(20_000))
        wait_until(lambda: "is made anew" in log.read_text())
        await_end(services, services.jobs.start(CONFIG, "test"))
