"""A reading as the answers have it in JSON."""

from __future__ import annotations

from typing import Any

from model.recognizer import Reading
from webapp.data_urls import png_url


def reading_as_json(reading: Reading) -> dict[str, Any]:
    return {
        "verdict": reading.verdict,
        "digits": reading.digits,
        "reason": reading.reason,
        "top": [{"digit": digit, "probability": probability} for digit, probability in reading.top],
        "probabilities": reading.probabilities,
        "not_a_digit": reading.not_a_digit,
        "coverage": reading.coverage,
        "digit_image": None if reading.digit_image is None else png_url(reading.digit_image),
    }
