"""More versions than the shipped one, for tests of change-overs."""

import functools
import io

import numpy as np
from PIL import Image
from sqlalchemy import select

from model import weights
from model.recognizer import SHIPPED, Recognizer
from webapp.database import Database, Promotion, Version


@functools.cache
def turned(by: int) -> bytes:
    """The shipped weights with the ten outputs turned: a network that reads every digit as that one `by` further on."""
    network, card = weights.from_bytes(SHIPPED.read_bytes())
    last = network.layers[-1]
    last.weight.data, last.bias.data = last.weight.data.roll(by, 0), last.bias.data.roll(by, 0)
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
