"""Template filters for times, figures and labels."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from flask import Flask

from model.evaluation.metrics import interval_words, wilson_interval
from model.task import GATE_DIGITS, NO_DIGIT, VALIDATION_DIGITS
from webapp.presentation import charts
from webapp.presentation.wording import about, by_whom, imported, lost_by_cancelling, removed_rows, removed_what, worded
from webapp.storage.schema import Version


def register(app: Flask) -> None:
    for write in (
        utc,
        unix_seconds,
        share,
        interval,
        judged_by,
        confidence,
        label,
        said,
        read_as,
        answered,
        worded,
        about,
        by_whom,
        removed_what,
        removed_rows,
        charts.sparkline,
    ):
        app.add_template_filter(write)
    app.add_template_global(imported, "imported_in_words")
    app.add_template_global(interval_words)
    app.add_template_global(lost_by_cancelling)


def utc(seconds: float) -> str:
    """Format Unix seconds for a <time> element; the page's script converts them to local time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_seconds(text: str) -> float | None:
    """Return the Unix seconds of a time in ISO 8601, None for another text."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def share(fraction: float) -> str:
    """Format a share with two decimals, "99.46 %"."""
    return f"{100 * fraction:.2f}\u00a0%"


def interval(fraction: float, count: int) -> str:
    """Format the 95 % interval of a share of `count` digits in per cent, "99.38 to 99.65"."""
    return interval_words(*wilson_interval(fraction, count))


def judged_by(version: Version) -> tuple[str, float, int]:
    """Return the digits that judge a version, its accuracy on them, and their number.

    They are the "gate" digits, or for a version of an earlier release, which had none, the "validation" digits.
    """
    gate = version.card.get("gate_accuracy")
    if gate is None:
        return "validation", version.validation_accuracy, VALIDATION_DIGITS
    return "gate", gate, GATE_DIGITS


def confidence(probability: float) -> str:
    """Format a probability, "98 %", with "<1 %" and ">99 %" at the ends, as on the drawing page."""
    if probability >= 0.995:
        return ">99\u00a0%"
    if probability < 0.005:
        return "<1\u00a0%"
    return f"{math.floor(100 * probability + 0.5)}\u00a0%"


def label(value: int) -> str:
    """Format a label: "7", "no digit"."""
    return "no digit" if value == NO_DIGIT else str(value)


def said(value: int) -> str:
    """Format a label with its article: "a 7", "an 8", "no digit"."""
    return label(value) if value == NO_DIGIT else f"{'an' if value == 8 else 'a'} {value}"


def read_as(reading: dict[str, Any]) -> str:
    """Format a reading's digits with articles: "a 7", "a 4 or a 9", "no digit"."""
    digits = [said(digit) for digit in reading["digits"]]
    if not digits:
        return label(NO_DIGIT)
    return digits[0] if len(digits) == 1 else f"{', '.join(digits[:-1])} or {digits[-1]}"


def answered(reading: dict[str, Any]) -> str:
    """Format a reading in short, a single digit with its probability: "1, 98 %", "4 or 9", "no digit"."""
    digits = [label(digit) for digit in reading.get("digits", ())]
    if not digits:
        return label(NO_DIGIT)
    top = reading.get("top") or [{"probability": 0}]
    return f"{digits[0]}, {confidence(top[0]['probability'])}" if len(digits) == 1 else " or ".join(digits)
