"""What a version's page shows of its comparison with the champion of that time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from model.ink import ink_png
from model.task import NO_DIGIT, SIDE
from webapp.data_urls import data_url
from webapp.database import Comparison, Correction, Promotion, Run, RunCorrection, Version
from webapp.wording import comparison, worded

GROUPS = {
    "usable": "The weights",
    "validation": "Validation digits",
    "drawings": "Drawings held out",
    "recall": "Each digit",
    "strength": "Strength: digits moved, resized, turned, spoiled",
    "calibration": "Confidence",
    "refusal": "Refusal",
    "multiplications": "Computation",
    "time": "Time",  # an earlier release compared it
}


@dataclass(frozen=True)
class Row:
    """One criterion in words; `asked` is its margin."""

    name: str
    title: str
    champion: str
    challenger: str
    asked: str
    passed: bool


@dataclass(frozen=True)
class Group:
    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Shown:
    """One picture that was gained or lost; `url` is None where its author has deleted it."""

    url: str | None
    truth: str
    before: str
    after: str
    says: str


@dataclass(frozen=True)
class Pictures:
    """Those gained or those lost of one kind; `count` may be more than are shown."""

    name: str
    title: str
    count: int
    shown: list[Shown]


@dataclass(frozen=True)
class Report:
    """`reasons` say why it waits, one clause each; none where it passed."""

    champion_id: int
    at: float
    passed: bool
    summary: str
    reasons: list[str]
    groups: list[Group]
    pictures: list[Pictures]


def report(session: Session, version_id: int) -> Report | None:
    """A version's comparison in words; None for one that was never compared."""
    found = session.get(Comparison, version_id)
    if found is None:
        return None
    evidence = comparison(found.evidence)
    criteria = evidence["criteria"]
    return Report(
        champion_id=found.champion_id,
        at=found.at,
        passed=found.passed,
        summary=evidence["summary"],
        reasons=[criterion["reason"] for criterion in criteria if not criterion["passed"]],
        groups=[
            Group(GROUPS.get(name, name), [_row(criterion) for criterion in part])
            for name, part in groupby(criteria, lambda criterion: criterion["group"])
        ],
        pictures=_pictures(session, evidence, found.champion_id, version_id),
    )


def verdicts(session: Session, versions: Sequence[Version]) -> dict[str, Any]:
    """What a list says of these versions: whether each that was compared passed, with its summary, and which of them
    have served."""
    numbers = [version.id for version in versions]
    summary = Comparison.evidence["summary"]
    compared = select(Comparison.version_id, Comparison.passed, summary).where(Comparison.version_id.in_(numbers))
    served = select(Promotion.version_id).where(Promotion.version_id.in_(numbers))
    return {
        "verdicts": {version_id: (passed, worded(said)) for version_id, passed, said in session.execute(compared)},
        "served": set(session.scalars(served)),
    }


def _row(criterion: dict[str, Any]) -> Row:
    champion, challenger = (_figure(criterion["unit"], criterion[who]) for who in ("champion", "challenger"))
    return Row(criterion["name"], criterion["title"], champion, challenger, criterion["margin"], criterion["passed"])


def _figure(unit: str, value: float | None) -> str:
    if value is None:
        return "–"
    if unit == "count":
        return f"{value:,}"
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%" if unit == "share" else f"{value:.2f}\N{NO-BREAK SPACE}{unit}"


def _pictures(session: Session, evidence: dict[str, Any], champion: int, challenger: int) -> list[Pictures]:
    names = f"v{champion}", f"v{challenger}"
    found = []
    for part, kind in (("drawings", "drawings held out"), ("digits", "validation digits")):
        differences = evidence[part]
        if differences is None:
            continue
        for side in ("gained", "lost"):
            pictures = differences[f"{side}_pictures"]
            numbers = [one["number"] for one in pictures]
            urls = _digit_images(session, challenger, numbers) if part == "drawings" else {}
            shown = [_shown(one, names, _url(one, urls)) for one in pictures]
            found.append(Pictures(f"{part}-{side}", f"{side.capitalize()}: {kind}", differences[side], shown))
    return found


def _digit_images(session: Session, version_id: int, numbers: Iterable[int]) -> dict[int, str]:
    """Data URLs of the corrections that are still there, of those that the version was compared by: the number of one
    that was deleted may be another's by now."""
    rows = session.execute(
        select(Correction.id, Correction.digit_image)
        .join(RunCorrection, RunCorrection.correction_id == Correction.id)
        .join(Run, Run.id == RunCorrection.run_id)
        .where(Run.version_id == version_id, Correction.id.in_(numbers))
    )
    side = SIDE
    return {number: data_url(ink_png(np.frombuffer(ink, np.uint8).reshape(side, side))) for number, ink in rows}


def _url(one: dict[str, Any], urls: dict[int, str]) -> str | None:
    return f"data:image/png;base64,{one['image']}" if one["image"] else urls.get(one["number"])


def _shown(one: dict[str, Any], names: tuple[str, str], url: str | None) -> Shown:
    seen = one["champion"], one["challenger"]
    said = ", ".join(
        f"{name} read {_word(each['read'])} with {100 * each['probability']:.0f} %"
        for name, each in zip(names, seen, strict=True)
    )
    before, after = (_word(each["read"]) for each in seen)
    return Shown(url, _word(one["truth"]), before, after, f"Meant as {_word(one['truth'])}: {said}")


def _word(label: int) -> str:
    return "no digit" if label == NO_DIGIT else str(label)
