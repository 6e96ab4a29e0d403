"""What is computed about a version besides its training: the gallery's predictions, and its strength.

Each is a row with the fraction done, written as the work goes on, and the result or the reason why there is none.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import select, update

from model import weights
from model.mnist import MnistMissing
from webapp import heartbeat
from webapp.database import Database, Predictions, Strength, Version
from webapp.jobs import Computed
from webapp.settings import Settings

log = logging.getLogger(__name__)

TELL_SECONDS = 0.3


class WorkerGone(Exception):
    """The worker that asked for this has ended."""


def predict_test_set(settings: Settings, database: Database, version_id: int, worker_gone: threading.Event) -> None:
    """Computes a version's probabilities for the test digits and stores them, telling the progress on the way."""
    from model import evaluate, mnist

    def work(tell: Callable[[float], None]) -> dict[str, Any]:
        images, _ = mnist.read_test(settings.mnist_dir)
        network, _ = _loaded(database, version_id)
        return {"probabilities": packed(evaluate.probabilities(network, images, tell))}

    _compute(database, Predictions, version_id, work, worker_gone)


def measure_strength(settings: Settings, database: Database, version_id: int, worker_gone: threading.Event) -> None:
    """Computes a version's strength report and stores it likewise."""
    from model import evaluate, mnist
    from model.strength import strength

    def work(tell: Callable[[float], None]) -> dict[str, Any]:
        images, labels = mnist.read_test(settings.mnist_dir)
        network, card = _loaded(database, version_id)
        read = functools.partial(evaluate.readings, network)
        return {"figures": strength(read, card.calibration, images, labels, on_progress=tell).as_dict()}

    _compute(database, Strength, version_id, work, worker_gone)


def _loaded(database: Database, version_id: int):
    """A version's network and card."""
    with database.reading() as session:
        data = session.execute(select(Version.weights).where(Version.id == version_id)).scalar_one()
    return weights.from_bytes(data)


def _compute(
    database: Database,
    table: type[Computed],
    version_id: int,
    work: Callable[[Callable[[float], None]], dict[str, Any]],
    worker_gone: threading.Event,
) -> None:
    """Stores what `work` returns in the version's row, or why it fails, and the progress that it tells meanwhile.

    Raises WorkerGone where the worker has ended: nothing may be written any more.
    """
    told_at = -math.inf

    def write(**values) -> None:
        with database.writing() as session:
            unfinished = table.version_id == version_id, table.fraction < 1
            session.execute(update(table).where(*unfinished).values(updated_at=time.time(), **values))

    def tell(done: float) -> None:
        nonlocal told_at
        heartbeat.beat()
        if worker_gone.is_set():
            raise WorkerGone
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            write(fraction=0.99 * done)

    try:
        tell(0)  # what an earlier attempt has reached counts no more
        found = work(tell)
        tell(1)
        write(fraction=1.0, error=None, **found)
    except WorkerGone:
        raise
    except (MnistMissing, weights.WeightsError) as error:
        log.error("the %s of v%s cannot be computed: %s", table.__tablename__, version_id, error)
        write(error=str(error))
    except Exception:
        log.exception("the %s of v%s failed", table.__tablename__, version_id)
        write(error="The computation failed; the server's log says why.")


def packed(probabilities: np.ndarray) -> bytes:
    """Probabilities (N, 10) as they are stored: float16, row by row."""
    return probabilities.astype(np.float16).tobytes()
