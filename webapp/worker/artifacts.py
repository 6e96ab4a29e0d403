"""Computation of artifacts, the results about a version besides its training, by their kind in ARTIFACTS.

The row is the only state. A worker polls every few seconds for missing artifacts and computes each in a child process,
which stores the fraction done from time to time, and at the end the result, or the reason why there is none.
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
from webapp.storage.engine import Database, insert_if_absent, to_json
from webapp.storage.schema import Artifact, Version, champion_id, coded
from webapp.storage.timestamps import within
from webapp.versions.artifacts import RETRY_SECONDS, STALE_SECONDS
from webapp.versions.test_predictions import pack
from webapp.worker.liveness import WorkerExited, heartbeat_or_stop

if TYPE_CHECKING:
    from model.inference.weights import ModelCard
    from model.network.mlp import MLP

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.3

OnProgress = Callable[[float], None]
"""Called with the fraction done, 0 to 1."""


def _predictions(network: MLP, card: ModelCard, mnist_folder: Path, on_progress: OnProgress) -> bytes:
    """Return the probabilities for the test digits, packed."""
    from model.network.predict import digit_probabilities

    images, _ = read_test(mnist_folder)
    return pack(digit_probabilities(network, images, on_progress))


def _robustness(network: MLP, card: ModelCard, mnist_folder: Path, on_progress: OnProgress) -> bytes:
    """Return `model.evaluation.robustness.Robustness.as_dict()` as JSON."""
    from model.evaluation.robustness import measure_robustness
    from model.network.predict import predict

    images, labels = read_test(mnist_folder)
    read = functools.partial(predict, network)
    found = measure_robustness(read, card.calibration, images, labels, on_progress=on_progress)
    return to_json(found.as_dict()).encode()


ARTIFACTS = {"predictions": _predictions, "strength": _robustness}
"""The functions by kind, in the order in which they are computed."""


def claim(database: Database) -> tuple[str, int] | None:
    """Begin an artifact, the champion's first; return its kind and version, None if none is due.

    An artifact is due if it was never begun, if its worker died, or RETRY_SECONDS after it failed.
    """
    now = time.time()
    failed_lately = and_(Artifact.error.is_not(None), within(Artifact.updated_at, RETRY_SECONDS, now))
    waits = Artifact.fraction < 1, ~within(Artifact.updated_at, STALE_SECONDS, now), ~failed_lately
    for kind in ARTIFACTS:
        row = and_(Artifact.version_id == Version.id, Artifact.kind == kind)
        missing = Version.removed_at.is_(None), or_(Artifact.kind.is_(None), and_(*waits))
        due = select(Version.id).outerjoin(Artifact, row).where(*missing)
        with database.reading() as session:
            champion_first = Version.id != champion_id(session), Version.id.desc()
            version_id = session.scalar(due.order_by(*champion_first).limit(1))
        if version_id is None:
            continue
        with database.writing() as session:
            insert_if_absent(session, Artifact, version_id=version_id, kind=kind, updated_at=0.0)
            mine = update(Artifact).where(*_unfinished(kind, version_id), *waits).values(updated_at=now, error=None)
            if session.scalar(mine.returning(Artifact.version_id)):  # None if another worker was first
                return kind, version_id
    return None


def compute(settings: Settings, database: Database, kind: str, version_id: int, worker_exited: threading.Event) -> None:
    """Compute a claimed artifact and store its progress and its result, or the reason why there is none.

    Raises WorkerExited.
    """
    written_at = -math.inf

    def on_progress(done: float) -> None:
        nonlocal written_at
        heartbeat_or_stop(worker_exited)
        if time.monotonic() - written_at > PROGRESS_SECONDS:
            written_at = time.monotonic()
            _write(database, kind, version_id, fraction=0.99 * done)

    from model.network.weights import deserialize

    try:
        on_progress(0)  # overwrites the fraction of an earlier attempt
        with database.reading() as session:
            data = session.get_one(Version, version_id).weights
        result = ARTIFACTS[kind](*deserialize(data), settings.mnist_dir, on_progress)
        on_progress(1)
        _write(database, kind, version_id, fraction=1.0, result=result, error=None)
    except WorkerExited:
        raise
    except (MnistMissing, weights.WeightsError) as error:
        log.error("the %s of v%s cannot be computed: %s", kind, version_id, error)
        fail(database, kind, version_id, coded("failed", detail=str(error)))
    except Exception:
        log.exception("the %s of v%s failed", kind, version_id)
        fail(database, kind, version_id, coded("broken"))


def fail(database: Database, kind: str, version_id: int, error: str) -> None:
    """Store the reason why there is no result; the artifact is tried again after RETRY_SECONDS."""
    _write(database, kind, version_id, error=error)


def _write(database: Database, kind: str, version_id: int, **values: Any) -> None:
    with database.writing() as session:
        written = update(Artifact).where(*_unfinished(kind, version_id))
        session.execute(written.values(updated_at=time.time(), **values))


def _unfinished(kind: str, version_id: int) -> tuple[ColumnElement[bool], ...]:
    return Artifact.version_id == version_id, Artifact.kind == kind, Artifact.fraction < 1
