"""systemctl for tests: carries out the units of deploy/systemd without systemd, below a folder that stands for /.

    python -m tests.support.units FOLDER start|stop|restart UNIT...

A unit's command gets the environment that it has there, and nothing else of this machine's. Its output is in log/UNIT.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
STOP_SECONDS = 30
INSTALLED = re.compile(r"(?<![\w.])/(?=opt/|etc/inkling|var/lib/inkling)")


class Units:
    """The installation below `folder`: releases in opt/, settings in etc/inkling, data in var/lib/inkling."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.env_file = folder / "etc" / "inkling" / "inkling.env"
        self.home = folder / "var" / "lib" / "inkling"
        for path in (self.env_file.parent, folder / "opt", folder / "log", folder / "bin"):
            path.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(0o700, parents=True, exist_ok=True)

    def unpack(self, name: str, release: Path = ROOT) -> Path:
        """Puts a release into opt/, with a virtual environment that has the packages of the tests."""
        from tests.support.cluster import install  # here, or every `systemctl` would take seconds

        program = self.folder / "opt" / name
        install(program, release)
        virtual = program / ".venv"
        (virtual / "bin").mkdir(parents=True)
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", virtual)
        (virtual / "lib").symlink_to(Path(sys.prefix) / "lib")
        for script in "python", "gunicorn":
            (virtual / "bin" / script).symlink_to(Path(sys.prefix) / "bin" / script)
        return program

    def write_settings(self, **settings: str) -> None:
        self.env_file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))

    def below(self, text: str) -> str:
        """Text of deploy/ or docs/ with the paths of this installation."""
        return INSTALLED.sub(f"{self.folder}/", text)

    def shell(self, script: str, **more) -> subprocess.CompletedProcess:
        """Runs commands of the documents, with these units in place of systemd's."""
        systemctl = self.folder / "bin" / "systemctl"
        systemctl.write_text(
            f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m tests.support.units {self.folder} "$@"\n'
        )
        systemctl.chmod(0o700)
        # There is no such user here: the tests' own owns everything.
        script = self.below(script).replace("runuser -u inkling --", "env")
        environ = {"PATH": f"{systemctl.parent}:{os.environ['PATH']}"}
        return subprocess.run(["sh", "-euc", script], env=environ, capture_output=True, text=True, **more)

    def start(self, unit: str) -> int:
        """Starts a unit; returns the exit code of one that runs once, else 0."""
        file, _, port = unit.partition("@")
        own = (UNITS / f"{file}{'@' * bool(port)}.service").read_text()
        text = self.below((UNITS / "inkling-common.conf").read_text() + own).replace("%i", port)
        environ = {"HOME": str(self.home), "USER": "inkling", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        environ |= dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.M))
        environ |= dict(re.findall(r"^(\w+)='(.*)'$", self.env_file.read_text(), re.M))
        (command,) = re.findall("^ExecStart=(.+)$", text, re.M)
        (cwd,) = re.findall("^WorkingDirectory=(.+)$", text, re.M)
        with self.log(unit).open("ab") as log:
            process = subprocess.Popen(
                command.split(),
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if re.search("^Type=oneshot$", text, re.M):
            return process.wait()
        self._pid_file(unit).write_text(str(process.pid))
        return 0

    def stop(self, unit: str) -> None:
        """Ends a unit in order, and returns when it is gone."""
        pid, end = self.pid(unit), time.monotonic() + STOP_SECONDS
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        while self.pid(unit) is not None:
            assert time.monotonic() < end, f"{unit} did not stop"
            time.sleep(0.05)

    def pid(self, unit: str) -> int | None:
        """The process of a unit; None where it does not run."""
        try:
            pid = int(self._pid_file(unit).read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if state == "Z" else pid  # ended, and its parent has not asked how

    def release_of(self, unit: str) -> str:
        """The folder of the release that a unit runs."""
        return Path(os.readlink(f"/proc/{self.pid(unit)}/cwd")).name

    def end(self) -> None:
        for path in self.folder.glob("*.pid"):
            self.stop(path.stem)

    def log(self, unit: str) -> Path:
        return self.folder / "log" / unit

    def _pid_file(self, unit: str) -> Path:
        return self.folder / f"{unit}.pid"


if __name__ == "__main__":
    units = Units(Path(sys.argv[1]))
    for name in sys.argv[3:]:
        if sys.argv[2] != "start":
            units.stop(name)
        if sys.argv[2] != "stop" and (code := units.start(name)):
            sys.exit(code)
