"""Measure every figure of speed that the README quotes: `make bench`, or `python -m benchmarks [PART ...]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from benchmarks import gallery, memory, page, serving, start, training
from benchmarks.figures import Figure, machine, table
from benchmarks.server import Failed

PARTS: dict[str, Callable[[], list[Figure]]] = {
    "serving": serving.figures,
    "start": start.figures,
    "memory": memory.figures,
    "page": page.figures,
    "gallery": gallery.figures,
    "training": training.figures,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parts = parser.parse_args(argv).parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    found = []
    for part in parts:
        print(f"measuring: {part} ...", end=" ", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            found += PARTS[part]()
        except (Failed, OSError) as error:
            print(f"\nbenchmarks: {part}: {error}", file=sys.stderr)
            return 2
        print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    print(f"{table(found)}\n\n{machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
