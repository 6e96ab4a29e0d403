"""Writing files so that a reader, or a crash, never meets half of one."""

import contextlib
import os
import tempfile
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file beside `path`, then put it there in one step; raises OSError, leaving nothing behind."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as beside:
        try:
            beside.write(data)
            beside.flush()
            os.fsync(beside.fileno())
            os.chmod(beside.name, 0o644)  # a temporary file is its owner's alone; the server may be somebody else
            os.replace(beside.name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside.name)
            raise
