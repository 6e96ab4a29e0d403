"""Picture files named on the command line: find them in folders, read each with a progress bar, print the answers."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.imaging.decode import MAX_BYTES, PictureError, check_bytes, format_of

# The first bytes of a file, from which its format is told.
HEAD_BYTES = 128


def read_files(
    names: Sequence[str], read: Callable[[bytes], dict[str, Any]], on_error: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return what `read` answers for each picture file, with its name as "picture"; folders are searched.

    A file that cannot be read has an "error" instead, which `on_error` gets at once.
    """
    files = [file for name in names for file in _pictures(Path(name))]
    answers = []
    for file in tqdm(files, unit=" pictures", disable=None if len(files) > 1 else True):
        name = os.fsencode(file).decode(errors="replace")
        try:
            answers.append({"picture": name, **read(_bytes(file))})
            continue
        except OSError as error:
            message = f"{name} cannot be read: {error.strerror}"
        except PictureError as error:
            message = f"{name}: {error}"
        on_error(message)
        answers.append({"picture": name, "error": message})
    return answers


def print_csv(columns: Sequence[str], answers: Iterable[dict[str, Any]]) -> None:
    """Print answers as CSV; lists in one column are separated by spaces."""
    table = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for answer in answers:
        lists = {name: " ".join(map(str, value)) for name, value in answer.items() if isinstance(value, list | tuple)}
        table.writerow(answer | lists)


def _pictures(path: Path) -> Iterator[Path]:
    """Yield a file, or the pictures in a folder and the folders in it; a folder without any as it is."""
    found = (file for file in sorted(path.rglob("*")) if _is_picture(file)) if path.is_dir() else iter([path])
    first = next(found, path)
    yield first
    yield from found


def _is_picture(file: Path) -> bool:
    """Return whether a file begins like a picture; one that cannot be read counts, so that it is named."""
    try:
        return file.is_file() and format_of(_head(file, HEAD_BYTES)) is not None
    except OSError:
        return True


def _bytes(file: Path) -> bytes:
    """Read a file; raises PictureTooLarge before much of it is read, or OSError."""
    if file.is_dir():
        raise PictureError("There is no picture in this folder.")
    check_bytes(file.stat().st_size)
    return _head(file, MAX_BYTES + 1)  # what is not a file but a device may have no end


def _head(file: Path, size: int) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(size)
