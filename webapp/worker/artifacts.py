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

from sqlalchemy import ColumnElement, and_, or_, select, update

from model.data.mnist import MnistMissing, read_test
from model.inference import weights
from webapp.settings import Settings
from webapp.storage.engine import Database, as_json, insert_if_absent
from webapp.storage.schema import Artifact, Version, champion_id, coded
from webapp.storage.timestamps import within
from webapp.versions.artifacts import AGAIN_SECONDS, STALE_SECONDS
from webapp.versions.test_predictions import pack
from webapp.worker.liveness import WorkerGone, beat_or_stop

if TYPE_CHECKING:
    from model.inference.weights import ModelCard
    from model.network.mlp import MLP

log = logging.getLogger(__name__)

TELL_SECONDS = 0.3

Tell = Callable[[float], None]
"""Is told the fraction done, 0 to 1."""


def _predictions(network: MLP, card: ModelCard, mnist_folder: Path, tell: Tell) -> bytes:
    """The probabilities for the test digits, packed."""
    from model.network.predict import digit_probabilities

    images, _ = read_test(mnist_folder)
    return pack(digit_probabilities(network, images, tell))


def _strength(network: MLP, card: ModelCard, mnist_folder: Path, tell: Tell) -> bytes:
    """`model.evaluation.robustness.Robustness.as_dict()` as JSON."""
    from model.evaluation.robustness import measure_robustness
    from model.network.predict import predict

    images, labels = read_test(mnist_folder)
    read = functools.partial(predict, network)
    return as_json(measure_robustness(read, card.calibration, images, labels, on_progress=tell).as_dict()).encode()


ARTIFACTS = {"predictions": _predictions, "strength": _strength}
"""In the order in which a version gets them."""


def claim(database: Database) -> tuple[str, int] | None:
    """Kind and version of a computation that begins with this, the champion's first; None where none is due.

    Due is one that was never begun, has lost its worker, or failed some time ago.
    """
    now = time.time()
    failed_lately = and_(Artifact.error.is_not(None), within(Artifact.updated_at, AGAIN_SECONDS, now))
    waits = Artifact.fraction < 1, ~within(Artifact.updated_at, STALE_SECONDS, now), ~failed_lately
    for kind in ARTIFACTS:
        row = and_(Artifact.version_id == Version.id, Artifact.kind == kind)
        due = select(Version.id).outerjoin(Artifact, row).where(or_(Artifact.kind.is_(None), and_(*waits)))
        with database.reading() as session:
            champion_first = Version.id != champion_id(session), Version.id.desc()
            version_id = session.scalar(due.order_by(*champion_first).limit(1))
        if version_id is None:
            continue
        with database.writing() as session:
            insert_if_absent(session, Artifact, version_id=version_id, kind=kind, updated_at=0.0)
            mine = update(Artifact).where(*_unfinished(kind, version_id), *waits).values(updated_at=now, error=None)
            if session.scalar(mine.returning(Artifact.version_id)):  # or another worker was first
                return kind, version_id
    return None


def compute(settings: Settings, database: Database, kind: str, version_id: int, worker_gone: threading.Event) -> None:
    """Computes what was claimed and stores the result, or why there is none, and meanwhile the fraction done.

    Raises WorkerGone where the worker has ended.
    """
    told_at = -math.inf

    def tell(done: float) -> None:
        nonlocal told_at
        beat_or_stop(worker_gone)
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            _write(database, kind, version_id, fraction=0.99 * done)

    from model.network.weights import deserialize

    try:
        tell(0)  # what an earlier attempt has reached counts no more
        with database.reading() as session:
            data = session.get_one(Version, version_id).weights
        result = ARTIFACTS[kind](*deserialize(data), settings.mnist_dir, tell)
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
        written = update(Artifact).where(*_unfinished(kind, version_id))
        session.execute(written.values(updated_at=time.time(), **values))


def _unfinished(kind: str, version_id: int) -> tuple[ColumnElement[bool], ...]:
    return Artifact.version_id == version_id, Artifact.kind == kind, Artifact.fraction < 1
