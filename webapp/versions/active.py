"""The version that answers in this process, and the change to another one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from model.inference.classifier import Classifier
from model.inference.weights import WeightsError
from webapp.exceptions import AppError
from webapp.metrics.counters import Metrics
from webapp.storage.engine import Database
from webapp.storage.schema import Version, champion_id

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0
# A version that could not be loaded is tried again after so long: its row may have been repaired.
RETRY_SECONDS = 30.0


class NoChampion(AppError):
    """No version has been promoted yet."""

    status, code = 503, "no_version"
    message = "No version of the model is in service yet; `make setup` installs the shipped one."


class ActiveModel:
    """Keeps the champion's classifier and follows promotions.

    A promotion is a row in the database. Each process polls for a newer one every second, loads the new version beside
    the old one, and replaces it by one assignment: no request waits, and one in progress keeps the classifier that it
    took. If a version cannot be loaded, that is logged, the old one stays, and the new one is tried again later.
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
        self._classifier: Classifier | None = None
        self._failed: int | None = None  # the version that could not be loaded last
        self._failed_at = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def classifier(self) -> Classifier:
        """Return the classifier to answer with; the first call loads it. Raises NoChampion or a database error."""
        return self.refresh() if self._classifier is None else self._classifier

    def refresh(self) -> Classifier:
        """Change to the champion unless it answers already; return the classifier that answers now."""
        with self._lock:
            with self._database.reading() as session:
                champion = champion_id(session)
            if champion is None:
                raise NoChampion
            current = self._classifier
            failed_lately = champion == self._failed and time.monotonic() - self._failed_at < RETRY_SECONDS
            if current is not None and (current.version == f"v{champion}" or failed_lately):
                return current
            return self._change_to(champion)

    def try_out(self, version_id: int) -> None:
        """Load a version beside the one that answers; raises WeightsError if it cannot be used."""
        Classifier(lambda: self._weights(version_id), f"v{version_id}").warm()

    def follow(self) -> None:
        """Start a thread that loads the model and then follows promotions."""
        self._thread = threading.Thread(target=self._follow, name="active-model", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _change_to(self, champion: int) -> Classifier:
        classifier = Classifier(lambda: self._weights(champion), f"v{champion}")
        if self._classifier is not None:
            # Only the first one is loaded lazily: as long as an old version answers, no request waits for a new one.
            try:
                classifier.warm()
            except WeightsError as error:
                self._failed, self._failed_at = champion, time.monotonic()
                self._metrics.not_loaded.inc()
                log.error("v%s cannot be loaded and %s goes on: %s", champion, self._classifier.version, error)
                return self._classifier
            log.info("changed over from %s to v%s", self._classifier.version, champion)
        self._classifier, self._failed = classifier, None
        self._metrics.version.set(champion)
        return classifier

    def _weights(self, version_id: int) -> bytes:
        with self._database.reading() as session:
            return session.get_one(Version, version_id).weights

    def _follow(self) -> None:
        while True:
            try:
                self.refresh()
                self.classifier().warm()
                self._housekeeping()
            except (NoChampion, WeightsError, SQLAlchemyError) as error:
                log.warning("cannot look for a newer version: %s", str(error).splitlines()[0])
            except Exception:  # no other thread follows promotions, so this one must not end
                log.exception("cannot look for a newer version")
            if self._stop.wait(FOLLOW_SECONDS):
                return
