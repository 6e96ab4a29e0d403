"""Contact sheets: digit images with their labels and predictions in one picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.task import SIDE

_SCALE = 3
_CAPTION = 20
_GAP = 6
_COLUMNS = 10
_RIGHT, _WRONG = (30, 30, 30), (176, 32, 32)


def contact_sheet(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Image.Image:
    """Return an RGB picture of digit images, ten a row, each over "true/read confidence", in red when wrong.

    images uint8 (N, 28, 28), N at least 1; labels (N,); probabilities (N, 10). They are shown dark on white.
    """
    width, height = SIDE * _SCALE + _GAP, SIDE * _SCALE + _CAPTION + _GAP
    columns, rows = min(len(images), _COLUMNS), -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, (image, label, likely) in enumerate(zip(images, labels, probabilities, strict=True)):
        x, y = _GAP + i % _COLUMNS * width, _GAP + i // _COLUMNS * height
        picture = Image.fromarray(255 - np.asarray(image))
        sheet.paste(picture.resize((SIDE * _SCALE, SIDE * _SCALE), Image.Resampling.BICUBIC), (x, y))
        read = int(likely.argmax())
        caption = f"{int(label)}/{read}  {likely[read]:.0%}"
        draw.text((x + 2, y + SIDE * _SCALE + 2), caption, _RIGHT if read == label else _WRONG, font)
    return sheet
