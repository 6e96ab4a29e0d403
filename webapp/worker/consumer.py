"""The worker: receives messages from the queue and does the work of their rows in child processes."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable

import psycopg
import redis
from huey.consumer import Consumer
from sqlalchemy.exc import SQLAlchemyError

from model.data import mnist
from webapp.logs import set_up_logging
from webapp.settings import Settings
from webapp.storage.engine import WORK_SECONDS, Database
from webapp.storage.secret_key import wait_for_secret_key
from webapp.storage.workers import Presence
from webapp.worker.executor import OVERDUE_SECONDS, Executor

log = logging.getLogger(__name__)

# One thread may wait for a training while the other imports a file.
THREADS = 2
REPEAT_SECONDS = 10.0


class OutageFilter(logging.Filter):
    """Replaces Huey's tracebacks while the queue is down, one for each thread each second, by a line now and then."""

    def __init__(self):
        super().__init__()
        self._logged_at = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info and record.exc_info[1]
        if not isinstance(error, redis.RedisError | psycopg.Error | sqlite3.Error):
            return True
        record.msg, record.args = "the queue does not answer: %s", (str(error).partition("\n")[0],)
        record.exc_info = None
        if time.monotonic() - self._logged_at < REPEAT_SECONDS:
            return False
        self._logged_at = time.monotonic()
        return True


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then end the child processes. Raises SchemaMisfit."""
    set_up_logging(settings.log_level)
    settings = wait_for_secret_key(settings, log.warning)
    database = Database(settings.database_url, WORK_SECONDS)
    with contextlib.suppress(SQLAlchemyError):  # a database that is away is waited for, now as later
        database.require_fit()
    executor, presence = Executor(database, settings), Presence(database)
    outage = OutageFilter()
    for part in ("Worker", "Scheduler"):
        logging.getLogger(f"huey.consumer.{part}").addFilter(outage)
    threading.Thread(target=housekeep, args=(executor, presence), name="housekeeping", daemon=True).start()
    # max_delay: a message waits for a second at most. shutdown_timeout: a signal does not wait for busy threads.
    consumer = Consumer(executor.jobs.huey, workers=THREADS, periodic=False, max_delay=1, shutdown_timeout=0)
    if mnist.missing(settings.mnist_dir):
        log.warning("MNIST is not in %s: trainings wait for it; `make data` fetches it", settings.mnist_dir)
    log.info("the worker is ready")
    consumer.run()
    executor.stop_children()
    _survive(presence.stop)
    log.info("the worker has ended")


def housekeep(executor: Executor, presence: Presence) -> None:
    """Report that the worker is alive, and every few seconds do what is left to it, until it stops."""

    def keep_house() -> None:
        executor.jobs.expire_leases()
        executor.start_overdue()
        executor.announce_ended()
        executor.sweep()
        presence.report()  # last: a worker that cannot do the rest is not seen

    _survive(presence.report)
    while not executor.stopping.wait(OVERDUE_SECONDS):
        _survive(keep_house)


def _survive(do: Callable[[], None]) -> None:
    """Call a function, and only log its failure: without this thread lost runs would wait for ever."""
    try:
        do()
    except (SQLAlchemyError, sqlite3.Error) as error:
        log.warning("the database does not answer: %s", str(error).splitlines()[0])
    except Exception:
        log.exception("housekeeping failed")
