"""What is computed about a version besides its training, each by its name in COMPUTATIONS.

The row is the truth. A worker looks every few seconds for what a version lacks and computes it in a child process. That
stores the fraction done as the work goes on, and at its end the result, or the reason why there is none.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, and_, or_, select, update

from model.data.mnist import MnistMissing, read_test
from model.inference import weights
from webapp.settings import Settings
from webapp.storage.database import Computation, Database, Version, add_missing, as_json, champion_id, coded
from webapp.storage.timestamps import within
from webapp.worker.liveness import WorkerGone, go_on

if TYPE_CHECKING:
    from model.inference.weights import ModelCard
    from model.network.mlp import MLP

log = logging.getLogger(__name__)

TELL_SECONDS = 0.3
# A row that has not moved for so long has lost its worker.
STALE_SECONDS = 30.0
# Until one that failed is tried again: the data set may be there by then, or the memory.
AGAIN_SECONDS = 300.0

Tell = Callable[[float], None]
"""Is told the fraction done, 0 to 1."""


def _predictions(network: MLP, card: ModelCard, mnist_folder: Path, tell: Tell) -> bytes:
    """The probabilities for the test digits, packed."""
    from model.network.predict import digit_probabilities

    images, _ = read_test(mnist_folder)
    return packed(digit_probabilities(network, images, tell))


def _strength(network: MLP, card: ModelCard, mnist_folder: Path, tell: Tell) -> bytes:
    """`model.evaluation.robustness.Robustness.as_dict()` as JSON."""
    from model.evaluation.robustness import measure_robustness
    from model.network.predict import predict

    images, labels = read_test(mnist_folder)
    read = functools.partial(predict, network)
    return as_json(measure_robustness(read, card.calibration, images, labels, on_progress=tell).as_dict()).encode()


COMPUTATIONS = {"predictions": _predictions, "strength": _strength}
"""In the order in which a version gets them."""


def packed(probabilities: np.ndarray) -> bytes:
    """Probabilities (N, 10) as they are stored: float16, row by row."""
    return probabilities.astype(np.float16).tobytes()


def look_up(database: Database, version_id: int, kind: str) -> Computation:
    """The row of a version's computation; before a worker has begun it, one that waits since the version was made."""
    with database.reading() as session:
        row = session.get(Computation, (version_id, kind))
        if row is None:
            made_at = session.get_one(Version, version_id).created_at
            row = Computation(version_id=version_id, kind=kind, updated_at=made_at, fraction=0.0)
        return row


def claim(database: Database) -> tuple[str, int] | None:
    """Kind and version of a computation that begins with this, the champion's first; None where none is due.

    Due is one that was never begun, has lost its worker, or failed some time ago.
    """
    now = time.time()
    failed_lately = and_(Computation.error.is_not(None), within(Computation.updated_at, AGAIN_SECONDS, now))
    waits = Computation.fraction < 1, ~within(Computation.updated_at, STALE_SECONDS, now), ~failed_lately
    for kind in COMPUTATIONS:
        row = and_(Computation.version_id == Version.id, Computation.kind == kind)
        due = select(Version.id).outerjoin(Computation, row).where(or_(Computation.kind.is_(None), and_(*waits)))
        with database.reading() as session:
            champion_first = Version.id != champion_id(session), Version.id.desc()
            version_id = session.scalar(due.order_by(*champion_first).limit(1))
        if version_id is None:
            continue
        with database.writing() as session:
            add_missing(session, Computation, version_id=version_id, kind=kind, updated_at=0.0)
            mine = update(Computation).where(*_unfinished(kind, version_id), *waits).values(updated_at=now, error=None)
            if session.scalar(mine.returning(Computation.version_id)):  # or another worker was first
                return kind, version_id
    return None


def compute(settings: Settings, database: Database, kind: str, version_id: int, worker_gone: threading.Event) -> None:
    """Computes what was claimed and stores the result, or why there is none, and meanwhile the fraction done.

    Raises WorkerGone where the worker has ended.
    """
    told_at = -math.inf

    def tell(done: float) -> None:
        nonlocal told_at
        go_on(worker_gone)
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            _write(database, kind, version_id, fraction=0.99 * done)

    from model.network.weights import deserialize

    try:
        tell(0)  # what an earlier attempt has reached counts no more
        with database.reading() as session:
            data = session.get_one(Version, version_id).weights
        result = COMPUTATIONS[kind](*deserialize(data), settings.mnist_dir, tell)
        tell(1)
        _write(database, kind, version_id, fraction=1.0, result=result, error=None)
    except WorkerGone:
        raise
    except (MnistMissing, weights.WeightsError) as error:
        log.error("the %s of v%s cannot be computed: %s", kind, version_id, error)
        fail(database, kind, version_id, coded("failed", detail=str(error)))
    except Exception:
        log.exception("the %s of v%s failed", kind, version_id)
        fail(database, kind, version_id, coded("broken"))


def fail(database: Database, kind: str, version_id: int, error: str) -> None:
    """Stores why there is no result. It is tried again after AGAIN_SECONDS, not at once and for ever."""
    _write(database, kind, version_id, error=error)


def _write(database: Database, kind: str, version_id: int, **values: Any) -> None:
    with database.writing() as session:
        written = update(Computation).where(*_unfinished(kind, version_id))
        session.execute(written.values(updated_at=time.time(), **values))


def _unfinished(kind: str, version_id: int) -> tuple[ColumnElement[bool], ...]:
    return Computation.version_id == version_id, Computation.kind == kind, Computation.fraction < 1
