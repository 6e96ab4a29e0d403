"""Label check: the suspicion that the label of a correction is wrong, and the figures behind it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Row, select, update

from webapp.corrections.store import images_of
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.schema import Correction, champion_of
from webapp.worker import liveness

if TYPE_CHECKING:
    from model.evaluation.label_quality import Reference, Suspicion

log = logging.getLogger(__name__)

BATCH = 128  # stored in one transaction: results show soon, and a worker that ends loses little


def check_labels(settings: Settings, database: Database, worker_exited: threading.Event) -> bool:
    """Store suspicion and doubt of every correction that waits for review and has none, batch by batch.

    A correction that was decided, deleted, checked or changed by its author meanwhile is skipped. Return False, with
    nothing checked, if no version is in service or it cannot be loaded; the log says so. Stop early when the worker has
    exited.
    """
    from model.evaluation.label_quality import suspicion
    from model.inference.weights import WeightsError
    from model.network.predict import predict
    from model.network.weights import deserialize

    with database.reading() as session:
        champion = champion_of(session)
        data = champion.weights if champion else b""
    if champion is None:
        log.error("corrections cannot be judged: no version is in service")
        return False
    try:
        network, _ = deserialize(data)
    except WeightsError as error:
        log.error("corrections cannot be judged: %s: %s", champion.name, error)
        return False
    reference = _reference(settings.mnist_dir, database)
    rows = _next_batch(database, 0)
    while rows and not worker_exited.is_set():
        liveness.heartbeat()
        images, labels = _digits(rows)
        found = suspicion(images, labels, *predict(network, images), reference)
        _store(database, rows, found, champion.name)
        log.info("judged %s corrections", len(rows))
        rows = _next_batch(database, rows[-1].id)
    return True


def _next_batch(database: Database, after: int) -> list[Row]:
    unchecked = Correction.state == "received", Correction.suspicion.is_(None), Correction.id > after
    columns = Correction.id, Correction.digit_image, Correction.label
    with database.reading() as session:
        return list(session.execute(select(*columns).where(*unchecked).order_by(Correction.id).limit(BATCH)))


def _reference(mnist_folder: Path, database: Database) -> Reference:
    """Return MNIST's training digits and the approved corrections; only the latter if MNIST is missing."""
    from model.data import mnist, splits
    from model.evaluation.label_quality import Reference

    approved = select(Correction.digit_image, Correction.label).where(*Correction.firsts("approved"))
    with database.reading() as session:
        rows = list(session.execute(approved))
    images, labels = _digits(rows)
    try:
        digits = splits.load(mnist_folder).train
    except mnist.MnistMissing as error:
        log.warning("corrections are judged without MNIST: %s", error)
        return Reference(images, labels)
    return Reference(np.concatenate((digits.images.numpy(), images)), np.concatenate((digits.labels.numpy(), labels)))


def _digits(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return digit images uint8 (N, 28, 28) and labels int64 (N,)."""
    return images_of(rows), np.array([row.label for row in rows], np.int64)


def _store(database: Database, rows: list[Row], found: Suspicion, version: str) -> None:
    with database.writing() as session:
        for i, row in enumerate(rows):
            counts = found.neighbours[i]
            doubt = {
                "version": version,
                "read": int(found.read[i]),
                "probability": float(found.probability[i]),
                "neighbours": {str(label): int(counts[label]) for label in np.flatnonzero(counts)},
            }
            unchanged = Correction.id == row.id, Correction.state == "received", Correction.label == row.label
            checked = update(Correction).where(*unchanged, Correction.suspicion.is_(None))
            session.execute(checked.values(suspicion=float(found.suspicion[i]), doubt=doubt))
