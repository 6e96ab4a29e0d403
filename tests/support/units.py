"""systemctl for tests: carries out the units of deploy/systemd without systemd, below a folder that stands for /.

    python -m tests.support.units FOLDER start|stop|restart|reload|enable|daemon-reload UNIT...

A unit's command gets the environment that it has there, and nothing else of this machine's. Its output is in log/UNIT.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "deploy" / "README.md"
STOP_SECONDS = 30
SCRIPT_SECONDS = 200  # those that wait for a server do so for ever
INSTALLED = re.compile(
    r"(?<![\w.])/(?=opt/|etc/(?:inkling|nginx|systemd|cron\.d)|usr/local/sbin|var/(?:lib|backups)/inkling)"
)
ASSIGNMENT = re.compile(r"^(\w+)=('?)(.*)\2$", re.M)
# Of Debian's programs those that need root, users or systemd, in so far as the documents need them.
PROGRAMS = {
    "systemctl": f'cd {ROOT} && exec {sys.executable} -m tests.support.units {{folder}} "$@"',
    "journalctl": 'exec cat {folder}/log/"$2"',  # -u UNIT
    "useradd": "exit 0",
    "runuser": 'shift 3; exec "$@"',  # -u inkling --: the tests' own user owns everything
}


class Units:
    """The installation below `folder`: releases in opt/, settings in etc/inkling, data in var/lib/inkling."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.env_file = folder / "etc" / "inkling" / "inkling.env"
        self.home = folder / "var" / "lib" / "inkling"
        self.system = folder / "etc" / "systemd" / "system"
        for name in (
            "opt",
            "log",
            "bin",
            "etc/inkling",
            "etc/systemd/system",
            "etc/cron.d",
            "etc/nginx/conf.d",
            "usr/local/sbin",
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.home.mkdir(0o700, parents=True, exist_ok=True)
        for name, does in PROGRAMS.items():
            self.add_program(name, does.format(folder=folder))

    def add_program(self, name: str, script: str) -> None:
        """Puts a shell's script in the place of one of this machine's programs."""
        program = self.folder / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)

    def unpack(self, name: str, release: Path = ROOT) -> Path:
        """Puts a release into opt/, with a virtual environment that has the packages of the tests."""
        from tests.support.cluster import install  # here, or every `systemctl` would take seconds

        program = self.folder / "opt" / name
        install(program, release)
        # What is installed once is this release's, as the documents are that say how.
        shutil.copytree(ROOT / "deploy", program / "deploy", dirs_exist_ok=True)
        by_hand = program / "deploy" / "inkling"
        by_hand.write_text(self.below(by_hand.read_text()))
        virtual = program / ".venv"
        (virtual / "bin").mkdir(parents=True)
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", virtual)
        (virtual / "lib").symlink_to(Path(sys.prefix) / "lib")
        for script in "python", "gunicorn":
            (virtual / "bin" / script).symlink_to(Path(sys.prefix) / "bin" / script)
        return program

    def install(self, name: str) -> None:
        """Installs a release that is unpacked by the commands of deploy/README.md; nothing runs yet."""
        (commands,) = re.findall(r"^ln -s inkling-VERSION.+?(?=^```)", README.read_text(), re.M | re.S)
        done = self.shell(commands.replace("inkling-VERSION", name))
        assert done.returncode == 0, done.stderr

    def write_settings(self, **settings: str) -> None:
        self.env_file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))

    def below(self, text: str) -> str:
        """Text of deploy/ or docs/ with the paths of this installation."""
        return INSTALLED.sub(f"{self.folder}/", text)

    def shell(self, script: str, **more) -> subprocess.CompletedProcess:
        """Runs commands of the documents, with these units in place of systemd's."""
        script = self.below(script).replace("install -d -o inkling", "install -D -d")
        environ = {"PATH": f"{self.folder}/bin:{self.folder}/usr/local/sbin:{os.environ['PATH']}"}
        own = {"env": environ, "capture_output": True, "text": True, "timeout": SCRIPT_SECONDS}
        return subprocess.run(["sh", "-euc", script], **own, **more)

    def start(self, unit: str) -> int:
        """Starts a unit; returns the exit code of one that runs once, else 0."""
        if self.pid(unit) is not None:
            return 0
        text = self._text(unit)
        environ = {"HOME": str(self.home), "USER": "inkling", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        environ |= dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.M))
        for path in re.findall("^EnvironmentFile=(.+)$", text, re.M):
            environ |= {name: value for name, _, value in ASSIGNMENT.findall(Path(path).read_text())}
        (command,) = re.findall("^ExecStart=(.+)$", text, re.M)
        with self.log(unit).open("ab") as log:
            process = subprocess.Popen(
                command.split(),
                cwd=_said(text, "WorkingDirectory"),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if _said(text, "Type") == "oneshot":
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

    def carry_out(self, action: str, names: list[str]) -> int:
        """What `systemctl` does; returns its exit code. A name may be a pattern for units that run."""
        units = [unit for name in names for unit in (fnmatch.filter(self.running(), name) if "*" in name else [name])]
        if action == "reload":
            for unit in units:
                os.kill(self.pid(unit), signal.SIGHUP)
        if action in ("stop", "restart"):
            for unit in units:
                self.stop(unit)
        if action in ("start", "restart", "enable"):
            wanted = {it for unit in units for it in re.findall("^Wants=.*?(inkling-setup)", self._text(unit), re.M)}
            for unit in wanted - {*units}:
                self.start(unit)  # that it succeeds is what Requires= would ask for
            return max(map(self.start, units))
        return 0

    def running(self) -> list[str]:
        return [path.stem for path in sorted(self.folder.glob("*.pid")) if self.pid(path.stem) is not None]

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
        for unit in self.running():
            self.stop(unit)

    def log(self, unit: str) -> Path:
        return self.folder / "log" / unit

    def _text(self, unit: str) -> str:
        """The unit's file and its drop-in, with the paths of this installation."""
        name, _, port = unit.partition("@")
        file = f"{name}{'@' * bool(port)}.service"
        drop_ins = sorted((self.system / f"{file}.d").glob("*.conf"))
        return self.below("\n".join(path.read_text() for path in (*drop_ins, self.system / file))).replace("%i", port)

    def _pid_file(self, unit: str) -> Path:
        return self.folder / f"{unit}.pid"


def _said(text: str, directive: str) -> str | None:
    found = re.search(f"^{directive}=(.+)$", text, re.M)
    return found and found[1]


if __name__ == "__main__":
    _action, *_names = (it for it in sys.argv[2:] if it != "--now")
    sys.exit(Units(Path(sys.argv[1])).carry_out(_action, _names))
