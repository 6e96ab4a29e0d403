"""Decode one picture in a process limited in memory and time: `python -m model.imaging.decoder_process FORMAT PIXELS`.

The file comes on standard input. The answer is a line of JSON (pixels left of the budget, mode, size, why it is too
large) and the pixels; mode is null where the picture is not whole. Without numpy it starts in a twentieth of a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import sys
import warnings
from pathlib import Path

from PIL import TiffImagePlugin  # noqa: F401  reads EXIF

from model.imaging.decode import PARSERS, PictureTooLarge, PixelBudget, decode_here, plain

# Of the processor; 25 million pixels of HEIC take two.
MAX_SECONDS = 6
# Beyond what the process has from the start; 25 million pixels of HEIC take 250 MB.
MAX_MEMORY = 400_000_000


def main() -> None:
    name, budget = sys.argv[1], PixelBudget(int(sys.argv[2]))
    importlib.import_module(PARSERS[name][1])
    data = sys.stdin.buffer.read()
    _limit()
    warnings.simplefilter("ignore")
    mode, size, too_large, pixels = None, None, None, b""
    try:
        picture = plain(decode_here(name, data, budget))
        mode, size, pixels = picture.mode, picture.size, picture.tobytes()
    except PictureTooLarge as error:
        too_large = str(error)
    except Exception:  # decoders raise many kinds of errors
        mode = None
    sys.stdout.buffer.write(json.dumps((budget.left, mode, size, too_large)).encode() + b"\n" + pixels)


def _limit() -> None:
    """Limit the rest of this process, which opens no file or connection any more."""
    limits = {resource.RLIMIT_CPU: MAX_SECONDS, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 0}
    statm = Path("/proc/self/statm")
    if statm.exists():
        limits[resource.RLIMIT_AS] = int(statm.read_bytes().split()[0]) * resource.getpagesize() + MAX_MEMORY
    for kind, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):  # lower already
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main()
