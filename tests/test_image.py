"""The image is built by buildah as deploy/Containerfile says, and both of its commands work.

No registry of images is needed: the base image is made from Debian's packages, which takes root's rights. Until it has
ended, it takes some gigabytes of disk.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.cluster import descendants, health_check
from tests.support.requests import ONE
from tests.support.servers import found_or_skip, free_port, wait_until
from webapp.settings import ROOT

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800)]

CONTAINERFILE = ROOT / "deploy" / "Containerfile"
# What the build needs of the official base image, in the release of Debian that has the same Python.
SUITE, PACKAGES = "bookworm", "ca-certificates,python-is-python3,python3-venv"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Buildah:
    """buildah with a store of its own, whose containers share this machine's network."""

    def __init__(self, folder: Path):
        (self.program,) = found_or_skip("buildah", "buildah")
        self.options = ["--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs"]
        self.environ = os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(folder)}

    def command(self, *arguments) -> list:
        return [self.program, *self.options, *arguments]

    def __call__(self, *arguments) -> str:
        done = subprocess.run(self.command(*arguments), cwd=ROOT, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout.strip()


@pytest.fixture(scope="module")
def built():
    """A container of the image, and how to run in it."""
    (debootstrap,) = found_or_skip("debootstrap", "debootstrap")
    if os.geteuid() != 0:
        pytest.skip("a base image of Debian's packages takes root's rights")
    folder = Path(tempfile.mkdtemp(prefix="inkling-image-"))
    try:
        buildah = Buildah(folder)
        make_base(buildah, debootstrap, folder)
        began = time.monotonic()
        build = "build", "--pull-never", "--network=host", "--layers=false", *package_settings(folder)
        buildah(*build, "--file", CONTAINERFILE, "--tag", "inkling", ROOT)
        container = buildah("from", "--pull-never", "inkling")
        size = json.loads(buildah("images", "--json", "inkling"))[0]["size"]
        print(f"built in {time.monotonic() - began:.0f} s: {size}")
        yield buildah, container
    finally:
        unmount_below(folder)
        shutil.rmtree(folder)


def unmount_below(folder):
    """What debootstrap and buildah mount there is this machine's: deleting would go into it."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1]
        if target.startswith(f"{folder}/"):
            subprocess.run(["umount", target], check=True)


def make_base(buildah, debootstrap, folder):
    """Makes an image of the name that the Containerfile begins with."""
    (name,) = re.findall(r"^FROM (\S+)$", CONTAINERFILE.read_text(), re.M)
    command = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", SUITE, folder / "base"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    container = buildah("from", "scratch")
    buildah("add", container, folder / "base", "/")
    buildah("config", "--env", f"PATH={PATH}", container)
    buildah("commit", "--rm", container, f"docker.io/library/{name}")
    shutil.rmtree(folder / "base")


def package_settings(folder):
    """Options that give the build this machine's certificates, and where its pip and npm fetch from."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    values = dict(re.findall(r"^[^=]*\.([\w-]+)='(.*)'$", listed, re.M))  # the last of a name counts
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    (folder / "npmrc").write_text(f"cafile = {CERTIFICATES}\n")
    volumes = {
        folder / "pip.conf": "/etc/pip.conf",
        folder / "npmrc": os.path.expanduser("~root/.npmrc"),  # of who builds the image
        CERTIFICATES: CERTIFICATES,
    }
    for value in values.values():
        for path in re.findall(r"(?:^|\s|file://)(/\S+)", value):
            top = Path(*Path(path).parts[:3])
            if top.is_dir() and "ssl" not in top.parts:
                volumes[top] = top
    return [f"--volume={source}:{target}:ro" for source, target in volumes.items()]


@contextlib.contextmanager
def started(built, log, command=None, **environ):
    """Runs the container as a platform does: its entry point with its command, or another one."""
    buildah, container = built
    config = json.loads(buildah("inspect", container))["OCIv1"]["config"]
    given = [f"--env={name}={value}" for name, value in environ.items()]
    words = buildah.command("run", "--network=host", *given, container, "--", *config["Entrypoint"])
    with log.open("wb") as file:
        process = subprocess.Popen([*words, *(command or config["Cmd"])], env=buildah.environ, stdout=file, stderr=file)
    try:
        yield process
    finally:
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        process.wait(60)


def test_image_serves_and_works(built, tmp_path):
    buildah, container = built
    port, log = str(free_port()), tmp_path / "log"

    def is_healthy():
        words = buildah.command(
            "run", "--network=host", f"--env=PORT={port}", container, "--", "sh", "-c", health_check()
        )
        return subprocess.run(words, env=buildah.environ, capture_output=True).returncode == 0

    with started(built, log, PORT=port, HOST="127.0.0.1") as web:
        wait_until(lambda: web.poll() is not None or is_healthy())
        assert web.poll() is None, log.read_text()[-2000:]
        sent = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", json.dumps(ONE).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(sent) as answer:
            assert json.load(answer)["digits"] == [1]
        with started(built, tmp_path / "work", ["python", "-m", "webapp", "worker"]) as worker:
            wait_until(lambda: worker.poll() is not None or "the worker is ready" in (tmp_path / "work").read_text())
            assert worker.poll() is None, (tmp_path / "work").read_text()[-2000:]
    assert "MNIST is in /opt/inkling/mnist, verified" in log.read_text()
    assert buildah("run", container, "--", "id", "-u") == "10001"
