"""Progress of long work on a terminal; nothing where the output is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from model.training.train import Progress


@contextmanager
def progress_bar() -> Iterator[Callable[[float], None]]:
    """A bar that moves to each fraction, 0 to 1, that is told."""
    with tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as bar:
        yield lambda fraction: bar.update(100 * fraction - bar.n)


@contextmanager
def training_bar() -> Iterator[Callable[[Progress], None]]:
    """The same for a training's progress."""
    with progress_bar() as move:
        yield lambda progress: move(progress.fraction)
