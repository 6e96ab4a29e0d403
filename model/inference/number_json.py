"""Numbers as plain values that JSON can carry: for the API's answers and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.imaging.pieces import Box
from model.imaging.png import png_url
from model.inference.number import Number, Sign, confidence_of


def as_dict(numbers: Sequence[Number], size: tuple[int, int]) -> dict[str, Any]:
    """Return the text of all lines, and the digits, symbols and lines with their boxes in fractions of the ink's size.

    `size` is the width and height of the ink.
    """
    digits, symbols = [], []
    for line, number in enumerate(numbers):
        for sign in number.signs:
            place = {"box": _fractions(sign.box, size), "line": line}
            if sign.prediction is None:
                symbols.append({"symbol": sign.text, **place})
            else:
                digits.append(_digit(sign) | place)
    return {
        "text": "\n".join(number.text for number in numbers),
        "confidence": confidence_of(numbers),
        "digits": digits,
        "symbols": symbols,
        "lines": [
            {"text": number.text, "box": _fractions(number.box, size), "confidence": number.confidence}
            for number in numbers
        ],
    }


def _digit(sign: Sign) -> dict[str, Any]:
    prediction = sign.prediction
    assert prediction is not None and prediction.digit_image is not None
    return {
        "digit": prediction.top[0][0],
        "top": [{"digit": digit, "probability": share} for digit, share in prediction.top],
        "verdict": prediction.verdict,
        "digit_image": png_url(prediction.digit_image),
    }


def _fractions(box: Box, size: tuple[int, int]) -> list[float]:
    return [round(min(max(at / side, 0.0), 1.0), 5) for at, side in zip(box, size * 2, strict=True)]
