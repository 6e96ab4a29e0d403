"""Writing files so that a reader, or a crash, never meets half of one."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_beside(path: Path, data: bytes) -> None:
    """Write a file beside `path`, then put it there in one step; raises OSError, leaving nothing behind."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as beside:
        name = beside.name
    try:
        with open(name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # a temporary file is its owner's alone; the server may be somebody else
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
