"""How the text of an environment variable becomes a setting's value, and how a value is shown.

Readers raise ValueError with a reason that is said after the variable's name; no reason holds a secret.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.connection import parse_url
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from webapp.private_files import is_shared

POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
LONGEST_SOCKET_PATH = 107  # Linux's sun_path, with its final null byte
# Such as localhost. Four numbers with dots are meant as an address: 10.0.0.300 is none.
HOST_NAME = re.compile(r"(?![0-9.]+$)[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
# 16 random bytes in hexadecimal. The key keeps its meaning for years, in a database that somebody may copy.
SHORTEST_KEY = 32


def number(least: int, most: int) -> Callable[[str], int]:
    """Return the reader of a whole number within these limits."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return read


def flag(text: str) -> bool:
    return bool(number(0, 1)(text))


def one_of(*choices: str) -> Callable[[str], str]:
    """Return the reader of one of these words, in small letters or capitals."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text.lower()

    return read


def host(text: str) -> str:
    """Return an IPv4 or IPv6 address, a host's name, or unix:PATH; whether it is this machine's shows at the start."""
    if text.startswith("unix:"):
        path = "/" + text.removeprefix("unix:").lstrip("/")
        if not text.removeprefix("unix:").startswith("/") or len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(f"must name a socket by unix:/PATH of at most {LONGEST_SOCKET_PATH} bytes, not {text!r}")
        return f"unix:{path}"
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if not HOST_NAME.fullmatch(text):
            raise ValueError(f"must be an IPv4 or IPv6 address, or unix:/PATH, not {text!r}") from None
    return text


def base_path(text: str) -> str:
    """Return a path without its last slash; empty for the root."""
    path = text.rstrip("/")
    if path and (not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path, re.ASCII) or len(path) > 200):
        raise ValueError(f"must be a path such as /inkling, of letters, digits and . _ ~ -, not {text!r}")
    return path


def own_folder(text: str) -> Path:
    """Return a folder that nobody else writes to, created if missing with access for its owner only."""
    folder = Path(text).absolute()
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        shared = is_shared(folder)
    except OSError as error:
        raise ValueError(f"cannot be used: {error}") from error
    if shared:  # other users could put a database or a key there
        raise ValueError(f"cannot be used: {folder} is shared with others; name a folder below it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"cannot be used: {folder} is not readable and writable")
    return folder


def readable_folder(text: str) -> Path:
    """Return a folder that can be read, or that is not there yet: set-up makes it."""
    folder = Path(text).absolute()
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ValueError(f"cannot be used: {error}") from error
    return folder


def database_url(text: str) -> str:
    """Return the database's URL for SQLAlchemy, without connecting."""
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError):  # their messages quote it, perhaps a part of the password
        raise ValueError(
            "is no address of a database, such as postgresql://USER:PASSWORD@HOST:PORT/NAME; in a password "
            "@ : / % are written %40 %3A %2F %25"
        ) from None
    if url.drivername in POSTGRESQL:
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername != "sqlite":
        raise ValueError(f"must begin with postgresql:// or sqlite://, not with {url.drivername}://")
    if url.database in (None, "", ":memory:"):
        raise ValueError("must name a file, since several processes share the database")
    return text


def sqlite_in(data_dir: Path) -> str:
    return URL.create("sqlite", database=str(data_dir / "inkling.db")).render_as_string()


def redis_url(text: str) -> str:
    """Return a URL that Redis' client accepts, without connecting; empty for no Redis."""
    if text:
        try:
            parse_url(text)
        except ValueError:  # its message does not help, and might show a password in the URL
            raise ValueError("must be redis://HOST:PORT/NUMBER, or rediss:// or unix://") from None
    return text


def web_url(text: str) -> str:
    """Return an http:// or https:// URL; empty for none. It may hold a secret, and no reason shows it."""
    try:
        parts = urlsplit(text)
        if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0):
            raise ValueError
    except ValueError:
        raise ValueError("must be http://HOST/PATH or https://HOST/PATH") from None
    if not re.fullmatch("[!-~]*", text):
        raise ValueError("must be ASCII without spaces; others are percent-encoded")
    return text


def token(text: str) -> str:
    """Return a bearer token; empty for none."""
    # Other characters may not pass through a header unchanged. `openssl rand -hex 16` makes 128 random bits.
    if text and not re.fullmatch("[!-~]{16,}", text):
        raise ValueError(
            "must have at least 16 characters, all of them ASCII and none of them a space; "
            "`openssl rand -hex 16` makes one"
        )
    if text and text[0] == text[-1] and text[0] in "'\"":  # a container's environment file has them for characters
        raise ValueError("begins and ends with a quote, which would be a part of it: leave the quotes out")
    return text


def secret_key(text: str) -> str:
    if len(text) < SHORTEST_KEY:
        raise ValueError(
            f"has {len(text)} characters and needs {SHORTEST_KEY}: `openssl rand -hex 32` makes one. With another key "
            "everybody is signed out, and browsers no longer list the corrections that they have sent; receipts stay"
        )
    return text


def secret_key_in(folder: Path) -> str:
    """Return the secret key in the data folder; "" without one, which set-up creates."""
    path = folder / "secret_key"
    try:
        if not os.path.lexists(path):
            return ""
        if not path.is_file():  # reading a named pipe would block
            raise OSError("it is not a file")
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"is not set, and that in {path} cannot be read: {error}") from error
    if not secret:
        raise ValueError(f"is not set, and {path} is empty: remove it to get another one")
    try:
        return secret_key(secret)
    except ValueError as error:
        raise ValueError(f"in {path} {error}") from None


def plain(value: Any) -> str:
    """Show a value as its variable would have it."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def hidden(value: str) -> str:
    """Show only whether a secret is set."""
    return "(set, not shown)" if value else ""


def host_only(url: str) -> str:
    """Show of a URL only the host: its path or query may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/..." if url else ""


def without_password(url: str) -> str:
    """Show a URL without its password, which may be in its query too."""
    url = re.sub(r"(?<=//)([^/?#:]*):[^/?#]*@", r"\1:***@", url)
    return re.sub(r"(?<=[?&])([^=&]*password[^=&]*)=[^&#]*", r"\1=***", url, flags=re.I)
