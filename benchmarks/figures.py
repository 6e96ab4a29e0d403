"""A measured figure with its goal, and a table of figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

LIMIT = "limit"


@dataclass(frozen=True)
class Figure:
    """`ours`, in `unit`, compared with `beside`: a limit, a figure measured alternately with it, or None.

    Their ratio should be at most `goal`, or at least `goal` if `more` is better.
    """

    what: str
    unit: str
    ours: float
    beside: float | None = None
    beside_name: str = LIMIT
    goal: float = 1.0
    more: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.beside is None else self.ours / self.beside

    @property
    def met(self) -> bool:
        """Whether the goal is reached; True without a comparison."""
        return self.ratio is None or (self.ratio >= self.goal if self.more else self.ratio <= self.goal)

    def cells(self) -> tuple[str, ...]:
        ours = f"{_rounded(self.ours)} {self.unit}"
        if self.beside is None or self.ratio is None:
            return self.what, ours, "", "", "", ""
        named = "" if self.beside_name == LIMIT else f" ({self.beside_name})"
        beside = f"{_rounded(self.beside)} {self.unit}{named}"
        goal = f"at {'least' if self.more else 'most'} {self.goal:g}"
        return self.what, ours, beside, f"{self.ratio:.2f}", goal, "ok" if self.met else "missed"


HEAD = ("what", "ours", "limit, or measured beside it", "ratio", "goal", "")


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as an aligned Markdown table."""
    rows: list[tuple[str, ...]] = [HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def write(document: Path, name: str, text: str) -> None:
    """Put `text` between the lines "<!-- begin NAME -->" and "<!-- end NAME -->" of a document, which has them once."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    before, _, rest = document.read_text().partition(begin)
    document.write_text(f"{before}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}")


def machine() -> str:
    """Return the machine, the Python version and the date, as a line below a table."""
    found = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    name = found[0] if found else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, Python {platform.python_version()}, {date.today()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # no Linux
        return []


def _rounded(value: float) -> str:
    """Return a value with at least three significant digits."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
