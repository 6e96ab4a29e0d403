"""Find the writing in scans and photos."""

from __future__ import annotations

import numpy as np
from PIL import Image

from model.imaging.ink import ink_in_place, to_plain_mode


def find_ink(picture: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return a picture at the size at which its ink was found, and the ink, float32 (H, W), or None for a blank one."""
    ink = ink_in_place(picture)
    picture = to_plain_mode(picture)
    return (picture if ink is None else picture.resize(ink.shape[::-1])), ink
