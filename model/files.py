"""Atomic writing of files."""

import contextlib
import os
import tempfile
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Write a temporary file beside `path`, then rename it; raises OSError and leaves nothing behind."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as beside:
        try:
            beside.write(data)
            beside.flush()
            os.fsync(beside.fileno())
            os.chmod(beside.name, 0o644)  # temporary files are 0600, and the server may run as another user
            os.replace(beside.name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside.name)
            raise
