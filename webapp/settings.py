"""Every setting once: its environment variable, its default and what it means."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from redis.connection import parse_url
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from webapp.private import is_shared

ROOT = Path(__file__).resolve().parent.parent
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names both."""


def _setting(variable: str, default: str, meaning: str):
    return field(metadata={"variable": variable, "default": default, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """What a process runs with. `Settings.read()` takes it from the environment.

    An empty `secret_key` is in PostgreSQL, which is not asked here: `webapp.installation` does.
    """

    data_dir: Path = _setting(
        "DATA_DIR", "instance", "folder of everything made at run time: database, secret key, queue, data set"
    )
    mnist_dir: Path = _setting(
        "MNIST_DIR", "`DATA_DIR`", "folder of the data set alone (its files are in `MNIST/raw/` below it)"
    )
    host: str = _setting("HOST", "127.0.0.1", "IPv4 address that the web server listens on")
    port: int = _setting("PORT", "8000", "port that the web server listens on")
    web_concurrency: int = _setting("WEB_CONCURRENCY", "number of cores, at most 4", "number of web workers")
    database_url: str = _setting(
        "DATABASE_URL",
        "SQLite in `DATA_DIR`",
        "the database: `postgresql://USER:PASSWORD@HOST/NAME`, or `sqlite:////path/to/file.db`",
    )
    redis_url: str = _setting(
        "REDIS_URL", "the queue is in the database", "`redis://HOST:6379/0`, which then carries the queue"
    )
    admin_password: str = _setting(
        "ADMIN_PASSWORD", "generated, shown once", "sets the administrator's password at the next start"
    )
    admin_token: str = _setting(
        "ADMIN_TOKEN",
        "none: scripts are refused",
        "secret of 16 characters or more that scripts send as `Authorization: Bearer ...`",
    )
    secret_key: str = _setting(
        "SECRET_KEY",
        "generated, in `DATA_DIR` or PostgreSQL",
        "signs session cookies and messages, and keys the digests of addresses",
    )
    https: bool = _setting(
        "HTTPS", "0", "1 behind a TLS proxy: secure cookies, HSTS, one `X-Forwarded-*` hop is trusted"
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings in `environ`; raises SettingsError."""
        data_dir = _writable(Path(environ.get("DATA_DIR") or ROOT / "instance").absolute())
        database_url = _database_url(environ, data_dir)
        return cls(
            data_dir=data_dir,
            mnist_dir=Path(environ.get("MNIST_DIR") or data_dir).absolute(),
            host=environ.get("HOST") or "127.0.0.1",
            port=_whole(environ, "PORT", 8000, 1, 65535),
            web_concurrency=_whole(environ, "WEB_CONCURRENCY", min(os.cpu_count() or 1, 4), 1, 256),
            database_url=database_url,
            redis_url=_redis_url(environ),
            admin_password=environ.get("ADMIN_PASSWORD", ""),
            admin_token=_token(environ),
            secret_key=environ.get("SECRET_KEY") or _kept_secret(data_dir, database_url),
            https=bool(_whole(environ, "HTTPS", 0, 0, 1)),
        )

    @classmethod
    def table(cls) -> list[tuple[str, str, str]]:
        """Variable, default and meaning of every setting."""
        return [tuple(f.metadata[key] for key in ("variable", "default", "meaning")) for f in fields(cls)]


def _whole(environ: Mapping[str, str], variable: str, default: int, least: int, most: int) -> int:
    text = environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise SettingsError(f"{variable} must be a whole number from {least} to {most}, not {text!r}")
    return int(text)


def _database_url(environ: Mapping[str, str], data_dir: Path) -> str:
    """The address of a database, as SQLAlchemy takes it; whether it answers is seen later."""
    text = environ.get("DATABASE_URL")
    if not text:
        return URL.create("sqlite", database=str(data_dir / "inkling.db")).render_as_string()
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError) as error:
        raise SettingsError(f"DATABASE_URL is no address of a database: {error}") from error
    if url.drivername in POSTGRESQL:
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername != "sqlite":
        raise SettingsError(f"DATABASE_URL must begin with postgresql:// or sqlite://, not with {url.drivername}://")
    if url.database in (None, "", ":memory:"):
        raise SettingsError("DATABASE_URL must name a file, since several processes share the database")
    return text


def _redis_url(environ: Mapping[str, str]) -> str:
    """An address that Redis' client takes; whether it answers is seen later."""
    url = environ.get("REDIS_URL", "")
    if url:
        try:
            parse_url(url)
        except ValueError:  # its message is of no use, and might show what is in the address
            raise SettingsError("REDIS_URL must be redis://HOST:PORT/NUMBER, or rediss:// or unix://") from None
    return url


def _token(environ: Mapping[str, str]) -> str:
    token = environ.get("ADMIN_TOKEN", "")
    # What else a header might carry comes out of it changed. `openssl rand -hex 16` makes 128 random bits.
    if token and not re.fullmatch("[!-~]{16,}", token):
        raise SettingsError(
            "ADMIN_TOKEN must have at least 16 characters, all of them ASCII and none of them a space; "
            "`openssl rand -hex 16` makes one"
        )
    return token


def _writable(folder: Path) -> Path:
    """The folder, made where it is missing, for its owner alone."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        shared = is_shared(folder)
    except OSError as error:
        raise SettingsError(f"DATA_DIR cannot be used: {error}") from error
    if shared:  # its other users could leave a database or a key of theirs there
        raise SettingsError(f"DATA_DIR cannot be used: {folder} is shared with others; name a folder below it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"DATA_DIR cannot be used: {folder} is not readable and writable")
    return folder


def _kept_secret(folder: Path, database_url: str) -> str:
    """The installation's secret key, made at the first start and readable by its owner alone.

    Only where the processes share a disk, as with SQLite; empty elsewhere.
    """
    if not database_url.startswith("sqlite"):
        return ""
    path = folder / "secret_key"
    try:
        if not path.exists():
            _make_secret(path)
        secret = _text(path).strip()
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"SECRET_KEY is not set, and that in {path} cannot be read: {error}") from error
    if not secret:
        raise SettingsError(f"SECRET_KEY is not set, and {path} is empty: remove it to get another one")
    return secret


def _text(path: Path) -> str:
    with open(path, encoding="ascii", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a file")
        return file.read()


def _without_waiting(path: str, flags: int) -> int:
    """Opens a path at once: a named pipe would otherwise wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _make_secret(path: Path) -> None:
    own = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        # Linked into place whole: of several processes that start together all read the first one's key.
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
    finally:
        own.unlink(missing_ok=True)
