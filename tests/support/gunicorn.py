"""A real gunicorn, started as an installation starts it, and plain sockets to talk to it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data import mnist
from tests.support.servers import free_port
from webapp.settings import ROOT
from webapp.storage.engine import Database

START_SECONDS = 100
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Server:
    port: int
    data_dir: Path
    process: subprocess.Popen
    log: Path

    def request(self, method: str, path: str, body: bytes | None = None, headers=()) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, dict(headers))
            return _read(connection.getresponse())
        finally:
            connection.close()

    def json(self, method: str, path: str, value: Any, headers=()) -> Answer:
        return self.request(
            method, path, json.dumps(value).encode(), {"Content-Type": "application/json"} | dict(headers)
        )

    def raw(self, *pieces: bytes) -> Answer:
        """The answer to exactly these bytes, sent one after the other."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS) as connection:
            for piece in pieces:
                connection.sendall(piece)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return _read(response)

    def workers(self) -> set[int]:
        """The process numbers of the web workers."""
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def database(self) -> Database:
        return Database(f"sqlite:///{self.data_dir / 'inkling.db'}")


def _read(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, response.headers, response.read())


@contextmanager
def serve(data_dir: Path, workers=2, ready=True, then="", **environment: str):
    """A server with this DATA_DIR on a free port, ready to read unless that is not asked for.

    `then` is code that it runs after its configuration, before there is a worker.
    """
    port = free_port()
    environ = {
        **os.environ,
        "DATA_DIR": str(data_dir),
        "MNIST_DIR": str(mnist.default_folder()),
        "PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        **environment,
    }
    configuration = data_dir.parent / "gunicorn.conf.py"
    configuration.write_text(f"{(ROOT / 'gunicorn.conf.py').read_text()}\n{then}\n")
    path = data_dir.parent / "gunicorn.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", str(configuration)],
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(port, data_dir, process, path)
    try:
        if ready:
            wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def wait_until_ready(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if server.request("GET", "/readyz").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"gunicorn did not start: {server.log.read_text()[-2000:]}")
