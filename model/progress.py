"""Progress of long work on a terminal; nothing where the output is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar() -> Iterator[Callable[[float], None]]:
    """A bar that moves to each fraction, 0 to 1, that is told."""
    with tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar:
        yield lambda fraction: bar.update(100 * fraction - bar.n)
