"""Identity of the code that trains a network: digest of this package, versions of the libraries."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path


@functools.cache
def digest() -> str:
    """Return the SHA-256, in hex, of the names and texts of the package's modules."""
    found = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that may change the last bit of a training."""
    return {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")}
