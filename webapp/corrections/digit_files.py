"""Files of digits: a MNIST-style .npz, or a zip of PNG files in a folder for each label, read without trusting them.

`inspect` checks everything that can be told without decoding a picture: sizes, names, labels, arrays and the headers of
the PNG files. `Contents.unpack` decodes the pictures, with no more pixels than the headers declared. Nothing in a file
can run, and a refusal names the part of the file that it is about.
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
from model.imaging.decode import MAX_BYTES, PARSERS, PictureError, PixelBudget, open_picture
from model.imaging.normalise import digit_image
from model.imaging.png import png
from model.task import NO_DIGIT, SIDE
from webapp.corrections.picture import redraw

MAX_FILE_BYTES = 16 << 20
MAX_UNPACKED_BYTES = 64 << 20
MOST = 10_000
# Of all PNG files together. A million pixels take 25 to 350 ms to decode, reduce and draw again.
MOST_PIXELS = 600_000_000
MOST_SOURCES = 1_000
# A file of at most this many digits and pixels takes a second or two at worst, which a request may take.
SHORT_DIGITS = 1_000
SHORT_PIXELS = 4_000_000
# A folder or a file that some program left beside each picture is still no attack.
MOST_ENTRIES = 3 * MOST
MAX_INDEX_BYTES = 4 << 20
LONGEST_NAME = 80
# How each entry in the directory of an archive begins.
ENTRY = b"PK\1\2"
# Signature, length and name of the first chunk, width and height.
PNG_HEADER = struct.Struct(">8s4x4sII")

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


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds, before any picture is decoded: labels int64 (N,) of 0..10, groups int64 (N,), and how many
    pixels its pictures have by their headers."""

    labels: np.ndarray
    groups: np.ndarray
    pixels: int
    digit: Callable[[int], tuple[np.ndarray, bytes]] = field(repr=False)
    """The digit image at a place and the PNG of its picture; raises ImportRefused."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_short(self) -> bool:
        """Whether a request may wait until it is unpacked and stored."""
        return len(self) <= SHORT_DIGITS and self.pixels <= SHORT_PIXELS

    def unpack(self, tell: Callable[[float], object] = lambda done: None) -> Bundle:
        """Decodes every picture; `tell` gets the fraction done after each. Raises ImportRefused."""
        images, pictures = np.empty((len(self), SIDE, SIDE), np.uint8), []
        for place in range(len(self)):
            images[place], picture = self.digit(place)
            pictures.append(picture)
            tell((place + 1) / len(self))
        return Bundle(images, self.labels, self.groups, pictures)


def picture_of(digit_image: np.ndarray) -> bytes:
    """A digit image, uint8 (28, 28), as a picture: a PNG, dark on white."""
    return png(ImageOps.invert(Image.fromarray(digit_image)))


def inspect(data: bytes) -> Contents:
    """What is in an uploaded .npz or zip of PNG files; raises ImportRefused."""
    # Before zipfile reads the directory: with hundreds of thousands of entries that takes longer than a request may.
    if (count := data.count(ENTRY)) > MOST_ENTRIES:
        raise ImportRefused(f"The archive holds {count:,} files; at most {MOST:,} digits are taken at once.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = _entries(archive)
        return _in_arrays(archive, entries) if "images.npy" in entries else _in_pngs(archive, entries)
    except ImportRefused:
        raise
    except Exception as error:  # zipfile raises a dozen kinds on damaged archives, an IndexError among them
        raise ImportRefused("The file is no whole .npz and no whole zip archive.") from error


# What comes in


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files in an archive by name, none of them unpacked yet, and all of them together small enough to be."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
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
    data = _beginning(archive, info, info.file_size + 1)
    if len(data) != info.file_size:
        raise ImportRefused(f"{_named(info.filename)} does not have the size that the archive says.")
    return data


def _beginning(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    """At most `size` bytes of a file."""
    try:
        with archive.open(info) as member:
            return member.read(size)
    except Exception as error:  # as above
        raise ImportRefused(f"{_named(info.filename)} is damaged.") from error


def _in_arrays(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Contents:
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
    _check_sources(groups)
    return Contents(
        labels.astype(np.int64), groups.astype(np.int64), 0, lambda place: (images[place], picture_of(images[place]))
    )


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    try:
        found = npz.parse(_unpacked(archive, info))
        if found.dtype.kind not in "uib":
            raise npz.NpzError("no whole array of plain numbers")
    except npz.NpzError as error:
        raise ImportRefused(f"{_named(info.filename)} is {error}.") from error
    return found


def _in_pngs(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> Contents:
    labels = {name: _label(name) for name in entries if not _is_litter(name) and PurePosixPath(name).name != INDEX}
    _check_count(len(labels))
    known_groups = _indexed_groups(archive, entries)
    groups = np.array([known_groups.get(name, 0) for name in labels], np.int64)
    _check_sources(groups)
    names = list(labels)
    pixels = sum(_pixels(archive, entries[name]) for name in names)
    if pixels > MOST_PIXELS:
        raise ImportRefused(f"The pictures have {pixels:,} pixels together; at most {MOST_PIXELS:,} are taken at once.")
    budget = PixelBudget(pixels)  # a second header in a file may declare another size than the first

    def digit(place: int) -> tuple[np.ndarray, bytes]:
        return _digit(names[place], _unpacked(archive, entries[names[place]]), budget)

    return Contents(np.array(list(labels.values()), np.int64), groups, pixels, digit)


def _pixels(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """How many pixels a PNG file declares in its first bytes, as far as such a picture is read at all."""
    try:
        if info.file_size > MAX_BYTES:
            raise PictureError(f"The picture has {info.file_size:,} bytes; at most {MAX_BYTES:,} are read.")
        head = _beginning(archive, info, PNG_HEADER.size)
        signature, chunk, width, height = PNG_HEADER.unpack(head.ljust(PNG_HEADER.size, b"\0"))
        if (signature, chunk) != (PARSERS["PNG"][0], b"IHDR"):
            raise PictureError("The data is not a whole PNG picture.")
        PixelBudget().spend((width, height))
    except PictureError as error:
        raise ImportRefused(f"{_named(info.filename)}: {error}") from error
    return width * height


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


def _digit(name: str, data: bytes, budget: PixelBudget) -> tuple[np.ndarray, bytes]:
    """The digit image in a PNG file, and a PNG of the picture that it was, or would be.

    A grey one of 28 x 28 with a dark border is a digit image as it stands; any other is read like every picture.
    """
    try:
        opened = open_picture(data, formats=("PNG",), budget=budget)
        if opened.mode == "L" and opened.size == (SIDE, SIDE):
            pixels = np.asarray(opened)
            border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
            if np.median(border) < 128 and pixels.any():
                return pixels, picture_of(pixels)
        image = digit_image(opened)
    except PictureError as error:
        raise ImportRefused(f"{_named(name)}: {error}") from error
    if image is None:
        raise ImportRefused(f"{_named(name)} has nothing drawn on it.")
    return image, redraw(opened)


def _check_sources(groups: np.ndarray) -> None:
    if (count := len(np.unique(groups))) > MOST_SOURCES:
        raise ImportRefused(f"The file names {count:,} sources; at most {MOST_SOURCES:,} are taken.")


def _check_count(count: int) -> None:
    if not 0 < count <= MOST:
        raise ImportRefused(f"The file holds {count:,} digits; from 1 to {MOST:,} are taken at once.")


def shown_name(name: str) -> str:
    """A file's name, of whatever letters, as a message, a page or a log may show it."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[: LONGEST_NAME - 3]}..."


def _named(name: str) -> str:
    return f'"{shown_name(name)}"'
