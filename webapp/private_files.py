"""File permissions: everything made at run time is readable by its owner alone.

Files are created that way (`create`, and `Path.mkdir(0o700)` for folders), since a file that is closed only afterwards
may have been opened by others in between. Set-up closes what earlier releases left open (`close`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO
SHARED = stat.S_ISVTX | stat.S_IWOTH  # the mode of /tmp
# Everything that an installation has in DATA_DIR, with copies of it and logs that may lie beside it.
NAMES = (
    *("inkling*", "queue.db*", "*secret_key*", "static", "MNIST", ".mnist-*", "supervisord.*", "*.log", "log"),
    "lost+found",  # of a file system that is mounted there
)


def create(path: Path) -> None:
    """Creates an empty file unless there is a file already; raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600))


def is_shared(folder: Path) -> bool:
    """Whether a folder is one for all users, such as /tmp, and holds something else than an installation of this user.

    An empty one will do: containers mount a file system in memory with such a mode.
    """
    if folder.stat().st_mode & SHARED != SHARED:
        return False
    return any(not _is_ours(entry.name) or entry.lstat().st_uid != os.geteuid() for entry in folder.iterdir())


def close(folder: Path, others: Iterable[Path], say: Callable[[str], object]) -> None:
    """Takes all permissions on an installation's folder, the files in it and the `others` from group and others.

    A folder that holds other things than an installation, perhaps a home or /srv, keeps its mode: closing it would lock
    out other programs. `say` gets a line for what stays open.
    """
    entries = sorted(folder.iterdir())
    ours = [entry for entry in entries if _is_ours(entry.name)]
    if len(ours) == len(entries):
        ours.insert(0, folder)  # the first to be closed, and with it all that is in it
    elif folder.stat().st_mode & OTHERS:
        say(f"Warning: {folder} holds other things too and stays open to other users; name a folder of its own")
    reasons = [reason for path in (*ours, *others) if (reason := _without(path))]
    if reasons:
        say(f"Warning: other users may have access to {', '.join(reasons)}")


def _is_ours(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in NAMES)


def _without(path: Path) -> str | None:
    """Closes a file or a folder; returns its name and why not, where it stays open."""
    try:
        mode = path.stat().st_mode
        if not mode & OTHERS:
            return None
        if mode & SHARED == SHARED:
            return f"{path} (it is a folder for all users)"
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
        # Some file systems take a mode and go on with their own.
        return f"{path} (its file system has no permissions)" if path.stat().st_mode & OTHERS else None
    except FileNotFoundError:  # a journal that has ended, or a link that leads nowhere
        return None
    except OSError as error:
        return f"{path} ({error.strerror})"
