"""The code that makes a network: a digest that changes when this package does, and the libraries' versions."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path


@functools.cache
def digest() -> str:
    """SHA-256, in hex, of the names and texts of the package's modules."""
    found = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def libraries() -> dict[str, str]:
    """Return the versions of those that decide about the last bit of a training."""
    return {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")}
