"""Pictures in answers and pages, as data URLs."""

from __future__ import annotations

import base64

import numpy as np

from model.imaging.png import grey_png


def png_url(image: np.ndarray) -> str:
    """Return a grey image, uint8 (H, W), as a data URL."""
    return data_url(grey_png(image))


def data_url(png: bytes) -> str:
    """Return a PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
