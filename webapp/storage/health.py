"""What a probe or a scrape asks the database, and how to ask a server that may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from webapp.storage.disk_reserve import free_bytes
from webapp.storage.engine import Database
from webapp.storage.workers import count_alive, last_seen

# Less than monitoring waits: Prometheus gives a scrape ten seconds.
ANSWER_SECONDS = 2.0

Found = TypeVar("Found")


class Question(Generic[Found]):
    """A function called in a thread of its own. While it has not returned, it is not called again but waited for."""

    def __init__(self, ask: Callable[[], Found]):
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: Future[Found] | None = None

    def answer(self) -> Found:
        """Return what the function returns; raises what it raises, or TimeoutError after ANSWER_SECONDS."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                threading.Thread(target=self._run, args=(self._answer,), name="question", daemon=True).start()
            answer = self._answer
        return answer.result(ANSWER_SECONDS)

    def _run(self, answer: Future[Found]) -> None:
        try:
            answer.set_result(self._ask())
        except Exception as error:
            answer.set_exception(error)


class Health(NamedTuple):
    """What tells how an installation is."""

    misfit: str | None  # why this release cannot work with the schema
    free_bytes: int | None  # of the disk with SQLite's file
    workers: int  # alive
    worker_seen_at: float | None  # when one was alive last, in Unix seconds


def look(database: Database) -> Health:
    """Read what tells the health of an installation; raises a database error or OSError."""
    if misfit := database.misfit():
        return Health(misfit, None, 0, None)
    with database.reading() as session:
        return Health(None, free_bytes(database), count_alive(session), last_seen(session))
