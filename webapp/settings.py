"""Every setting once, with its environment variable and meaning; docs/settings.md is written from it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, NamedTuple, get_type_hints

from redis.connection import parse_url
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from webapp.private_files import is_shared

ROOT = Path(__file__).resolve().parent.parent
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names both."""


class Meaning(NamedTuple):
    """A setting in the documents: its default and its meaning, in Markdown."""

    default: str
    meaning: str


@dataclass(frozen=True)
class Settings:
    """The settings of a process; `Settings.read()` takes them from the environment.

    `secret_key` is empty if it is stored in PostgreSQL: `webapp.storage.secret_key` reads it from there.
    """

    data_dir: Annotated[
        Path, Meaning("`instance`", "folder of everything made at run time: database, secret key, queue, data set")
    ]
    mnist_dir: Annotated[
        Path, Meaning("`DATA_DIR`", "folder of the data set alone (its files are in `MNIST/raw/` below it)")
    ]
    host: Annotated[str, Meaning("`127.0.0.1`", "IPv4 address that the web server listens on")]
    port: Annotated[int, Meaning("`8000`", "port that the web server listens on")]
    web_concurrency: Annotated[int, Meaning("number of cores, at most 4", "number of web workers")]
    database_url: Annotated[
        str,
        Meaning(
            "SQLite in `DATA_DIR`",
            "the database: `postgresql://USER:PASSWORD@HOST/NAME`, or `sqlite:////path/to/file.db`",
        ),
    ]
    redis_url: Annotated[
        str, Meaning("the queue is in the database", "`redis://HOST:6379/0`, which then carries the queue")
    ]
    admin_password: Annotated[
        str, Meaning("generated, shown once", "sets the administrator's password at the next start")
    ]
    admin_token: Annotated[
        str,
        Meaning(
            "none: scripts are refused",
            "secret of 16 characters or more that scripts send as `Authorization: Bearer ...`",
        ),
    ]
    secret_key: Annotated[
        str,
        Meaning(
            "generated, in `DATA_DIR` or PostgreSQL",
            "signs session cookies and messages, and keys the digests of addresses",
        ),
    ]
    https: Annotated[
        bool, Meaning("`0`", "1 behind a TLS proxy: secure cookies, HSTS, one `X-Forwarded-*` hop is trusted")
    ]

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Return the settings in `environ`; raises SettingsError."""
        data_dir = _writable(Path(environ.get("DATA_DIR") or ROOT / "instance").absolute())
        database_url = _database_url(environ, data_dir)
        return cls(
            data_dir=data_dir,
            mnist_dir=Path(environ.get("MNIST_DIR") or data_dir).absolute(),
            host=environ.get("HOST") or "127.0.0.1",
            port=_integer(environ, "PORT", 8000, 1, 65535),
            web_concurrency=_integer(environ, "WEB_CONCURRENCY", min(os.cpu_count() or 1, 4), 1, 256),
            database_url=database_url,
            redis_url=_redis_url(environ),
            admin_password=environ.get("ADMIN_PASSWORD", ""),
            admin_token=_token(environ),
            secret_key=environ.get("SECRET_KEY") or _secret_in_file(data_dir, database_url),
            https=bool(_integer(environ, "HTTPS", 0, 0, 1)),
        )

    @classmethod
    def variables(cls) -> list[str]:
        """Return the environment variables of all settings."""
        return [setting.name.upper() for setting in fields(cls)]


DOCUMENT = """# Settings

Environment variables, all optional. `python -m webapp settings` writes this page.

| variable | default | meaning |
|---|---|---|
{rows}

Everything made at run time is in `DATA_DIR`, which other users of the machine cannot read; deleting that folder resets
the product. Two installations run side by side with different `DATA_DIR` and `PORT`. A proxy in front (nginx, say) also
keeps slow clients from holding the workers.
"""


def document() -> str:
    """Return the page of docs/ that describes every setting."""
    hints = get_type_hints(Settings, include_extras=True).items()
    rows = (f"| `{name.upper()}` | {' | '.join(hint.__metadata__[0])} |" for name, hint in hints)
    return DOCUMENT.format(rows="\n".join(rows))


def _integer(environ: Mapping[str, str], variable: str, default: int, least: int, most: int) -> int:
    text = environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise SettingsError(f"{variable} must be a whole number from {least} to {most}, not {text!r}")
    return int(text)


def _database_url(environ: Mapping[str, str], data_dir: Path) -> str:
    """Return the database's URL for SQLAlchemy, without connecting."""
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
    """Return a URL that Redis' client accepts, without connecting; empty if unset."""
    url = environ.get("REDIS_URL", "")
    if url:
        try:
            parse_url(url)
        except ValueError:  # its message does not help, and might show a password in the URL
            raise SettingsError("REDIS_URL must be redis://HOST:PORT/NUMBER, or rediss:// or unix://") from None
    return url


def _token(environ: Mapping[str, str]) -> str:
    token = environ.get("ADMIN_TOKEN", "")
    # Other characters may not pass through a header unchanged. `openssl rand -hex 16` makes 128 random bits.
    if token and not re.fullmatch("[!-~]{16,}", token):
        raise SettingsError(
            "ADMIN_TOKEN must have at least 16 characters, all of them ASCII and none of them a space; "
            "`openssl rand -hex 16` makes one"
        )
    return token


def _writable(folder: Path) -> Path:
    """Return the folder, created if missing with access for its owner only; raises SettingsError if unusable."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        shared = is_shared(folder)
    except OSError as error:
        raise SettingsError(f"DATA_DIR cannot be used: {error}") from error
    if shared:  # other users could put a database or a key there
        raise SettingsError(f"DATA_DIR cannot be used: {folder} is shared with others; name a folder below it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"DATA_DIR cannot be used: {folder} is not readable and writable")
    return folder


def _secret_in_file(folder: Path, database_url: str) -> str:
    """Return the secret key in the data folder, which the first start creates, readable by its owner only.

    Return "" with PostgreSQL, where the processes need not share a disk.
    """
    if not database_url.startswith("sqlite"):
        return ""
    path = folder / "secret_key"
    try:
        if not path.exists():
            _create_secret(path)
        if not path.is_file():  # reading a named pipe would block
            raise OSError("it is not a file")
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"SECRET_KEY is not set, and that in {path} cannot be read: {error}") from error
    if not secret:
        raise SettingsError(f"SECRET_KEY is not set, and {path} is empty: remove it to get another one")
    return secret


def _create_secret(path: Path) -> None:
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        # Linked into place complete: several processes that start together all read the first one's key.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
