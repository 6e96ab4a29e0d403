"""The queue on a file, PostgreSQL and Redis: what it carries, and that nothing hangs or is lost while it is away."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from huey import PostgresHuey, RedisHuey, SqliteHuey

from model.presets import Config
from tests import servers
from tests.conftest import ON_POSTGRESQL
from tests.servers import wait_until
from webapp.database import Run
from webapp.services import Services
from webapp.settings import ROOT

CONFIG = Config("seed", 1)
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def redis():
    with servers.redis() as server:
        yield server


@contextmanager
def opened(settings, **changes):
    services = Services.open(replace(settings, **changes))
    yield services
    services.close()


@pytest.mark.both_databases
def test_the_queue_is_in_the_database_or_in_redis(settings, database, redis):
    kind = PostgresHuey if database.is_postgresql else SqliteHuey
    for redis_url, expected in (("", kind), (redis.url, RedisHuey)):
        with opened(settings, redis_url=redis_url) as services:
            assert type(services.jobs.huey) is expected
            services.jobs.score_corrections()
            assert services.jobs.huey.pending_count() == 1
            assert services.jobs.huey.dequeue().name == "do_suspicion"
            assert services.jobs.huey.dequeue() is None


def test_installations_that_share_a_redis_do_not_share_a_queue(settings, redis):
    with opened(settings, redis_url=redis.url) as one, opened(settings, redis_url=redis.url, secret_key="x") as other:
        one.jobs.score_corrections()
        assert other.jobs.huey.pending_count() == 0
        one.jobs.huey.flush()


@pytest.mark.both_databases
def test_a_message_that_somebody_else_has_written_is_not_read(settings):
    """Messages are pickles: to read one is to run it."""
    with opened(settings) as ours, opened(settings, secret_key="another") as theirs:
        theirs.jobs.score_corrections()
        with pytest.raises(ValueError, match="Signature"):
            ours.jobs.huey.dequeue()


@pytest.mark.both_databases
def test_a_queue_that_is_away_fails_and_hangs_nothing(settings, caplog):
    with opened(settings, redis_url=NOWHERE) as services:
        began = time.monotonic()
        run = services.jobs.start(CONFIG, "test")
        assert time.monotonic() - began < 5
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
        yield log
        assert worker.poll() is None, "it has gone on all the while"
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


@pytest.mark.timeout(300)
def test_runs_go_on_without_redis_and_when_it_is_back(settings):
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


@pytest.mark.timeout(300)
@ON_POSTGRESQL
def test_a_worker_outlives_an_outage_of_postgresql(settings, postgresql):
    with opened(settings) as services, working(settings) as log:
        await_end(services, services.jobs.start(CONFIG, "test"))
        postgresql.stop()
        await_outage(log)
        postgresql.start()
        await_end(services, services.jobs.start(CONFIG, "test"))
