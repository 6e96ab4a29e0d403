"""More versions than the shipped one, for tests of change-overs."""

import base64
import functools
import io
import json

import numpy as np
from PIL import Image
from sqlalchemy import select

from model.evaluation.comparison import Criterion, Difference, Differences, Evidence, Seen
from model.imaging.png import ink_png
from model.inference import weights
from model.inference.classifier import SHIPPED, Classifier
from model.network.weights import deserialize, serialize
from model.task import DIGITS
from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Comparison, Promotion, Version
from webapp.versions.promotions import record_promotion
from webapp.worker.artifacts import ARTIFACTS


@functools.cache
def turned(by: int) -> bytes:
    """The shipped weights with the digits' outputs turned: every digit is read as that one `by` further on, and what
    the shipped network refuses is refused."""
    network, card = deserialize(SHIPPED.read_bytes())
    last = len(network.layers) - 1
    for name in ("weight", "bias"):
        values = network.state_dict()[f"layers.{last}.{name}"]
        values[:DIGITS] = values[:DIGITS].roll(by, 0)
    return serialize(network, card)


def damaged(data: bytes) -> bytes:
    """The same with one bit of one weight flipped."""
    place = len(data) * 3 // 4
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def read_by(data: bytes, png: bytes) -> np.ndarray:
    """The probabilities that these weights give for a picture, float64 (10,)."""
    return np.array(Classifier(lambda: data, "").predict(Image.open(io.BytesIO(png))).probabilities)


def add_version(database: Database, data: bytes, validation_accuracy=0.5) -> int:
    """Stores these bytes as a version, whatever they are, and returns its number."""
    version = Version(
        source="run",
        preset="standard",
        sha256=weights.digest(data),
        weights=data,
        card={},
        validation_accuracy=validation_accuracy,
        test_accuracy=None,
    )
    with database.writing() as session:
        session.add(version)
    return version.id


def promote(database: Database, version_id: int) -> None:
    with database.writing() as session:
        record_promotion(session, version_id, by="a test", why="to see what happens")


def promotions(database: Database) -> list[int]:
    """The versions promoted so far, in order."""
    with database.reading() as session:
        return list(session.scalars(select(Promotion.version_id).order_by(Promotion.id)))


def figures(accuracy=0.9, area=None) -> dict:
    """A strength report as it is stored, small and without meaning."""
    return {
        "seed": 0,
        "digits": 10_000,
        "accuracy": accuracy,
        "reliability": {
            "error": 0.0123,
            "bins": [
                {"count": 10, "confidence": 0.5, "accuracy": 0.25},
                {"count": 9_990, "confidence": 0.99, "accuracy": accuracy},
            ],
        },
        "sets": {"promised": 0.98, "kept": 0.99, "unsure": 0.0, "unsure_kept": None, "unsure_size": None},
        "refusals": {"digits": 0.02, "others": {"dot": 1.0, "scribble": 0.75}, "beside": area, "area": area},
        "curve_digits": 500,
        "curves": [
            {"name": "angle", "unit": "degrees", "levels": [-30, 0, 30], "accuracy": [0.5, accuracy, 0.6]},
            {"name": "blur", "unit": "pixels", "levels": [0, 2.5], "accuracy": [1.0, 0.0]},
        ],
        "strokes": None,
    }


FIGURES = figures()


def measured(database: Database, version_id: int, figures=FIGURES, fraction=1.0, error=None) -> None:
    """Stores a strength report of a version, or how far it is, or why there is none."""
    result = json.dumps(figures).encode() if figures else None
    row = Artifact(version_id=version_id, kind="strength", fraction=fraction, result=result, error=error)
    with database.writing() as session:
        session.merge(row)


def computed(database: Database, but: str = "") -> None:
    """Leaves nothing to compute about any version `but` what has this name, without results."""
    with database.writing() as session:
        for version_id in session.scalars(select(Version.id)):
            for kind in ARTIFACTS.keys() - {but}:
                session.merge(Artifact(version_id=version_id, kind=kind, fraction=1.0))


def evidence(passed=True, corrections=(), gained=True) -> Evidence:
    """A comparison as it is stored, small: it reads a nine as 4, or, where it passed, no longer does so.

    The held-out `corrections`, ids, are all read as ones where the champion read sevens.
    """
    ink = base64.b64encode(ink_png(np.full((28, 28), 200, np.uint8))).decode()
    nine = Difference(3, 9, Seen(4, 0.625), Seen(9, 0.875), ink)
    if not passed:
        nine = Difference(3, 9, Seen(9, 0.875), Seen(4, 0.625), ink)
    ones = [Difference(number, 1, Seen(7, 0.75), Seen(1, 0.5), None) for number in corrections]
    nines = {"code": "recall", "digit": 9, "from": 0.9912, "to": 0.9592}
    gain = {"code": "gain", "of": "suite"} if gained else {"code": "no_gain"}
    larger = {"code": "multiplications", "from": 40_000, "to": 42_000}
    return Evidence(
        passed,
        gained,
        {"code": "passed", "from": None, "to": 0.997} if passed else {"code": "waits", "reasons": [nines], "more": 0},
        [
            Criterion("usable", "usable", "none", None, None, {}, True, {"code": "usable"}),
            Criterion("recall-8", "recall", "share", 0.99, 0.98, {"holm": 0.01}, True, nines | {"digit": 8}),
            Criterion("recall-9", "recall", "share", 0.9912, 0.9592, {"holm": 0.01}, passed, nines),
            Criterion("multiplications", "multiplications", "count", 40_000, 42_000, {"times": 1.2}, True, larger),
            Criterion("gain", "gain", "none", None, None, {}, gained, gain),
        ],
        Differences(5_000, int(passed) * 61, int(not passed), [nine] * passed, [nine] * (not passed)),
        Differences(9, len(ones), 0, ones, []) if ones else None,
    )  # fmt: skip


def compared(database: Database, version_id: int, found: Evidence) -> None:
    """Stores the comparison of a version with the shipped one."""
    with database.writing() as session:
        session.add(Comparison(version_id=version_id, champion_id=1, passed=found.passed, evidence=found.as_dict()))
