"""Measure what decoding a photo takes: `python -m benchmarks.decoding [PICTURE ...]`.

Processor time and peak memory of each picture file named, in a process that has read nothing before; without names, of
a made photo of 12 and of 25 million pixels in each format that Pillow writes, as far as it has at most 10 MB.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from model.imaging.decode import MAX_BYTES, open_picture

SIZES = {12: (4_000, 3_000), 25: (5_770, 4_330)}
OPTIONS: dict[str, dict] = {
    "PNG": {}, "JPEG": {"quality": 88}, "WEBP": {"quality": 80, "method": 0}, "GIF": {},
    "TIFF": {"compression": "tiff_lzw"}, "AVIF": {"quality": 60, "speed": 10},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'picture':<16} {'MB':>5} {'ms':>6} {'MB more':>8}  {'in a process of its own, MB':>28}")
        for path in args.pictures or photos(Path(folder)):
            command = [sys.executable, "-m", "benchmarks.decoding", "--one", str(path)]
            ms, more, apart = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            print(f"{path.name:<16} {path.stat().st_size / 1e6:>5.1f} {ms:>6.0f} {more:>8.0f}  {apart or '':>28}")


def measure(path: Path) -> tuple[float, float, int]:
    """Return milliseconds of the processor, megabytes of this process's peak growth and of a child's peak."""
    data = path.read_bytes()
    before, began = kilobytes("VmRSS"), time.process_time()
    open_picture(data)
    seconds, child = time.process_time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    ms = 1000 * (seconds + child.ru_utime + child.ru_stime)
    return ms, (kilobytes("VmHWM") - before) / 1024, round(child.ru_maxrss / 1024)


def kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def photos(folder: Path) -> list[Path]:
    """Write a sheet under uneven light, with a camera's grain and a circle drawn with a pen."""
    paths = []
    for megapixels, (width, height) in SIZES.items():
        light = np.linspace(150, 220, width, dtype=np.float32)
        grain = np.random.default_rng(1).normal(0, 2, (height, width))
        sheet = Image.fromarray((light + grain).astype(np.uint8)).convert("RGB")
        box = [width // 3, height // 3, width // 2, height * 2 // 3]
        ImageDraw.Draw(sheet).ellipse(box, outline=(40, 40, 90), width=width // 90)
        for format, options in OPTIONS.items():
            file = io.BytesIO()
            picture = sheet.quantize(16).convert("RGB") if format in ("PNG", "TIFF") else sheet
            picture.save(file, format, **options)
            if len(file.getvalue()) <= MAX_BYTES:
                paths.append(folder / f"{megapixels}.{format.lower()}")
                paths[-1].write_bytes(file.getvalue())
    return paths


if __name__ == "__main__":
    main()
