"""Every figure that docs/measurements.md quotes: `make bench`, or `python -m benchmarks [PART ...]`.

`--write` puts the tables into docs/measurements.md; `--strokes FOLDER` measures recognition as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from benchmarks import gallery, memory, page, recognition, start, training
from benchmarks import serving as requests
from benchmarks.figures import Figure, machine, table, write
from benchmarks.server import Failed, installation, serving
from webapp.settings import ROOT

DOCUMENT = ROOT / "docs" / "measurements.md"

PARTS: dict[str, Callable[[], list[Figure]]] = {
    "serving": requests.figures,
    "start": start.figures,
    "memory": memory.figures,
    "page": page.figures,
    "gallery": gallery.figures,
    "training": training.figures,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--strokes", metavar="FOLDER", help="measure recognition too, on *.jsonl.gz files of strokes")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.relative_to(ROOT)}")
    args = parser.parse_args(argv)
    parts = args.parts or list(PARTS)
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
    tables = {"speed": f"{table(found)}\n\n{machine()}"}
    if args.strokes:
        try:
            with installation() as folder, serving(folder) as server:
                tables["recognition"] = f"{recognition.measured(args.strokes, server.url)}\n\n{machine()}"
        except (Failed, OSError, *recognition.ERRORS) as error:
            print(f"benchmarks: recognition: {error}", file=sys.stderr)
            return 2
    for name, text in tables.items():
        print(f"\n{text}")
        if args.write:
            write(DOCUMENT, name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
