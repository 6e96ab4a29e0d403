"""MNIST, the 70,000 handwritten digits: find the four files, verify and read them (numpy alone).

A file is used only when its SHA-256 is right. On disk the files lie where torchvision puts them:
folder/MNIST/raw/train-images-idx3-ubyte and so on.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from model.task import MNIST_SHA256, SIDE


class MnistMissing(Exception):
    """MNIST cannot be read or fetched; the message names the folder and the remedy."""


class MnistDamaged(MnistMissing):
    """A file of MNIST, at `path`, has the wrong SHA-256."""

    def __init__(self, path: Path):
        super().__init__(f"{path} is damaged (its SHA-256 is wrong): `python -m model data` fetches it anew")
        self.path = path


def default_folder() -> Path:
    """Return $MNIST_DIR, else $DATA_DIR, else the folder `instance` beside this package."""
    named = os.environ.get("MNIST_DIR") or os.environ.get("DATA_DIR")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "instance"


def missing(folder: Path | str) -> list[str]:
    """Return the names of MNIST's files that are not in the folder, without verifying the others."""
    return [name for name in MNIST_SHA256 if not any((place / name).is_file() for place in _places(Path(folder)))]


def read_test(folder: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the test set: images uint8 (10000, 28, 28), labels uint8 (10000,); raises MnistMissing, MnistDamaged."""
    return _read_part(folder, "t10k")


def read_training(folder: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the training set: images uint8 (60000, 28, 28), labels uint8 (60000,); raises as `read_test` does."""
    return _read_part(folder, "train")


def read_file(folder: Path, name: str) -> bytes:
    """Return the verified bytes of one file of MNIST; raises MnistMissing or MnistDamaged."""
    damaged = None
    for place in _places(folder):
        path = place / name
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise MnistMissing(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() == MNIST_SHA256[name]:
            return data
        damaged = damaged or path
    if damaged:
        raise MnistDamaged(damaged)
    raise MnistMissing(f"MNIST is not in {folder}: run `python -m model data` (or `make data`) to fetch it")


def _read_part(folder: Path | str | None, part: str) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(folder or default_folder())
    # Skip the header, a magic number and the length of each axis: the files are verified.
    images = np.frombuffer(read_file(folder, f"{part}-images-idx3-ubyte"), np.uint8, offset=16)
    labels = np.frombuffer(read_file(folder, f"{part}-labels-idx1-ubyte"), np.uint8, offset=8)
    return images.reshape(-1, SIDE, SIDE).copy(), labels.copy()


def _places(folder: Path) -> tuple[Path, ...]:
    """Return the folders to look in: torchvision's layout first, then the plainer ones of files copied by hand."""
    return folder / "MNIST" / "raw", folder / "raw", folder
