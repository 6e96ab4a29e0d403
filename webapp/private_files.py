"""File permissions: only the owner may read files created at run time.

Files are created that way (`create`, and `Path.mkdir(0o700)` for folders), since a file that is restricted only
afterwards may have been opened by others in between. Set-up restricts the files of earlier releases (`restrict`).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO
SHARED = stat.S_ISVTX | stat.S_IWOTH  # the mode of /tmp
# The names of an installation's files in DATA_DIR, their copies, and logs that may lie beside them.
NAMES = (
    *("inkling*", "queue.db*", "*secret_key*", "static", "MNIST", ".mnist-*", "supervisord.*", "*.log", "log"),
    "lost+found",  # of a file system that is mounted there
)


def create(path: Path) -> None:
    """Create an empty file unless there is a file already; raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600))


def write(path: Path, data: bytes) -> None:
    """Put a file in place, complete or not at all; raises OSError and leaves nothing behind."""
    beside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            give_to_owner(file.fileno(), path.parent)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def give_to_owner(descriptor: int, folder: Path) -> None:
    """Give a file that root has created to the owner of its folder, who could not open it otherwise."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def is_shared(folder: Path) -> bool:
    """Return whether a folder is for all users, such as /tmp, and holds other files than this user's installation.

    An empty one is not: containers mount a file system in memory with such a mode.
    """
    if folder.stat().st_mode & SHARED != SHARED:
        return False
    return any(not _is_ours(entry.name) or entry.lstat().st_uid != os.geteuid() for entry in folder.iterdir())


def restrict(folder: Path, others: Iterable[Path], say: Callable[[str], object]) -> None:
    """Remove the permissions of group and others on an installation's folder, the files in it and the `others`.

    A folder with other files than an installation's, perhaps a home or /srv, keeps its mode: restricting it would lock
    out other programs. `say` gets a warning for each path that stays open.
    """
    entries = sorted(folder.iterdir())
    ours = [entry for entry in entries if _is_ours(entry.name)]
    if len(ours) == len(entries):
        ours.insert(0, folder)  # first, which protects all files in it at once
    elif folder.stat().st_mode & OTHERS:
        say(f"Warning: {folder} holds other things too and stays open to other users; name a folder of its own")
    reasons = [reason for path in (*ours, *others) if (reason := _restrict_one(path))]
    if reasons:
        say(f"Warning: other users may have access to {', '.join(reasons)}")


def _is_ours(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in NAMES)


def _restrict_one(path: Path) -> str | None:
    """Restrict a file or a folder; return its name and the reason if it stays open."""
    try:
        mode = path.stat().st_mode
        if not mode & OTHERS:
            return None
        if mode & SHARED == SHARED:
            return f"{path} (it is a folder for all users)"
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
        # Some file systems accept a mode and ignore it.
        return f"{path} (its file system has no permissions)" if path.stat().st_mode & OTHERS else None
    except FileNotFoundError:  # a journal deleted meanwhile, or a dangling link
        return None
    except OSError as error:
        return f"{path} ({error.strerror})"
