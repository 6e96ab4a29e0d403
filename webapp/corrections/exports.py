"""Corrections out, as a stream: a MNIST-style .npz, or a zip of PNG files in a folder for each label.

Rows are read in chunks, each in a short transaction of its own, and none is open while a piece is on its way: a client
may be slow, and on SQLite a reader can keep all writers waiting. A piece may be empty, which tells the server that the
work goes on.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from sqlalchemy import ColumnElement, Row, select

from model.imaging.png import png
from model.task import NO_DIGIT, SIDE
from webapp.corrections.digit_files import COLUMNS, INDEX, NO_DIGIT_FOLDER
from webapp.storage.engine import Database
from webapp.storage.schema import Correction

ROWS_AT_ONCE = 500
PIECE_BYTES = 1 << 20
EXPORTED = (
    Correction.id,
    Correction.digit_image,
    Correction.label,
    Correction.meant,
    Correction.held_out,
    Correction.submitter,
    Correction.state,
)


def rows_where(database: Database, *conditions: ColumnElement[bool]) -> Iterator[Row]:
    """The corrections that meet the conditions now, in the order of their numbers, without their pictures.

    One that is deleted, or meets them no more, before its chunk is read is left out.
    """
    with database.reading() as session:
        numbers = session.scalars(select(Correction.id).where(*conditions).order_by(Correction.id)).all()
    return _in_chunks(database, numbers, conditions)


def as_npz(rows: Iterable[Row], folder: Path) -> Iterator[bytes]:
    """Corrections as arrays: images uint8 (N, 28, 28) and labels uint8 (N,), 10 being no digit, and beside them id,
    meant, held_out and source, the last as numbers that say only which ones are of one source.

    The images are kept in an unnamed file in `folder` meanwhile, since the array begins with how many there are.
    """
    groups: dict[str, int] = {}
    figures = []
    with tempfile.TemporaryFile(dir=folder) as images:
        for row in rows:
            images.write(row.digit_image)
            group = groups.setdefault(row.submitter, len(groups))
            figures.append((row.label, row.id, row.meant, row.held_out, group))
            if len(figures) % ROWS_AT_ONCE == 0:
                yield b""
        images.seek(0)
        yield from _archive_of_arrays(images, figures)


def as_pngs(rows: Iterable[Row]) -> Iterator[bytes]:
    """Corrections as a zip of LABEL/ID.png, 28 x 28 and bright on black as the network sees them, and an index."""
    index = io.StringIO()
    lines = csv.writer(index, lineterminator="\n")
    lines.writerow(COLUMNS)
    groups: dict[str, int] = {}
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        for count, row in enumerate(rows, 1):
            name = f"{NO_DIGIT_FOLDER if row.label == NO_DIGIT else row.label}/{row.id}.png"
            archive.writestr(name, png(Image.frombytes("L", (SIDE, SIDE), row.digit_image)))
            group = groups.setdefault(row.submitter, len(groups))
            lines.writerow((name, row.id, row.label, row.meant, int(row.held_out), group, row.state))
            if count % ROWS_AT_ONCE == 0:
                yield pieces.take()
        archive.writestr(INDEX, index.getvalue())
    yield pieces.take()


class _Pieces(io.RawIOBase):
    """Takes what is written, for a stream. It cannot seek, so the archive tells the size of each file behind it."""

    def __init__(self):
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """What has been written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _in_chunks(database: Database, numbers, conditions) -> Iterator[Row]:
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        these = Correction.id.in_(numbers[start : start + ROWS_AT_ONCE])
        with database.reading() as session:
            chunk = session.execute(select(*EXPORTED).where(these, *conditions).order_by(Correction.id)).all()
        yield from chunk


def _archive_of_arrays(images: IO[bytes], figures: list[tuple]) -> Iterator[bytes]:
    labels, ids, meant, held_out, groups = zip(*figures, strict=True) if figures else ((),) * 5
    arrays: dict[str, np.ndarray] = {
        "labels": np.array(labels, np.uint8),
        "id": np.array(ids, np.int64),
        "meant": np.array(meant, np.uint8),
        "held_out": np.array(held_out, bool),
        "source": np.array(groups, np.int64),
    }
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(figures), SIDE, SIDE)}
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            while some := images.read(PIECE_BYTES):
                member.write(some)
                yield pieces.take()
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
            yield pieces.take()
    yield pieces.take()
