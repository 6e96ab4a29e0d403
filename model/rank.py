"""Rank of this process among those of a training, processor cores, and errors of a group. Imports no torch."""

from __future__ import annotations

import os
from typing import Any

LOST = 75
"""Exit code of a process that has lost another of its group."""


class Failure(RuntimeError):
    """A training cannot go on: a message for logs and terminals, and in `found` its code with numbers."""

    def __init__(self, message: str, code: str, **numbers: int):
        super().__init__(message)
        self.found: dict[str, Any] = {"code": code, **numbers}


class GroupLost(Failure):
    """Another process of the group has died, or does not do the same; the others cannot go on without it."""


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size() -> int:
    """Return the number of processes that torchrun or the first process has started; 1 for a process on its own."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_rank_zero() -> bool:
    """Return whether this process has rank 0 or is on its own."""
    return os.environ.get("RANK", "0") == "0"
