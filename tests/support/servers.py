"""Real PostgreSQL, Redis and nginx for tests: on loopback, in folders of their own, thrown away afterwards.

Each is a context manager and can be stopped, killed and started again meanwhile:

    with postgresql() as server:
        url = server.create_database()
        server.stop()
        server.start()
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis as redis_client

START_SECONDS = 100
STOP_SECONDS = 30


def free_port() -> int:
    """A free port below those that the system gives to outgoing connections, so that it is free after a stop too."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], object], seconds: float = START_SECONDS):
    """What `condition` returns once that is true. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"did not come true within {seconds} s"
        time.sleep(0.05)
    return found


def found_or_skip(package: str, *programs: str) -> list[str]:
    """The paths of programs. Without one the test is skipped, and says so; where CI is set, that is a failure."""
    # Debian keeps some of them off the PATH.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *map(str, debian)])
    paths = [shutil.which(program, path=folders) for program in programs]
    if None in paths:
        reason = f"{package} is not installed; make cluster-test installs it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return paths


class Server(ABC):
    """A server process on a port of its own, with a folder that lives as long as this object is used."""

    user: str | None = None
    """Whom the server runs as, where that is not who runs the tests."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.log = folder / "log"
        self.process: subprocess.Popen | None = None

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes requests."""

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.identity()
            )
        wait_until(lambda: self.process.poll() is not None or self.answers())
        assert self.process.poll() is None, f"{self.command()[0]} did not start: {self.log.read_text()[-2000:]}"

    def identity(self) -> dict:
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []} if self.user else {}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it by a signal, and returns when it is gone."""
        self.process.send_signal(how)
        self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Postgresql(Server):
    """PostgreSQL. It refuses to run as root, so there it runs as the user that its package has made."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        initdb, self.program = found_or_skip("postgresql", "initdb", "postgres")
        if os.geteuid() == 0:
            self.user = "postgres"
            shutil.chown(folder, self.user)
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", "inkling", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            cwd=folder,
            check=True,
            capture_output=True,
            **self.identity(),
        )

    def command(self) -> list[str]:
        # Without fsync, which only tells when the whole machine fails: no process's death loses what was written.
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        return [self.program, "-D", str(self.folder / "data"), *(f"--{name}={it}" for name, it in options.items())]

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        address = f"host=127.0.0.1 port={self.port} user=inkling dbname={database} connect_timeout=5"
        return psycopg.connect(address, autocommit=True)

    def create_database(self, template: str = "template1") -> str:
        """The DATABASE_URL of a database of its own, empty or a copy of another one that nobody is using."""
        name = f"test_{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"postgresql+psycopg://inkling@127.0.0.1:{self.port}/{name}"

    def require_password(self, url: str, password: str) -> str:
        """The DATABASE_URL, without the password, of a user who owns that database and needs one; others need none."""
        database, user = url.rpartition("/")[2], f"user_{secrets.token_hex(6)}"
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        with self.connect() as connection:
            connection.execute(f"CREATE USER {user} PASSWORD '{password}'")
            connection.execute(f"ALTER DATABASE {database} OWNER TO {user}")
            connection.execute("SELECT pg_reload_conf()")
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """By default in order, without waiting for the clients (SIGINT). SIGQUIT is PostgreSQL's "immediate" stop."""
        super().stop(how)


class Redis(Server):
    """Redis without persistence: what it held is gone when it starts again."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        (self.program,) = found_or_skip("redis-server", "redis-server")

    def command(self) -> list[str]:
        return [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]

    def answers(self) -> bool:
        with contextlib.suppress(redis_client.ConnectionError), self.connect() as client:
            return client.ping()
        return False

    def connect(self) -> redis_client.Redis:
        return redis_client.Redis("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Nginx(Server):
    """nginx with a configuration that somebody else writes to `config`; it must listen on `port`."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        (self.program,) = found_or_skip("nginx", "nginx")
        self.config = folder / "nginx.conf"

    def command(self) -> list[str]:
        return [self.program, "-p", str(self.folder), "-c", str(self.config), "-e", str(self.log), "-g", "daemon off;"]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False


@contextlib.contextmanager
def postgresql() -> Iterator[Postgresql]:
    """A running PostgreSQL without databases of ours."""
    with _folder() as folder, _running(Postgresql(folder)) as server:
        yield server


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    """A running, empty Redis."""
    with _folder() as folder, _running(Redis(folder)) as server:
        yield server


@contextlib.contextmanager
def nginx(configure: Callable[[Nginx], None]) -> Iterator[Nginx]:
    """A running nginx, after `configure` has written its configuration."""
    with _folder() as folder:
        server = Nginx(folder)
        configure(server)
        with _running(server):
            yield server


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        if server.running:
            server.stop()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Not pytest's own, which other users, such as PostgreSQL's, may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="inkling-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
