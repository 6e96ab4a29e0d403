"""Digits in `.npz` files: images uint8 (N, 28, 28), bright on black, and labels uint8 (N,), N at least 1."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from model.data.corrections import Corrections
from model.task import DIGITS, NO_DIGIT, SIDE


class NpzError(ValueError):
    """The file holds no digits of this form; the message names it and says why."""


def parse(data: bytes) -> np.ndarray:
    """Parse the bytes of an .npy file, running none of them and allocating no more than they hold.

    Raises NpzError; its message says what they are instead.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = headers[version](file)
    except Exception as error:  # NumPy raises many kinds of errors on damaged files, SyntaxError among them
        raise NpzError("no array") from error
    rest = bytearray(file.read())  # mutable, so that the array is writable
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(rest):
        raise NpzError("no whole array of plain numbers")
    return np.ndarray(shape, dtype, rest, order="F" if fortran_order else "C")


def read_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images and labels of 0..9; raises NpzError."""
    arrays = _arrays(path)
    _check(path, arrays, DIGITS - 1)
    return arrays["images"], arrays["labels"]


def read_corrections(path: Path) -> Corrections:
    """Read corrections as the administrator's page exports them: labels of 0..10, 10 for no digit; raises NpzError.

    The arrays `held_out` (N,), for corrections that are not to be trained on, and `id` (N,) are optional.
    """
    arrays = _arrays(path)
    _check(path, arrays, NO_DIGIT)
    count = len(arrays["labels"])
    held_out, ids = arrays.get("held_out", np.zeros(count, bool)), arrays.get("id", np.arange(count))
    if held_out.dtype not in (bool, np.uint8) or held_out.shape != (count,) or ids.shape != (count,):
        raise NpzError(f"{path}: held_out and id must have a value for each of the {count} images")
    return Corrections(arrays["images"], arrays["labels"].astype(np.int64), held_out.astype(bool), ids)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {"images", "labels", "held_out", "id"} & {name.removesuffix(".npy") for name in archive.namelist()}
            arrays = {name: parse(archive.read(f"{name}.npy")) for name in names}
    except OSError as error:
        raise NpzError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises many kinds of errors on damaged archives, IndexError among them
        raise NpzError(f"{path} is not a whole .npz file of plain arrays") from error
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise NpzError(f"{path} holds no array named {' and none named '.join(missing)}")
    return arrays


def _check(path: Path, arrays: dict[str, np.ndarray], greatest: int) -> None:
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise NpzError(f"{path}: images must be uint8 (N, 28, 28), not {images.dtype} {images.shape}")
    if labels.dtype != np.uint8 or labels.shape != (len(images),):
        raise NpzError(f"{path}: labels must be uint8 ({len(images)},), not {labels.dtype} {labels.shape}")
    if len(labels) == 0:
        raise NpzError(f"{path} holds no digits")
    if labels.max() > greatest:
        raise NpzError(f"{path}: labels must be from 0 to {greatest}, not {labels.max()}")
