"""Every setting once: its environment variable, default, meaning, and how it is read and shown.

docs/settings.md is written from it, and `python -m webapp settings` prints what is in force (`webapp.setup.report`).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from webapp import setting_values as values

ROOT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names both."""


class Default(NamedTuple):
    """A default that depends on the machine or on the settings before it: its words in Markdown, and its value."""

    words: str
    value: Callable[[Mapping[str, Any]], Any]


class Setting(NamedTuple):
    """A setting beside its name: the environment variable is the name in capitals.

    `default` is a text as the variable would have it. `meaning` is Markdown. `section` names the part of the page that
    the setting begins.
    """

    default: str | Default
    meaning: str
    read: Callable[[str], Any] = str
    show: Callable[[Any], str] = values.plain
    section: str = ""

    def value(self, variable: str, environ: Mapping[str, str], before: Mapping[str, Any]) -> Any:
        """Return the variable's value in `environ`, or the default; raises SettingsError. An empty one is unset."""
        try:
            if text := environ.get(variable):
                return self.read(text)
            return self.default.value(before) if isinstance(self.default, Default) else self.read(self.default)
        except ValueError as error:
            raise SettingsError(f"{variable} {error}") from error


def _unset(words: str) -> Default:
    """Return the default of a setting that is empty unless given; the words say what that means."""
    return Default(words, lambda before: "")


def _stored_secret_key(before: Mapping[str, Any]) -> str:
    """Return the key in DATA_DIR; "" before set-up, or with PostgreSQL, where the processes need not share a disk."""
    return values.secret_key_in(before["data_dir"]) if before["database_url"].startswith("sqlite") else ""


@dataclass(frozen=True)
class Settings:
    """The settings of a process; `Settings.read()` takes them from the environment.

    `secret_key` is empty if set-up has not created it yet, or if it is stored in PostgreSQL:
    `webapp.storage.secret_key` reads it from there.
    """

    data_dir: Annotated[
        Path,
        Setting(
            Default("`instance`", lambda before: values.own_folder(str(ROOT / "instance"))),
            "folder of everything made at run time: database, secret key, queue, data set",
            values.own_folder,
            section="What is kept, and where",
        ),
    ]
    mnist_dir: Annotated[
        Path,
        Setting(
            Default("`DATA_DIR`", lambda before: before["data_dir"]),
            "folder of the data set alone (its files are in `MNIST/raw/` below it)",
            values.readable_folder,
        ),
    ]
    database_url: Annotated[
        str,
        Setting(
            Default("SQLite in `DATA_DIR`", lambda before: values.sqlite_in(before["data_dir"])),
            "the database: `postgresql://USER:PASSWORD@HOST/NAME`, or `sqlite:////path/to/file.db`",
            values.database_url,
            values.without_password,
        ),
    ]
    redis_url: Annotated[
        str,
        Setting(
            _unset("the queue is in the database"),
            "`redis://HOST:6379/0`, which then carries the queue",
            values.redis_url,
            values.without_password,
        ),
    ]
    retention_days: Annotated[
        int,
        Setting(
            "0",
            "days after which the worker removes corrections, versions that are not in service, trainings and imports "
            "([removal](removal.md)); 0 keeps everything",
            values.number(0, 99_999),
        ),
    ]
    checkpoint_seconds: Annotated[
        int,
        Setting(
            "60",
            "seconds between two checkpoints of a training, at least: a trainer that is killed loses at most these and "
            "one epoch; each writes up to 50 MB into the database's log",
            values.number(0, 86_400),
        ),
    ]
    host: Annotated[
        str,
        Setting(
            "127.0.0.1",
            "address that the web server listens on: IPv4, IPv6 (`::` for both), or `unix:/PATH`, a socket for "
            "a proxy on the same machine",
            values.host,
            section="The web server",
        ),
    ]
    port: Annotated[int, Setting("8000", "port that the web server listens on", values.number(1, 65535))]
    web_concurrency: Annotated[
        int,
        Setting(
            Default("number of cores, at most 4", lambda before: min(os.cpu_count() or 1, 4)),
            "number of web workers",
            values.number(1, 256),
        ),
    ]
    https: Annotated[
        bool,
        Setting("0", "1 behind a TLS proxy: secure cookies, HSTS, one `X-Forwarded-*` hop is trusted", values.flag),
    ]
    trusted_proxies: Annotated[
        int,
        Setting(
            Default("1 with `HTTPS`, otherwise 0", lambda before: int(before["https"])),
            "number of proxies in front, each of which adds its client's address to `X-Forwarded-For`; a request's "
            "client is the address that the outermost has added",
            values.number(0, 16),
        ),
    ]
    base_path: Annotated[
        str,
        Setting(
            _unset("`/`"),
            "path below which everything is served, such as `/inkling`, for a host with several applications; the "
            "proxy passes it on unchanged",
            values.base_path,
        ),
    ]
    log_level: Annotated[
        str,
        Setting(
            "info",
            "`debug`, `info`, `warning` or `error`: log lines from there up; at `warning`, answers are logged only if "
            "they are server errors",
            values.one_of("debug", "info", "warning", "error"),
        ),
    ]
    admin_password: Annotated[
        str,
        Setting(
            _unset("generated, shown once"),
            "sets the first administrator's password at the next start",
            show=values.hidden,
            section="Who may do what",
        ),
    ]
    admin_token: Annotated[
        str,
        Setting(
            _unset("none: scripts are refused"),
            "secret of 16 characters or more that scripts send as `Authorization: Bearer ...`",
            values.token,
            values.hidden,
        ),
    ]
    metrics_token: Annotated[
        str,
        Setting(
            _unset("none: `ADMIN_TOKEN` alone"),
            "secret of the same kind that Prometheus sends; it opens `/metrics` and nothing else",
            values.token,
            values.hidden,
        ),
    ]
    secret_key: Annotated[
        str,
        Setting(
            Default("generated, in `DATA_DIR` or PostgreSQL", _stored_secret_key),
            f"{values.SHORTEST_KEY} characters or more that sign session cookies and messages, and key the digests of "
            "addresses",
            values.secret_key,
            values.hidden,
        ),
    ]
    corrections: Annotated[
        bool,
        Setting(
            "1",
            "0: nobody is asked what a drawing was meant to be, and corrections are refused; those stored before stay",
            values.flag,
        ),
    ]
    read_only: Annotated[
        bool,
        Setting(
            "0",
            "1: readings, gallery and receipts alone; no corrections and no administration, by sign-in or by token. "
            "Authors can still delete what they have sent",
            values.flag,
        ),
    ]
    corrections_per_hour: Annotated[
        int,
        Setting(
            "60",
            "corrections that one address may send in an hour; a school is one address",
            values.number(1, 999_999_999),
            section="Limits",
        ),
    ]
    corrections_per_day: Annotated[
        int,
        Setting(
            "2000",
            "corrections that are taken in a day from all together; two and a half times as many may wait for review",
            values.number(1, 999_999_999),
        ),
    ]
    readings_per_second: Annotated[
        int,
        Setting(
            "100",
            "readings that nginx lets one address have in a second, and those of two seconds at once; like the next "
            "two, it is written into nginx's files by `python -m webapp nginx FOLDER`",
            values.number(1, 1_000_000),
        ),
    ]
    corrections_per_second: Annotated[
        int,
        Setting(
            "5",
            "corrections that nginx lets one address send in a second, and those of six seconds at once",
            values.number(1, 1_000_000),
        ),
    ]
    connections_per_address: Annotated[
        int,
        Setting("256", "requests that nginx lets one address have under way at a time", values.number(1, 65_535)),
    ]
    webhook_url: Annotated[
        str,
        Setting(
            _unset("none"),
            "the worker posts a JSON object there when a training has ended ([trainings](learning.md#webhook))",
            values.web_url,
            values.host_only,
            section="Who is told",
        ),
    ]
    webhook_secret: Annotated[
        str,
        Setting(
            _unset("none: unsigned"),
            "secret of 16 characters or more that signs the webhook: `X-Inkling-Signature: sha256=`, then the "
            "HMAC-SHA256 of its body",
            values.token,
            values.hidden,
        ),
    ]

    @property
    def takes_corrections(self) -> bool:
        return self.corrections and not self.read_only

    @property
    def socket_path(self) -> Path | None:
        """The Unix socket that the web server listens on; None for an address with a port."""
        return Path(self.host.removeprefix("unix:")) if self.host.startswith("unix:") else None

    @property
    def bind(self) -> str:
        """Where the web server listens: HOST:PORT, [HOST]:PORT or unix:PATH."""
        if self.socket_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the settings in `environ`; raises SettingsError."""
        read: dict[str, Any] = {}
        for name, setting in cls.all().items():
            read[name] = setting.value(name.upper(), environ, read)
        return cls(**read)

    @classmethod
    @cache
    def all(cls) -> dict[str, Setting]:
        """Return all settings by their names."""
        return {name: annotated.__metadata__[0] for name, annotated in cls.__annotations__.items()}

    @classmethod
    def variables(cls) -> list[str]:
        """Return the environment variables of all settings."""
        return [name.upper() for name in cls.all()]
