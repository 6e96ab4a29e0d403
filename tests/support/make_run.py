"""`make run` as an operator starts it, in a terminal or into a pipe; and what is left of it afterwards."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from model.data import mnist
from tests.support.servers import free_port, wait_until
from webapp.settings import ROOT

SECONDS = 120.0  # a start or an end, of several at once on a busy machine
MAKE_RUN = "make --old-file .venv/ready run"  # with the packages that run the tests


class Running:
    """An installation's processes, which are known by the DATA_DIR in their environment."""

    def __init__(self, data_dir: Path, log: Path, port: int | None = None):
        self.data_dir, self.log, self.port = data_dir, log, port or free_port()
        self.environ = os.environ | {
            "DATA_DIR": str(data_dir),
            "MNIST_DIR": str(mnist.default_folder()),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
        }
        self.children: list[int] = []
        self.started: list[subprocess.Popen] = []

    def start(self, output: int | socket.socket | None = None) -> subprocess.Popen:
        """Starts what `make run` comes to, with its output in the log unless there is another one."""
        command = [sys.executable, "-m", "webapp", "run"]
        with self.log.open("wb") as log:
            output = output or log
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.started.append(process)
        return process

    def start_in_terminal(self, command: str) -> int:
        """Starts a shell command as the foreground of a new terminal; returns the other side of that terminal."""
        pid, terminal = os.forkpty()
        if pid == 0:
            os.chdir(ROOT)
            os.execvpe("sh", ["sh", "-c", f"{command}; true"], self.environ)
        self.children.append(pid)
        return terminal

    def get(self, path: str) -> int:
        """The status of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    def is_ready(self) -> bool:
        """Whether web and worker are at work."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/readyz") == 200 and len(self.pids("gunicorn")) == 3 and bool(self.pids("webapp worker"))
        return False

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, SECONDS)

    def pids(self, words: str) -> list[int]:
        """The processes whose command line has these words, the oldest first."""
        return [pid for pid, command in self.processes() if words in command]

    def processes(self) -> list[tuple[int, str]]:
        mark = f"\0DATA_DIR={self.data_dir}\0".encode()
        found = []
        for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):
                if mark in b"\0" + (folder / "environ").read_bytes():
                    found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
        return found

    def wait_until_gone(self) -> None:
        """Waits until no process is left and the next start would get the port."""
        try:
            wait_until(lambda: not self.processes() and self.port_is_free(), SECONDS)
        except AssertionError:
            raise AssertionError(f"left behind: {self.processes()}") from None

    def port_is_free(self) -> bool:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", self.port)):
            return True
        return False

    def end(self) -> None:
        """Leaves nothing, whatever a test has left."""
        while processes := self.processes():
            for pid, _ in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for pid in self.children:
            os.waitpid(pid, 0)
        for process in self.started:
            process.wait()
