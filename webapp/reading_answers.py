"""A reading as answers tell it: all of it, or the part that is kept with a correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from model.task import DIGITS, TOP, Reason
from model.verdict import Verdict
from webapp.data_urls import png_url
from webapp.messages import Answer, Digit, PngUrl, Share, VersionName


class Ranked(Answer):
    digit: Digit
    probability: Share


def _ranked(pairs: Sequence[Any]) -> list[Any]:
    return [Ranked(digit=pair[0], probability=pair[1]) if isinstance(pair, tuple) else pair for pair in pairs]


def _as_png(image: Any) -> Any:
    return image if image is None or isinstance(image, str) else png_url(image)


class KeptReading(Answer):
    """What does not depend on who asks, and cannot be made again from the digit image."""

    verdict: Verdict
    digits: Annotated[list[Digit], Field(description="What it is or may be, the likeliest first.")]
    reason: Reason | None
    top: Annotated[list[Ranked], Field(max_length=TOP), BeforeValidator(_ranked)]
    probabilities: Annotated[
        list[Share], Field(max_length=DIGITS, description="Of the digits 0 to 9; empty for a blank picture.")
    ]
    not_a_digit: Share


class ReadingOfMany(KeptReading):
    """One of many readings, all by the same version."""

    coverage: Share | None
    digit_image: Annotated[PngUrl, BeforeValidator(_as_png)] | None


class Reading(ReadingOfMany):
    """What a picture is read as."""

    version: VersionName


class ReadingNow(KeptReading):
    """What the version in service reads."""

    version: VersionName
