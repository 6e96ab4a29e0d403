"""More versions than the shipped one, for tests of change-overs."""

import functools
import io

import numpy as np
from PIL import Image
from sqlalchemy import select

from model import weights
from model.recognizer import SHIPPED, Recognizer
from model.verdict import DIGITS
from webapp.database import Database, Promotion, Strength, Version


@functools.cache
def turned(by: int) -> bytes:
    """The shipped weights with the digits' outputs turned: every digit is read as that one `by` further on, and what
    the shipped network refuses is refused."""
    network, card = weights.from_bytes(SHIPPED.read_bytes())
    last = network.layers[-1]
    for values in (last.weight.data, last.bias.data):
        values[:DIGITS] = values[:DIGITS].roll(by, 0)
    return weights.to_bytes(network, card)


def damaged(data: bytes) -> bytes:
    """The same with one bit of one weight flipped."""
    place = len(data) * 3 // 4
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def read_by(data: bytes, png: bytes) -> np.ndarray:
    """The probabilities that these weights give for a picture, float64 (10,)."""
    return np.array(Recognizer(lambda: data, "").recognize(Image.open(io.BytesIO(png))).probabilities)


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
        session.add(Promotion(version_id=version_id, by="a test", why="to see what happens"))


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


def measured(database: Database, version_id: int, **values) -> None:
    """Stores a strength report of a version."""
    with database.writing() as session:
        session.add(Strength(version_id=version_id, **{"fraction": 1.0, "figures": figures()} | values))
