"""A reading in answers: all of it, or the part that is stored with a correction.

Plain dictionaries, which pydantic describes but does not validate: a page requests many readings a second, and the
values of `model.inference.classifier.Prediction` are valid.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from model.imaging.png import png_url
from model.inference import classifier
from model.inference.decision import Verdict
from model.task import DIGITS, TOP, Reason
from webapp.http.messages import Digit, PngUrl, Share, VersionName

exactly = with_config(ConfigDict(extra="forbid"))


@exactly
class Ranked(TypedDict):
    digit: Digit
    probability: Share


@exactly
class KeptReading(TypedDict):
    """The part of a reading that is stored with a correction."""

    verdict: Verdict
    digits: Annotated[tuple[Digit, ...], Field(description="The digits that it is or may be, the likeliest first.")]
    reason: Reason | None
    top: Annotated[list[Ranked], Field(max_length=TOP)]
    probabilities: Annotated[
        tuple[Share, ...], Field(max_length=DIGITS, description="Of the digits 0 to 9; empty for a blank picture.")
    ]
    not_a_digit: Share


@exactly
class ReadingOfMany(KeptReading):
    """A reading without its version, which is the same for all of a request."""

    coverage: Share | None
    can_refuse: Annotated[bool | None, Field(description="Whether the version can tell that a picture is no digit.")]
    digit_image: PngUrl | None


TestAccuracy = Annotated[Share | None, Field(description="The share of test digits that the version reads right.")]


@exactly
class Reading(ReadingOfMany):
    """The reading of a picture."""

    version: VersionName
    test_accuracy: TestAccuracy


@exactly
class ReadingNow(KeptReading):
    """The reading by the version in service."""

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
    return {
        **to_keep(reading),
        "coverage": reading.coverage,
        "can_refuse": reading.can_refuse,
        "digit_image": digit_image,
    }
