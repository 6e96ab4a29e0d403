"""Derived random seeds: one for each purpose, so that no two purposes share a stream of random numbers."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(purpose: str, *numbers: int) -> int:
    """Return a seed, 0 to 2**32 - 1, for a purpose and numbers (0 to 2**64 - 1 each), equal on every machine.

    32 bits, because torch's CPU generator uses no more of its seed.
    """
    return int(np.random.SeedSequence([zlib.crc32(purpose.encode()), *numbers]).generate_state(1)[0])
