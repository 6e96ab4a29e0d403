"""Untrusted files of digits: a MNIST-style .npz, or a zip of PNG files in a folder for each label.

`inspect` checks everything that can be checked without decoding a picture: sizes, names, labels, arrays and the headers
of the PNG files. `Contents.unpack` decodes the pictures, with no more pixels than the headers declared. No code in a
file can run, and a refusal names the part of the file that caused it.
"""

from __future__ import annotations

import csv
import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from model.data import npz
from model.imaging.decode import MAX_BYTES, PictureError, PixelBudget, open_picture
from model.imaging.png import png
from model.imaging.writing import writing_in
from model.task import NO_DIGIT, SIDE
from webapp.corrections.picture import redraw

MAX_FILE_BYTES = 16 << 20
MAX_UNPACKED_BYTES = 64 << 20
MAX_DIGITS = 10_000
# Of all PNG files together. A million pixels take 25 to 350 ms to decode, reduce and redraw.
MAX_PIXELS = 600_000_000
MAX_SUBMITTERS = 1_000
# A file of at most this many digits and pixels takes at most two seconds: short enough for a request.
SHORT_DIGITS = 500
SHORT_PIXELS = 2_000_000
# Leaves room for a folder or a file that some program added beside each picture.
MAX_ENTRIES = 3 * MAX_DIGITS
MAX_INDEX_BYTES = 4 << 20
MAX_NAME_LENGTH = 80
# The signature of each entry in the central directory of a zip archive.
ENTRY = b"PK\1\2"
# Signature, length and name of the first chunk, width and height.
PNG_HEADER = struct.Struct(">8s4x4sII")

NO_DIGIT_FOLDER = "not-a-digit"
FOLDERS = {str(label): label for label in range(NO_DIGIT + 1)} | {NO_DIGIT_FOLDER: NO_DIGIT}
INDEX = "index.csv"
COLUMNS = ("file", "id", "label", "meant", "held_out", "source", "state")
# File managers add these to archives.
IGNORED_NAMES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


class ImportRefused(ValueError):
    """The file cannot be imported; the message is a sentence that names the part at fault and the reason."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """The decoded digits of a file: images uint8 (N, 28, 28), labels int64 (N,) of 0..10, groups int64 (N,), one for
    each submitter, and N pictures as PNG."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    pictures: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Contents:
    """The digits of a file before any picture is decoded: labels int64 (N,) of 0..10, groups int64 (N,), and the number
    of pixels that the PNG headers declare together."""

    labels: np.ndarray
    groups: np.ndarray
    pixels: int
    digit: Callable[[int], tuple[np.ndarray, bytes]] = field(repr=False)
    """Return the digit image at an index, uint8 (28, 28), and the PNG of its picture; raises ImportRefused."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_short(self) -> bool:
        """Whether the file is small enough to be unpacked and stored within the request."""
        return len(self) <= SHORT_DIGITS and self.pixels <= SHORT_PIXELS

    def unpack(self, on_progress: Callable[[float], object] = lambda done: None) -> Bundle:
        """Decode every picture and tell `on_progress` the fraction done after each; raises ImportRefused."""
        images, pictures = np.empty((len(self), SIDE, SIDE), np.uint8), []
        for i in range(len(self)):
            images[i], picture = self.digit(i)
            pictures.append(picture)
            on_progress((i + 1) / len(self))
        return Bundle(images, self.labels, self.groups, pictures)


def picture_of(digit_image: np.ndarray) -> bytes:
    """Return a digit image, uint8 (28, 28), as a PNG, dark on white."""
    return png(ImageOps.invert(Image.fromarray(digit_image)))


def inspect(data: bytes) -> Contents:
    """Return the contents of an uploaded .npz or zip of PNG files; raises ImportRefused."""
    # Before zipfile reads the directory, which takes longer than a request may with hundreds of thousands of entries.
    if (count := data.count(ENTRY)) > MAX_ENTRIES:
        raise ImportRefused(f"The archive holds {count:,} files; at most {MAX_DIGITS:,} digits are taken at once.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = _entries(archive)
        return _inspect_npz(archive, entries) if "images.npy" in entries else _inspect_pngs(archive, entries)
    except ImportRefused:
        raise
    except Exception as error:  # zipfile raises a dozen types on damaged archives, IndexError among them
        raise ImportRefused("The file is no whole .npz and no whole zip archive.") from error


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name, checked to be small enough together to be unpacked."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    total = sum(info.file_size for info in infos)
    if total > MAX_UNPACKED_BYTES:
        raise ImportRefused(f"The archive unpacks to {total:,} bytes; at most {MAX_UNPACKED_BYTES:,} are read.")
    entries = {}
    for info in infos:
        if info.filename in entries:
            raise ImportRefused(f"{_quoted(info.filename)} is in the archive twice.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise ImportRefused(f"{_quoted(info.filename)} is encrypted, or packed in a way that is not read.")
        entries[info.filename] = info
    return entries


def _read_file(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a file in the archive; raises ImportRefused unless they are as many as the directory says."""
    data = _read_prefix(archive, info, info.file_size + 1)
    if len(data) != info.file_size:
        raise ImportRefused(f"{_quoted(info.filename)} does not have the size that the archive says.")
    return data


def _read_prefix(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    """Return the first `size` bytes of a file in the archive, or all of them if it is shorter."""
    try:
        with archive.open(info) as member:
            return member.read(size)
    except Exception as error:  # any type, as in `inspect`
        raise ImportRefused(f"{_quoted(info.filename)} is damaged.") from error


def _inspect_npz(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Contents:
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
    _check_submitters(groups)
    return Contents(labels.astype(np.int64), groups.astype(np.int64), 0, lambda i: (images[i], picture_of(images[i])))


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    try:
        found = npz.parse(_read_file(archive, info))
        if found.dtype.kind not in "uib":
            raise npz.NpzError("no whole array of plain numbers")
    except npz.NpzError as error:
        raise ImportRefused(f"{_quoted(info.filename)} is {error}.") from error
    return found


def _inspect_pngs(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Contents:
    labels = {name: _label(name) for name in entries if not _is_ignored(name) and PurePosixPath(name).name != INDEX}
    _check_count(len(labels))
    known_groups = _indexed_groups(archive, entries)
    groups = np.array([known_groups.get(name, 0) for name in labels], np.int64)
    _check_submitters(groups)
    names = list(labels)
    pixels = sum(_declared_pixels(archive, entries[name]) for name in names)
    if pixels > MAX_PIXELS:
        raise ImportRefused(f"The pictures have {pixels:,} pixels together; at most {MAX_PIXELS:,} are taken at once.")
    budget = PixelBudget(pixels)  # the decoder may find another header than the one that was read here

    def digit(i: int) -> tuple[np.ndarray, bytes]:
        return _digit(names[i], _read_file(archive, entries[names[i]]), budget)

    return Contents(np.array(list(labels.values()), np.int64), groups, pixels, digit)


def _declared_pixels(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Return the number of pixels that the header of a PNG file declares; raises ImportRefused over the limits."""
    try:
        if info.file_size > MAX_BYTES:
            raise PictureError(f"The picture has {info.file_size:,} bytes; at most {MAX_BYTES:,} are read.")
        head = _read_prefix(archive, info, PNG_HEADER.size)
        signature, chunk, width, height = PNG_HEADER.unpack(head.ljust(PNG_HEADER.size, b"\0"))
        if (signature, chunk) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
            raise PictureError("The data is not a whole PNG picture.")
        PixelBudget().spend((width, height))
    except PictureError as error:
        raise ImportRefused(f"{_quoted(info.filename)}: {error}") from error
    return width * height


def _label(name: str) -> int:
    """Return the label that a file's folder names; raises ImportRefused."""
    path = PurePosixPath(name)
    if path.suffix.lower() != ".png" or path.parent.name not in FOLDERS:
        folders = f"0 to 9 or {NO_DIGIT_FOLDER}"
        raise ImportRefused(f"{_quoted(name)} is no PNG file in a folder that names what it is: {folders}.")
    return FOLDERS[path.parent.name]


def _is_ignored(name: str) -> bool:
    return any(part in IGNORED_NAMES or part.startswith("._") for part in PurePosixPath(name).parts)


def _indexed_groups(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, int]:
    """Return the group of each file by its name, as far as an index like that of an export names it."""
    if INDEX not in entries:
        return {}
    if entries[INDEX].file_size > MAX_INDEX_BYTES:
        raise ImportRefused(f"{INDEX} has more than {MAX_INDEX_BYTES:,} bytes.")
    try:
        lines = csv.DictReader(io.StringIO(_read_file(archive, entries[INDEX]).decode(), newline=""))
        return {line["file"]: int(line["source"]) for line in lines if line.get("file") and line.get("source")}
    except (UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise ImportRefused(f"{INDEX} is no table with the columns {', '.join(COLUMNS)}.") from error


def _digit(name: str, data: bytes, budget: PixelBudget) -> tuple[np.ndarray, bytes]:
    """Return the digit image in a PNG file, uint8 (28, 28), and a PNG of its picture; raises ImportRefused.

    A grey one of 28 x 28 with a dark border is a digit image already; any other is preprocessed like every picture.
    """
    try:
        opened = open_picture(data, formats=("PNG",), budget=budget)
        if opened.mode == "L" and opened.size == (SIDE, SIDE):
            pixels = np.asarray(opened)
            border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
            if np.median(border) < 128 and pixels.any():
                return pixels, picture_of(pixels)
        writing = writing_in(opened)
    except PictureError as error:
        raise ImportRefused(f"{_quoted(name)}: {error}") from error
    if (image := writing.digit_image()) is None or writing.ink is None:
        raise ImportRefused(f"{_quoted(name)} has nothing drawn on it.")
    return image, redraw(writing.ink)


def _check_submitters(groups: np.ndarray) -> None:
    if (count := len(np.unique(groups))) > MAX_SUBMITTERS:
        raise ImportRefused(f"The file names {count:,} sources; at most {MAX_SUBMITTERS:,} are taken.")


def _check_count(count: int) -> None:
    if not 0 < count <= MAX_DIGITS:
        raise ImportRefused(f"The file holds {count:,} digits; from 1 to {MAX_DIGITS:,} are taken at once.")


def printable_name(name: str) -> str:
    """Return a file's name as a message, a page or a log may show it: printable and not too long."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= MAX_NAME_LENGTH else f"{plain[: MAX_NAME_LENGTH - 3]}..."


def _quoted(name: str) -> str:
    return f'"{printable_name(name)}"'
