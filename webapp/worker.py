"""The worker: takes messages off the queue and does what their rows say, in child processes."""

from __future__ import annotations

import logging
import sqlite3
import threading

from huey.consumer import Consumer
from sqlalchemy.exc import SQLAlchemyError

from webapp.jobs import REDELIVER_SECONDS, Jobs
from webapp.logs import set_up_logging
from webapp.services import Services
from webapp.settings import Settings

log = logging.getLogger(__name__)

# One thread may wait for a training while others compute the gallery's predictions and a version's strength.
THREADS = 3


def main(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, then ends the child processes in order."""
    set_up_logging()
    jobs = Services.open(settings).jobs
    threading.Thread(target=keep_house, args=(jobs,), name="housekeeping", daemon=True).start()
    # A message waits for a second at most; a signal ends the consumer at once, whatever its threads wait for.
    consumer = Consumer(jobs.huey, workers=THREADS, periodic=False, max_delay=1, shutdown_timeout=0)
    log.info("the worker is ready")
    consumer.run()
    jobs.stop_children()
    log.info("the worker has ended")


def keep_house(jobs: Jobs) -> None:
    """Takes up what was lost and removes what is no longer needed, every few seconds until the worker stops."""
    while not jobs.stopping.wait(REDELIVER_SECONDS):
        try:
            jobs.reap()
            jobs.redeliver()
            jobs.sweep()
        except (SQLAlchemyError, sqlite3.Error) as error:
            log.warning("the database does not answer: %s", str(error).splitlines()[0])
        except Exception:  # whatever it is, without this thread lost runs would wait for ever
            log.exception("housekeeping failed")
