"""Which version answers in this process, and how it changes over to another one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from model.inference.classifier import Classifier
from model.inference.weights import WeightsError
from webapp.exceptions import AppError
from webapp.metrics import Metrics
from webapp.storage.engine import Database
from webapp.storage.schema import Version, champion_id

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0
# After so long a version that could not be loaded is tried again: its row may have been mended.
REFUSED_SECONDS = 30.0


class NoChampion(AppError):
    """No version has been promoted yet."""

    status, code = 503, "no_version"
    message = "No version of the model is in service yet; `make setup` installs the shipped one."


class ActiveModel:
    """Holds the champion's recognizer and follows promotions.

    A promotion is a row in the database. Each process looks for a newer one every second, loads the new version beside
    the old one, and changes over by one assignment: no request waits, and one that is under way keeps the recognizer
    that it took. A version that cannot be loaded is logged and the old one goes on; it is tried again now and then.
    """

    def __init__(
        self,
        database: Database,
        housekeeping: Callable[[], object] = lambda: None,
        metrics: Metrics | None = None,
    ):
        self._database = database
        self._housekeeping = housekeeping
        self._metrics = metrics or Metrics()
        self._recognizer: Classifier | None = None
        self._refused: int | None = None
        self._refused_at = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def recognizer(self) -> Classifier:
        """The recognizer to answer with; the first call finds it. Raises NoChampion or a database error."""
        return self.refresh() if self._recognizer is None else self._recognizer

    def refresh(self) -> Classifier:
        """Changes over to the champion, if that is not the version that answers already; returns the one that does."""
        with self._lock:
            with self._database.reading() as session:
                champion = champion_id(session)
            if champion is None:
                raise NoChampion
            present = self._recognizer
            refused = champion == self._refused and time.monotonic() - self._refused_at < REFUSED_SECONDS
            if present is not None and (present.version == f"v{champion}" or refused):
                return present
            return self._change_to(champion)

    def try_out(self, version_id: int) -> None:
        """Loads a version beside the one that answers; raises WeightsError where it cannot be used."""
        Classifier(lambda: self._weights(version_id), f"v{version_id}").warm()

    def follow(self) -> None:
        """Starts a thread that warms the model up and then follows promotions."""
        self._thread = threading.Thread(target=self._follow, name="live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _change_to(self, champion: int) -> Classifier:
        recognizer = Classifier(lambda: self._weights(champion), f"v{champion}")
        if self._recognizer is not None:
            # Only the first one is loaded lazily: while there is an old version to answer, nobody waits for a new one.
            try:
                recognizer.warm()
            except WeightsError as error:
                self._refused, self._refused_at = champion, time.monotonic()
                self._metrics.not_loaded.inc()
                log.error("v%s cannot be loaded and %s goes on: %s", champion, self._recognizer.version, error)
                return self._recognizer
            log.info("changed over from %s to v%s", self._recognizer.version, champion)
        self._recognizer, self._refused = recognizer, None
        self._metrics.version.set(champion)
        return recognizer

    def _weights(self, version_id: int) -> bytes:
        with self._database.reading() as session:
            return session.get_one(Version, version_id).weights

    def _follow(self) -> None:
        while True:
            try:
                self.refresh()
                self.recognizer().warm()
                self._housekeeping()
            except (NoChampion, WeightsError, SQLAlchemyError) as error:
                log.warning("cannot look for a newer version: %s", str(error).splitlines()[0])
            except Exception:  # whatever it is, this thread is the only one that follows
                log.exception("cannot look for a newer version")
            if self._stop.wait(FOLLOW_SECONDS):
                return
