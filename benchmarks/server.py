"""A temporary installation and its web server, for the benchmarks."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model.data import mnist
from webapp.settings import ROOT

PAGE_BODIES = Path(__file__).with_name("page_bodies.jsonl")
WORKERS = 2
START_SECONDS = 30
ANSWER_SECONDS = 10


class Failed(Exception):
    """The server did not start or did not answer as it should; the message is one line."""


@dataclass(frozen=True)
class Server:
    """gunicorn on a loopback port."""

    port: int
    process: subprocess.Popen

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """Return the process ids of the web workers."""
        pid = self.process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def get(self, path: str) -> float:
        """Return the seconds that a page takes; raises Failed unless it answers 200."""
        return self._ask("GET", path)

    def predict(self) -> float:
        """Return the seconds that one prediction of a page's picture takes; raises Failed unless it answers 200."""
        return self._ask("POST", "/predict", PAGE_BODIES.read_bytes().split(b"\n", 1)[0])

    def _ask(self, method: str, path: str, body: bytes | None = None) -> float:
        begun = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Failed(f"{path} answers {response.status}")
        return time.perf_counter() - begun

    def wait_until(self, path: str = "/readyz") -> None:
        """Wait until a page answers; raises Failed after START_SECONDS or if the server ends."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.get(path)
                return
            except (OSError, http.client.HTTPException, Failed):
                time.sleep(0.005)
        raise Failed("the server did not start")


@contextmanager
def installation() -> Iterator[Path]:
    """Create a temporary DATA_DIR by set-up, with the shipped version in service."""
    with tempfile.TemporaryDirectory(prefix="inkling-bench-") as folder:
        command = [sys.executable, "-m", "webapp", "setup"]
        subprocess.run(command, cwd=ROOT, env=_environment(Path(folder)), check=True, capture_output=True)
        yield Path(folder)


@contextmanager
def serving(folder: Path, workers: int = WORKERS, app: str | None = None, ready: str = "/readyz") -> Iterator[Server]:
    """Start a web server on the installation in `folder` and wait for the page `ready`; `app` names its application."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = _environment(folder) | {"PORT": str(port), "WEB_CONCURRENCY": str(workers)}
    command = [sys.executable, "-m", "gunicorn", *([app] if app else [])]
    with open(folder / "server.log", "ab") as log:
        server = Server(port, subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log))
    try:
        server.wait_until(ready)
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(START_SECONDS)


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "DATA_DIR": str(folder),
        "MNIST_DIR": str(mnist.default_folder()),
        "ADMIN_PASSWORD": "for this measurement",
    }
