"""A reading as answers tell it: all of it, or the part that is kept with a correction.

Plain dictionaries, which pydantic describes but does not check: a page asks for a reading many times a second, and
what `model.inference.classifier.Prediction` holds needs no check.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from model.inference import classifier
from model.inference.decision import Verdict
from model.task import DIGITS, TOP, Reason
from webapp.http.messages import Digit, PngUrl, Share, VersionName
from webapp.presentation.data_urls import png_url

exactly = with_config(ConfigDict(extra="forbid"))


@exactly
class Ranked(TypedDict):
    digit: Digit
    probability: Share


@exactly
class KeptReading(TypedDict):
    """What does not depend on who asks, and cannot be made again from the digit image."""

    verdict: Verdict
    digits: Annotated[tuple[Digit, ...], Field(description="What it is or may be, the likeliest first.")]
    reason: Reason | None
    top: Annotated[list[Ranked], Field(max_length=TOP)]
    probabilities: Annotated[
        tuple[Share, ...], Field(max_length=DIGITS, description="Of the digits 0 to 9; empty for a blank picture.")
    ]
    not_a_digit: Share


@exactly
class ReadingOfMany(KeptReading):
    """One of many readings, all by the same version."""

    coverage: Share | None
    digit_image: PngUrl | None


@exactly
class Reading(ReadingOfMany):
    """What a picture is read as."""

    version: VersionName


@exactly
class ReadingNow(KeptReading):
    """What the version in service reads."""

    version: VersionName


def to_keep(reading: classifier.Prediction) -> KeptReading:
    return {
        "verdict": reading.verdict,
        "digits": reading.digits,
        "reason": reading.reason,
        "top": [{"digit": digit, "probability": probability} for digit, probability in reading.top],
        "probabilities": reading.probabilities,
        "not_a_digit": reading.not_a_digit,
    }


def to_answer(reading: classifier.Prediction) -> ReadingOfMany:
    digit_image = None if reading.digit_image is None else png_url(reading.digit_image)
    return {**to_keep(reading), "coverage": reading.coverage, "digit_image": digit_image}
