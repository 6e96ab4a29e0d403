"""The file of a backup: a zip archive with the database, the secret key and a manifest, none of them compressed.

The manifest names format, schema and release, and has size and SHA-256 of the other two. A file is read as untrusted:
these three names alone are taken, to paths of our own, and no more bytes than the file itself has. Once restored, what
it holds is trusted: keep a backup as private as the installation.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from model import provenance
from webapp.storage.replacement import DATABASE, SECRET_KEY

FORMAT, FORMAT_VERSION = "inkling-backup", 1
MANIFEST = "manifest.json"
MAX_BYTES = {MANIFEST: 10_000, SECRET_KEY: 10_000}  # the database is as large as it is
CHUNK_BYTES = 1 << 20

OnProgress = Callable[[float], object]


class BackupError(ValueError):
    """The backup cannot be made or used, and nothing was changed; the message is the reason."""


@dataclass(frozen=True)
class Part:
    bytes: int
    sha256: str

    @classmethod
    def of(cls, read: Any) -> Part:
        """Return a part as a manifest tells it; raises KeyError, TypeError or ValueError."""
        return cls(int(read["bytes"]), _matching("[0-9a-f]{64}", read["sha256"]))


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself: `schema` is a revision of the migrations, `release` the digest of the code."""

    made_at: datetime
    schema: str
    release: str
    parts: dict[str, Part]

    def to_json(self) -> bytes:
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps(head | asdict(self) | {"made_at": self.made_at.isoformat(timespec="seconds")}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Return the manifest in a file of this format or an older one; raises BackupError."""
        try:
            read = json.loads(text)
            if read["format"] != FORMAT:
                raise ValueError
            if read["format_version"] > FORMAT_VERSION:
                raise BackupError("it was made by a newer release of Inkling; restore it with that release")
            return cls(
                made_at=datetime.fromisoformat(read["made_at"]).astimezone(UTC),
                schema=_matching(r"\w{1,40}", read["schema"]),
                release=_matching(r"[\w.+-]{1,80}", read["release"]),
                parts={name: Part.of(read["parts"][name]) for name in (DATABASE, SECRET_KEY)},
            )
        except BackupError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BackupError("its manifest cannot be understood") from error


def write(path: Path, database: Path, schema: str, secret_key: str, on_progress: OnProgress) -> None:
    """Write a new file, readable by its owner alone, and wait until it is on the disk; raises OSError."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
        with zipfile.ZipFile(file, "w") as archive, database.open("rb") as rows:
            parts = {
                DATABASE: _add(archive, DATABASE, rows, on_progress, database.stat().st_size),
                SECRET_KEY: _add(archive, SECRET_KEY, io.BytesIO(secret_key.encode(errors="surrogateescape"))),
            }
            manifest = Manifest(datetime.now(UTC), schema, provenance.digest()[:12], parts)
            _add(archive, MANIFEST, io.BytesIO(manifest.to_json()))
        file.flush()
        os.fsync(file.fileno())


class BackupFile:
    """An open backup; `BackupFile.open()` checks everything but the bytes of its parts, which `copy_to` does."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest):
        self._archive, self.manifest = archive, manifest

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[BackupFile]:
        """Open a file; raises BackupError, which then names the file, also for what is found while it is read."""
        try:
            with _archive(path) as archive:
                yield cls(archive, _checked(archive, path.stat().st_size))
        except BackupError as error:
            raise BackupError(f"{path} cannot be used: {error}") from error

    def copy_to(self, name: str, target: IO[bytes], on_progress: OnProgress = lambda done: None) -> None:
        """Write a part to a file and compare it with the manifest; raises BackupError."""
        expected = self.manifest.parts[name]
        try:
            with self._archive.open(name) as source:
                found = _copy(source, target, expected.bytes, on_progress)
        except OSError as error:
            raise BackupError(f"{name} cannot be unpacked: {error.strerror}") from error
        except Exception as error:  # zipfile raises a dozen types on damaged archives
            raise BackupError(f"{name} in it is damaged") from error
        if found != expected:
            raise BackupError(f"{name} in it is damaged")

    def verify(self, on_progress: OnProgress) -> None:
        """Read all parts; raises BackupError."""
        with open(os.devnull, "wb") as nowhere:
            self.copy_to(SECRET_KEY, nowhere)
            self.copy_to(DATABASE, nowhere, on_progress)

    @property
    def secret_key(self) -> str:
        """The secret key; raises BackupError."""
        buffer = io.BytesIO()
        self.copy_to(SECRET_KEY, buffer)
        return buffer.getvalue().decode(errors="surrogateescape")


def check_database(path: Path) -> str:
    """Return the schema's revision of a whole database that nobody writes to; raises BackupError."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != ("ok",):
                raise BackupError(f"the database is damaged: {found[0]}")
            ((revision,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            connection.execute("SELECT 1 FROM version, promotion, run LIMIT 0")  # every revision has them
    except BackupError:
        raise
    except (sqlite3.Error, ValueError) as error:
        raise BackupError(f"the database is none of Inkling: {error}") from error
    return revision


def _archive(path: Path) -> zipfile.ZipFile:
    if not path.is_file():  # opening a named pipe would wait
        raise BackupError("it is no file" if path.exists() else "there is no such file")
    with path.open("rb"):  # raises OSError with its name
        pass
    try:
        return zipfile.ZipFile(path)
    except Exception as error:
        raise BackupError("it is no backup of Inkling, or not all of one") from error


def _checked(archive: zipfile.ZipFile, file_bytes: int) -> Manifest:
    """Return the manifest of an archive that holds what a backup holds and nothing else; raises BackupError."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    if MANIFEST not in entries:
        raise BackupError("it is no backup of Inkling")
    for name, entry in entries.items():
        # Without compression, no part is larger than the file.
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise BackupError(f"{name!r} in it is compressed or encrypted")
        if entry.file_size != entry.compress_size or entry.file_size > MAX_BYTES.get(name, file_bytes):
            raise BackupError(f"{name!r} in it has an impossible size")
    try:
        text = archive.read(MANIFEST)
    except Exception as error:
        raise BackupError(f"{MANIFEST} in it is damaged") from error
    manifest = Manifest.from_json(text)
    if len(archive.infolist()) != 3 or set(entries) != {MANIFEST, DATABASE, SECRET_KEY}:
        raise BackupError("it holds other files than a backup does")
    return manifest


def _add(
    archive: zipfile.ZipFile, name: str, source: IO[bytes], on_progress: OnProgress = lambda done: None, size: int = 1
) -> Part:
    entry = zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6])
    entry.external_attr = 0o600 << 16  # the mode that an unpacking program gives it
    with archive.open(entry, "w", force_zip64=True) as target:
        return _copy(source, target, size, on_progress)


def _copy(source: IO[bytes], target: IO[bytes], size: int, on_progress: OnProgress) -> Part:
    """Copy a file, of about `size` bytes; return what was copied."""
    sha256, copied = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        sha256.update(chunk)
        target.write(chunk)
        copied += len(chunk)
        on_progress(min(1.0, copied / max(1, size)))
    return Part(copied, sha256.hexdigest())


def _matching(pattern: str, text: str) -> str:
    """Return a text that matches; raises ValueError or TypeError."""
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError
    return text
