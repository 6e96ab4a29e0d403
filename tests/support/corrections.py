"""Corrections for tests, as if people had sent them."""

import functools
import itertools
from ipaddress import IPv4Address

import numpy as np

from model.data import mnist
from webapp.corrections.digit_files import picture_of
from webapp.corrections.store import Corrections
from webapp.settings import Settings
from webapp.storage.engine import Database

_next_address = itertools.count(1)


@functools.cache
def _test_digits():
    return mnist.read_test()


def digits(count: int, start=0) -> list[tuple[np.ndarray, int]]:
    """Test digits of MNIST with what they are: uint8 (28, 28) and 0 to 9."""
    images, labels = _test_digits()
    return [(images[place], int(labels[place])) for place in range(start, start + count)]


def answer(read: int, probability=0.9) -> dict:
    """What `POST /predict` answered, as a correction keeps it."""
    return {
        "verdict": "digit",
        "digits": [read],
        "reason": None,
        "top": [{"digit": read, "probability": probability}, {"digit": (read + 1) % 10, "probability": 0.05}],
        "not_a_digit": 0.001,
    }


def add_correction(
    settings: Settings, database: Database, image: np.ndarray, meant: int, address: str | None = None, read: int = 8
) -> int:
    """Stores a correction of another source each time, unless an address is named, and returns its number."""
    address = address or str(IPv4Address("10.0.0.0") + next(_next_address))
    kept = Corrections(database, settings).add(picture_of(image), image, meant, answer(read), 1, address, address)
    return kept.correction.id
