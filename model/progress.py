"""Progress bars on a terminal; nothing where the output is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar() -> Iterator[Callable[[float], None]]:
    """Show a bar; yield a function that moves it to a fraction, 0 to 1."""
    with tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar:
        yield lambda fraction: bar.update(100 * fraction - bar.n)
