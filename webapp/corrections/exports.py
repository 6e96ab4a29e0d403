"""Export of corrections as a stream: a MNIST-style .npz, or a zip of PNG files in a folder for each label.

Rows are read in chunks, each in a short transaction, and none is open while a piece is sent: a client may be slow, and
on SQLite a reader can block all writers. A piece may be empty: the server takes each one as a sign of progress.
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
    """Yield the corrections that meet the conditions now, ordered by id, without their pictures.

    Those that are deleted, or no longer meet them, when their chunk is read are left out.
    """
    with database.reading() as session:
        ids = session.scalars(select(Correction.id).where(*conditions).order_by(Correction.id)).all()
    return _in_chunks(database, ids, conditions)


def as_npz(rows: Iterable[Row], folder: Path) -> Iterator[bytes]:
    """Yield a .npz of images uint8 (N, 28, 28), labels uint8 (N,) of 0..10 (10: no digit), id, meant, held_out, source.

    `source` numbers the submitters, without identifying them. The images are buffered in an unnamed file in `folder`,
    since the header of their array states how many there are.
    """
    groups: dict[str, int] = {}
    columns = []
    with tempfile.TemporaryFile(dir=folder) as images:
        for row in rows:
            images.write(row.digit_image)
            group = groups.setdefault(row.submitter, len(groups))
            columns.append((row.label, row.id, row.meant, row.held_out, group))
            if len(columns) % ROWS_AT_ONCE == 0:
                yield b""
        images.seek(0)
        yield from _npz(images, columns)


def as_pngs(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield a zip of LABEL/ID.png, 28 x 28 and bright on black as the network sees them, and an index."""
    index = io.StringIO()
    lines = csv.writer(index, lineterminator="\n")
    lines.writerow(COLUMNS)
    groups: dict[str, int] = {}
    pieces = _StreamBuffer()
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


class _StreamBuffer(io.RawIOBase):
    """Collects the bytes that are written, for a stream. It cannot seek, so zipfile writes sizes behind each file."""

    def __init__(self):
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """Return and clear the bytes written since the last call."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _in_chunks(database: Database, ids, conditions) -> Iterator[Row]:
    for start in range(0, len(ids), ROWS_AT_ONCE):
        these = Correction.id.in_(ids[start : start + ROWS_AT_ONCE])
        with database.reading() as session:
            chunk = session.execute(select(*EXPORTED).where(these, *conditions).order_by(Correction.id)).all()
        yield from chunk


def _npz(images: IO[bytes], columns: list[tuple]) -> Iterator[bytes]:
    labels, ids, meant, held_out, groups = zip(*columns, strict=True) if columns else ((),) * 5
    arrays: dict[str, np.ndarray] = {
        "labels": np.array(labels, np.uint8),
        "id": np.array(ids, np.int64),
        "meant": np.array(meant, np.uint8),
        "held_out": np.array(held_out, bool),
        "source": np.array(groups, np.int64),
    }
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(columns), SIDE, SIDE)}
    pieces = _StreamBuffer()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            while piece := images.read(PIECE_BYTES):
                member.write(piece)
                yield pieces.take()
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
            yield pieces.take()
    yield pieces.take()
