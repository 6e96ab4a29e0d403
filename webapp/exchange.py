"""Corrections in and out: as a MNIST-style .npz, or as PNG files in a folder for each label.

A file that comes in is hostile until it is read: its sizes are checked in its directory before anything is unpacked
and again on the way, nothing in it can run, and what is wrong with it is told by name. It comes in whole or not at
all, and nothing that came in trains before it is approved.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import secrets
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from sqlalchemy import select
from sqlalchemy.orm import Session

from model import picture as road
from model.picture import SIDE, PictureError
from webapp.corrections import Corrections, image_of
from webapp.database import NO_DIGIT, Correction, Database, alone
from webapp.feedback import redrawn

MAX_FILE_BYTES = 16 << 20
MAX_UNPACKED_BYTES = 64 << 20
MOST = 10_000
# Of other sizes than a digit image: each takes some ten milliseconds, and the server gives a request 15 seconds.
MOST_PICTURES = 500
MOST_SOURCES = 1_000
# A folder or a file that some program left beside each picture is still no attack.
MOST_ENTRIES = 3 * MOST
MAX_INDEX_BYTES = 4 << 20

NO_DIGIT_FOLDER = "not-a-digit"
FOLDERS = {str(label): label for label in range(NO_DIGIT + 1)} | {NO_DIGIT_FOLDER: NO_DIGIT}
INDEX = "index.csv"
COLUMNS = ("file", "id", "label", "meant", "held_out", "source", "state")
# What file managers put into archives unasked.
LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


class ImportRefused(ValueError):
    """The file cannot be imported; the message is a sentence that names what in it, and why."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a file brings: images uint8 (N, 28, 28), labels int64 (N,) of 0..10, whose they are, int64 (N,), and the
    picture of each, a PNG."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    pictures: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Imported:
    """What became of a bundle: how many are new, and how many were there already, with the same label."""

    added: int
    known: int


def as_npz(rows: Sequence[Correction]) -> bytes:
    """Corrections as arrays: images uint8 (N, 28, 28) and labels uint8 (N,), 10 being no digit, and beside them id,
    meant, held_out and source, the last as numbers that say only which ones are of one source."""
    out = io.BytesIO()
    np.savez_compressed(
        out,
        images=np.stack([image_of(row) for row in rows]) if rows else np.zeros((0, SIDE, SIDE), np.uint8),
        labels=np.array([row.label for row in rows], np.uint8),
        id=np.array([row.id for row in rows], np.int64),
        meant=np.array([row.meant for row in rows], np.uint8),
        held_out=np.array([row.held_out for row in rows], bool),
        source=np.array(_groups(rows), np.int64),
    )
    return out.getvalue()


def as_pngs(rows: Sequence[Correction]) -> bytes:
    """Corrections as a zip of LABEL/ID.png, 28 x 28 and bright on black as the network sees them, and an index."""
    out, index = io.BytesIO(), io.StringIO()
    lines = csv.writer(index, lineterminator="\n")
    lines.writerow(COLUMNS)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # PNG files are packed already
        for row, group in zip(rows, _groups(rows), strict=True):
            name = f"{NO_DIGIT_FOLDER if row.label == NO_DIGIT else row.label}/{row.id}.png"
            archive.writestr(name, _png(Image.fromarray(image_of(row))))
            lines.writerow((name, row.id, row.label, row.meant, int(row.held_out), group, row.state))
        archive.writestr(INDEX, index.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def picture_of(digit_image: np.ndarray) -> bytes:
    """A digit image, uint8 (28, 28), as a picture: a PNG, dark on white."""
    return _png(ImageOps.invert(Image.fromarray(digit_image)))


def read(file: IO[bytes]) -> Bundle:
    """The digit images in an uploaded .npz or zip of PNG files; raises ImportRefused."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _entries(archive)
            return _read_arrays(archive, entries) if "images.npy" in entries else _read_pngs(archive, entries)
    except ImportRefused:
        raise
    except Exception as error:  # zipfile raises a dozen kinds on damaged archives, an IndexError among them
        raise ImportRefused("The file is no whole .npz and no whole zip archive.") from error


def store(database: Database, corrections: Corrections, bundle: Bundle, digest: str) -> Imported:
    """Stores a bundle as corrections that wait for review, in one transaction; what is there already is left out.

    `digest` stands for the file, whose digits are of one source, or of one for each of its groups. An image that is
    there with another label stays in the part, learnt from or held out, that it is in.
    """
    with database.writing() as session:
        alone(session, Correction)
        known, parts = _digits(session)
        before = len(known)
        for group in np.unique(bundle.groups).tolist():
            source = corrections.source_of(f"import {digest} {group}")
            held_out = corrections.held_out_for(session, source)
            for place in np.flatnonzero(bundle.groups == group).tolist():
                row = _row(bundle, place, source, held_out)
                row.held_out = parts.setdefault(row.digit_image, held_out)
                if (row.digit_image, row.label) not in known:
                    known.add((row.digit_image, row.label))
                    session.add(row)
            session.flush()  # the next source's part is chosen by how many there are
    added = len(known) - before
    return Imported(added, len(bundle) - added)


def digest_of(file: IO[bytes]) -> str:
    """The SHA-256 of an uploaded file."""
    return hashlib.file_digest(file, "sha256").hexdigest()


# What is stored


def _digits(session: Session) -> tuple[set[tuple[bytes, int]], dict[bytes, bool]]:
    """All that is there, by digit image and label, and of each image whether it is held out."""
    rows = session.execute(select(Correction.digit_image, Correction.label, Correction.held_out)).all()
    return {(image, label) for image, label, _ in rows}, {image: held_out for image, _, held_out in rows}


def _row(bundle: Bundle, place: int, source: str, held_out: bool) -> Correction:
    image, label = bundle.images[place], int(bundle.labels[place])
    return Correction(
        created_at=time.time(),
        source=source,
        receipt_sha256=secrets.token_hex(32),  # of no secret: nobody waits for news of it
        meant=label,
        label=label,
        digit_image=image.tobytes(),
        picture=bundle.pictures[place],
        answered={},
        version_id=None,
        held_out=held_out,
        state="received",
    )


def _groups(rows: Sequence[Correction]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(row.source, len(numbers)) for row in rows]


# What comes in


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files in an archive by name, none of them unpacked yet, and all of them together small enough to be."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MOST_ENTRIES:
        raise ImportRefused(f"The archive holds {len(infos):,} files; at most {MOST:,} digits are taken at once.")
    total = sum(info.file_size for info in infos)
    if total > MAX_UNPACKED_BYTES:
        raise ImportRefused(f"The archive unpacks to {total:,} bytes; at most {MAX_UNPACKED_BYTES:,} are read.")
    entries = {}
    for info in infos:
        if info.filename in entries:
            raise ImportRefused(f"{_named(info.filename)} is in the archive twice.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise ImportRefused(f"{_named(info.filename)} is encrypted, or packed in a way that is not read.")
        entries[info.filename] = info
    return entries


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A file's bytes: as many as the directory says, or it is refused."""
    try:
        with archive.open(info) as member:
            data = member.read(info.file_size + 1)
    except Exception as error:  # as above
        raise ImportRefused(f"{_named(info.filename)} is damaged.") from error
    if len(data) != info.file_size:
        raise ImportRefused(f"{_named(info.filename)} does not have the size that the archive says.")
    return data


def _read_arrays(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Bundle:
    if "labels.npy" not in entries:
        raise ImportRefused('The .npz has no array "labels" beside "images".')
    images = _array(archive, entries["images.npy"])
    labels = _array(archive, entries["labels.npy"])
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ImportRefused(f'"images" must be uint8 (N, {SIDE}, {SIDE}), not {images.dtype} {images.shape}.')
    if labels.dtype.kind not in "ui" or labels.shape != (len(images),):
        raise ImportRefused(f'"labels" must be whole numbers ({len(images)},), not {labels.dtype} {labels.shape}.')
    _check_count(len(images))
    wrong = np.flatnonzero((labels < 0) | (labels > NO_DIGIT))
    if wrong.size:
        raise ImportRefused(f'"labels" must be from 0 to {NO_DIGIT}; number {wrong[0]} is {labels[wrong[0]]}.')
    blank = np.flatnonzero(~images.any((1, 2)))
    if blank.size:
        raise ImportRefused(f'"images" has nothing drawn at number {blank[0]}.')
    groups = np.zeros(len(images), np.int64)
    if "source.npy" in entries:
        groups = _array(archive, entries["source.npy"])
        if groups.dtype.kind not in "ui" or groups.shape != labels.shape:
            raise ImportRefused(f'"source" must be whole numbers ({len(images)},), not {groups.dtype} {groups.shape}.')
    return _bundle(images, labels.astype(np.int64), groups.astype(np.int64), [picture_of(image) for image in images])


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """A plain array: its header is read without running or allocating anything, and must fit the bytes that follow."""
    data = io.BytesIO(_unpacked(archive, info))
    try:
        version = np.lib.format.read_magic(data)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = headers[version](data)
    except Exception as error:  # NumPy raises a dozen kinds on damaged files, a SyntaxError among them
        raise ImportRefused(f"{_named(info.filename)} is no array.") from error
    rest = data.read()
    if dtype.kind not in "uib" or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(rest):
        raise ImportRefused(f"{_named(info.filename)} is no whole array of plain numbers.")
    flat = np.frombuffer(rest, dtype)
    return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)


def _read_pngs(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Bundle:
    labels = {name: _label(name) for name in entries if not _is_litter(name) and PurePosixPath(name).name != INDEX}
    _check_count(len(labels))
    known_groups = _indexed_groups(archive, entries)
    images, pictures = [], []
    larger = 0
    for name in labels:
        image, picture = _digit(name, _unpacked(archive, entries[name]))
        images.append(image)
        pictures.append(picture or picture_of(image))
        larger += picture is not None
        if larger > MOST_PICTURES:
            kind = f"digit images, grey, bright on black, {SIDE} x {SIDE} pixels"
            raise ImportRefused(f"At most {MOST_PICTURES:,} pictures are taken at once that are no {kind}.")
    groups = [known_groups.get(name, 0) for name in labels]
    return _bundle(np.stack(images), np.array(list(labels.values())), np.array(groups, np.int64), pictures)


def _label(name: str) -> int:
    """The label that a file's folder names."""
    path = PurePosixPath(name)
    if path.suffix.lower() != ".png" or path.parent.name not in FOLDERS:
        folders = f"0 to 9 or {NO_DIGIT_FOLDER}"
        raise ImportRefused(f"{_named(name)} is no PNG file in a folder that names what it is: {folders}.")
    return FOLDERS[path.parent.name]


def _is_litter(name: str) -> bool:
    return any(part in LITTER or part.startswith("._") for part in PurePosixPath(name).parts)


def _indexed_groups(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, int]:
    """Whose the files are, where an index like our own tells it."""
    if INDEX not in entries:
        return {}
    if entries[INDEX].file_size > MAX_INDEX_BYTES:
        raise ImportRefused(f"{INDEX} has more than {MAX_INDEX_BYTES:,} bytes.")
    try:
        lines = csv.DictReader(io.StringIO(_unpacked(archive, entries[INDEX]).decode(), newline=""))
        return {line["file"]: int(line["source"]) for line in lines if line.get("file") and line.get("source")}
    except (UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise ImportRefused(f"{INDEX} is no table with the columns {', '.join(COLUMNS)}.") from error


def _digit(name: str, data: bytes) -> tuple[np.ndarray, bytes | None]:
    """The digit image in a PNG file, and the picture that it was where it was a larger one.

    A grey one of 28 x 28 with a dark border is a digit image as it stands; any other goes the road of all pictures.
    """
    try:
        opened = road.open_picture(data, formats=("PNG",))
        if opened.mode == "L" and opened.size == (SIDE, SIDE):
            pixels = np.asarray(opened)
            border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
            if np.median(border) < 128 and pixels.any():
                return pixels, None
        image = road.digit_image(opened)
    except PictureError as error:
        raise ImportRefused(f"{_named(name)}: {error}") from error
    if image is None:
        raise ImportRefused(f"{_named(name)} has nothing drawn on it.")
    return image, redrawn(opened)


def _bundle(images: np.ndarray, labels: np.ndarray, groups: np.ndarray, pictures: list[bytes]) -> Bundle:
    if len(np.unique(groups)) > MOST_SOURCES:
        raise ImportRefused(f"The file names {len(np.unique(groups)):,} sources; at most {MOST_SOURCES:,} are taken.")
    return Bundle(images, labels, groups, pictures)


def _check_count(count: int) -> None:
    if not 0 < count <= MOST:
        raise ImportRefused(f"The file holds {count:,} digits; from 1 to {MOST:,} are taken at once.")


def _named(name: str) -> str:
    """A file's name as a message may show it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f'"{shown}"' if len(shown) <= 80 else f'"{shown[:77]}..."'


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
