"""How the templates write times, figures and labels."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from flask import Flask

from model.task import NO_DIGIT
from webapp import curves
from webapp.wording import worded


def register(app: Flask) -> None:
    for write in (utc, share, confidence, said, read_as, worded, curves.sparkline):
        app.add_template_filter(write)


def utc(seconds: float) -> str:
    """Unix seconds as a <time> element has them; the page's script turns them into local words."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def share(fraction: float) -> str:
    """A share of many with two decimals, "99.46 %"."""
    return f"{100 * fraction:.2f}\u00a0%"


def confidence(probability: float) -> str:
    """A probability, "98 %"; the ends say "<1 %" and ">99 %", as on the drawing page."""
    if probability >= 0.995:
        return ">99\u00a0%"
    if probability < 0.005:
        return "<1\u00a0%"
    return f"{math.floor(100 * probability + 0.5)}\u00a0%"


def said(label: int) -> str:
    """A label as the object of a sentence: "a 7", "an 8", "no digit"."""
    return "no digit" if label == NO_DIGIT else f"{'an' if label == 8 else 'a'} {label}"


def read_as(reading: dict[str, Any]) -> str:
    """What a reading names: "a 7", "a 4 or a 9", "no digit"."""
    digits = [said(digit) for digit in reading["digits"]]
    if not digits:
        return "no digit"
    return digits[0] if len(digits) == 1 else f"{', '.join(digits[:-1])} or {digits[-1]}"
