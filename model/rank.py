"""Which of several processes this is, and on how many cores. Imports no torch."""

from __future__ import annotations

import os
from typing import Any

LOST = 75
"""The exit code of a process that has lost the others."""


class Failure(RuntimeError):
    """Why a training cannot go on: a message for logs and terminals, and in `found` its code with the numbers."""

    def __init__(self, message: str, code: str, **numbers: int):
        super().__init__(message)
        self.found: dict[str, Any] = {"code": code, **numbers}


class GroupLost(Failure):
    """Another of the processes that train together has died or gone astray; none can go on without it."""


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size() -> int:
    """How many processes torchrun, or the first of them, has started; 1 where this is just a program."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_rank_zero() -> bool:
    """Whether this is just a program, or the first of those that were started."""
    return os.environ.get("RANK", "0") == "0"
