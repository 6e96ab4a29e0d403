"""A cluster on loopback: PostgreSQL, Redis, nginx as deploy/ configures it, web replicas and workers.

The replicas and workers have nothing in common but DATABASE_URL and REDIS_URL: each has a folder of its own, empty at
the start.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from model.data import mnist
from tests.conftest import PASSWORD, TOKEN
from tests.support import servers
from tests.support.servers import Nginx, Postgresql, Redis, free_port, wait_until
from tests.support.versions import computed
from webapp.settings import ROOT
from webapp.storage.engine import Database

HOST = "inkling.example"
DEPLOY = ROOT / "deploy"
ANSWER_SECONDS = 30
STOP_SECONDS = 30
WEB_WORKERS = 1  # of each replica: with two cores, two of them in all are as many as make sense
JSON = {"Content-Type": "application/json"}
SCRIPT = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Process:
    """A command of the product with a folder of its own, started as a deployment starts it.

    Its program is a copy, of what deploy/Containerfile puts into the image; `release` is the checkout to copy from.
    """

    def __init__(self, folder: Path, command: list[str], release: Path = ROOT, **environ: str):
        self.folder, self.command = folder, command
        self.program = folder / "program"
        install(self.program, release)
        self.data_dir, self.log = folder / "data", folder / "log"
        self.data_dir.mkdir(parents=True)
        self.environ = os.environ | environ | {"DATA_DIR": str(self.data_dir)}
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = self.spawn(*self.command)

    def spawn(self, *command: str) -> subprocess.Popen:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.program,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """Ends it in order; its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Ends it, and what it has started, without a word."""
        pids = [self.process.pid, *descendants(self.process.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)


class Replica(Process):
    """A web server, asked past nginx."""

    def __init__(self, folder: Path, release: Path = ROOT, **environ: str):
        self.port = free_port()
        own = {"PORT": str(self.port), "WEB_CONCURRENCY": str(WEB_WORKERS)}
        super().__init__(folder, ["gunicorn"], release, **own, **environ)

    def ask(self, method: str, path: str, body=None, headers=()) -> Answer:
        """As Cluster.ask, from nginx's place."""
        body, headers = encoded(body, headers)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        return exchange(connection, method, path, body, {"Host": HOST, "X-Forwarded-Proto": "https", **dict(headers)})

    def is_ready(self) -> bool:
        with suppress(OSError):
            return self.ask("GET", "/readyz").status == 200
        return False

    def is_reached(self) -> bool:
        """Whether its port takes connections."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def web_workers(self) -> set[int]:
        return set(children(self.process.pid))


@dataclass
class BehindNginx:
    """Two replicas behind nginx as deploy/ configures it, and how to ask them through it."""

    nginx: Nginx
    http_port: int
    replicas: list[Replica]
    tls: ssl.SSLContext = field(repr=False)

    def connect(self, address: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """A connection to nginx from this client's address, any of 127.0.0.0/8."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self.nginx.port, timeout=ANSWER_SECONDS, source_address=(address, 0), context=self.tls
        )

    def ask(self, method: str, path: str, body=None, headers=(), address: str = "127.0.0.1") -> Answer:
        """One request on a connection of its own; `body` is bytes, or what is sent as JSON."""
        body, headers = encoded(body, headers)
        return exchange(self.connect(address), method, path, body, {"Host": HOST, **dict(headers)})

    def raw(self, *pieces: bytes) -> Answer:
        """The answer to exactly these bytes."""
        connection = self.connect()
        connection.connect()
        with connection.sock as sock:
            for piece in pieces:
                sock.sendall(piece)
            response = http.client.HTTPResponse(sock)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def access_log(self) -> list[dict]:
        """What nginx has logged so far."""
        return [json.loads(line) for line in (self.nginx.folder / "access.log").read_text().splitlines()]


@dataclass
class Cluster(BehindNginx):
    """All of it."""

    postgresql: Postgresql
    redis: Redis
    workers: list[Process]
    database: Database

    def settle(self) -> None:
        """Starts what is not running, and waits until every replica is ready."""
        for server in (self.postgresql, self.redis, *self.replicas, *self.workers):
            if not server.running:
                server.start()
        for replica in self.replicas:
            wait_until(replica.is_ready)

    def logs(self) -> str:
        return "\n".join(f"== {it.folder.name}\n{it.log.read_text()}" for it in (*self.replicas, *self.workers))


class Browser:
    """A cookie and the CSRF token of the page seen last, as a person's browser keeps them."""

    def __init__(self, ask):
        self.ask, self.cookie, self.token = ask, "", ""
        self.get("/admin/sign-in")

    def get(self, path: str, ask=None) -> Answer:
        page = (ask or self.ask)("GET", path, None, {"Cookie": self.cookie, "Accept": "text/html"})
        if found := re.search(rb'name="csrf_token" value="([^"]+)"', page.body):
            self.token = found[1].decode()
        return self._kept(page)

    def post(self, path: str, ask=None, headers=(), **form: str) -> Answer:
        sent = urlencode({"csrf_token": self.token} | form).encode()
        own = {"Cookie": self.cookie, "Accept": "text/html", "Referer": f"https://{HOST}/"}
        form_type = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._kept((ask or self.ask)("POST", path, sent, own | form_type | dict(headers)))

    def sign_in(self, password: str, **headers: str) -> Answer:
        return self.post("/admin/sign-in", headers=headers, password=password)

    def _kept(self, answer: Answer) -> Answer:
        if set_cookie := answer.headers["Set-Cookie"]:
            self.cookie = set_cookie.split(";")[0]
        return answer


def encoded(body, headers) -> tuple[bytes | None, dict[str, str]]:
    """Body and headers; whatever is no bytes is sent as JSON."""
    if body is None or isinstance(body, bytes):
        return body, dict(headers)
    return json.dumps(body).encode(), JSON | dict(headers)


def exchange(connection: http.client.HTTPConnection, method, path, body, headers) -> Answer:
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@contextmanager
def running(folder: Path, replicas=2, workers=2) -> Iterator[Cluster]:
    """A cluster that has been set up and answers."""
    with ExitStack() as stack:
        postgresql = stack.enter_context(servers.postgresql())
        redis = stack.enter_context(servers.redis())
        url = postgresql.create_database()
        environ = {
            "DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "MNIST_DIR": str(mnist.default_folder()),
            "HTTPS": "1",
            "ADMIN_PASSWORD": PASSWORD,
            "ADMIN_TOKEN": TOKEN,
            "SECRET_KEY": "",
            "CHECKPOINT_SECONDS": "0",  # after each epoch: tests kill trainers that have one
        }
        web = [Replica(folder / f"replica{n}", **environ) for n in range(replicas)]
        work = [Process(folder / f"worker{n}", ["webapp", "worker"], **environ) for n in range(workers)]
        assert web[0].spawn("webapp", "setup").wait(servers.START_SECONDS) == 0, web[0].log.read_text()
        database = Database(url)
        stack.callback(database.close)
        computed(database)
        front = stack.enter_context(behind_nginx(folder, web))
        cluster = Cluster(**vars(front), postgresql=postgresql, redis=redis, workers=work, database=database)
        try:
            cluster.settle()
            yield cluster
        finally:
            for process in (*web, *work):
                if process.running:
                    process.kill()


@contextmanager
def behind_nginx(folder: Path, replicas: list[Replica]) -> Iterator[BehindNginx]:
    """nginx in front of replicas that somebody else starts and ends."""
    certify(folder)
    http_port, ports = free_port(), [replica.port for replica in replicas]
    tls = ssl.create_default_context(cafile=folder / "fullchain.pem")
    tls.check_hostname = False  # it is asked by its address
    with servers.nginx(lambda server: configure(server, folder, http_port, ports)) as nginx:
        yield BehindNginx(nginx, http_port, replicas, tls)


def install(folder: Path, release: Path = ROOT) -> None:
    """Copies of the product what deploy/Containerfile copies."""
    folder.mkdir(parents=True)
    for names in re.findall(r"^COPY (.+)$", (release / "deploy" / "Containerfile").read_text(), re.M):
        *sources, target = names.split()
        for source in sources:
            path = release / source
            if path.is_dir():
                shutil.copytree(path, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, folder / target)


def health_check() -> str:
    """The command by which the image's health is asked, for a shell."""
    text = (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", "")
    (command,) = re.findall(r"^HEALTHCHECK .*?CMD (.+)$", text, re.M)
    return command


def certify(folder: Path) -> None:
    """A certificate as deploy/nginx/inkling.conf names it, signed by itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip


def configure(server: Nginx, certificates: Path, http_port: int, replicas: list[int], connections=2048) -> None:
    """Writes deploy/nginx as it is, with this machine's ports and paths in place of those to be edited."""
    shutil.copytree(DEPLOY / "nginx" / "inkling", server.folder / "inkling", dirs_exist_ok=True)
    text = (DEPLOY / "nginx" / "inkling.conf").read_text()
    for pattern, found, by in (
        (r"listen 80;", 1, f"listen 127.0.0.1:{http_port};"),
        (r"listen 443 ", 1, f"listen 127.0.0.1:{server.port} "),
        (r"listen \[::\]:\d+.*;", 2, ""),
        (r"/etc/ssl/inkling", 2, str(certificates)),
        (r"/var/log/nginx/inkling.log", 1, str(server.folder / "access.log")),
        (r"server 127.0.0.1:8001 ", 2, f"server 127.0.0.1:{replicas[0]} "),
        (r"server 127.0.0.1:8002 ", 2, f"server 127.0.0.1:{replicas[1]} "),
    ):
        text, count = re.subn(pattern, by, text)
        assert count == found, pattern
    (server.folder / "inkling.conf").write_text(text)
    temporary = "".join(
        f"    {kind}_temp_path {server.folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    server.config.write_text(
        f"pid {server.folder}/nginx.pid;\nworker_processes 1;\nevents {{ worker_connections {connections}; }}\n"
        f"http {{\n{temporary}    include inkling.conf;\n}}\n"
    )


def children(pid: int) -> list[int]:
    found = []
    with suppress(FileNotFoundError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


@dataclass(frozen=True)
class Sent:
    """One request of a load: when it began and ended, and its status, 0 where the connection broke."""

    began: float
    ended: float
    status: int
    answer: dict | None


class Clients:
    """Threads that ask until the end of a `with` block, a client each: `ask` returns once `_stop` is set."""

    def __init__(self, ask: Callable[[Any], None], clients: Iterable[Any]):
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=ask, args=(client,)) for client in clients]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Load(Clients):
    """Clients that post to an address all the time, each on a connection that it keeps.

    Each has an address of its own unless `source` is that of all: nginx refuses more than a hundred readings a second
    from one.
    """

    def __init__(
        self, cluster: BehindNginx, body: dict, clients=4, pause=0.02, path="/predict", expected=200, source=""
    ):
        self._cluster, self._body, self._pause = cluster, json.dumps(body).encode(), pause
        self._path, self._expected = path, expected
        super().__init__(self._ask, (source or f"127.0.1.{n + 1}" for n in range(clients)))
        self.sent: list[Sent] = []

    def _ask(self, address: str) -> None:
        connection = self._cluster.connect(address)
        while not self._stop.wait(self._pause):
            began, status, answer = time.monotonic(), 0, None
            try:
                connection.request("POST", self._path, self._body, {"Host": HOST, **JSON})
                response = connection.getresponse()
                status, answer = response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            self.sent.append(Sent(began, time.monotonic(), status, answer))
        connection.close()

    def wait_for(self, count: int) -> list[Sent]:
        """The next `count` requests, from now on."""
        first = len(self.sent)
        wait_until(lambda: len(self.sent) >= first + count)
        return self.sent[first:]

    @property
    def failed(self) -> list[Sent]:
        return [one for one in self.sent if one.status != self._expected]
