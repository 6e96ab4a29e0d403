"""A version's comparison with the champion of that time, for its page and for lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.imaging.png import ink_png
from webapp.corrections.store import image_of
from webapp.presentation.data_urls import data_url
from webapp.presentation.wording import comparison, worded
from webapp.storage.schema import Comparison, Correction, Promotion, Run, RunCorrection, Version


@dataclass(frozen=True)
class Pictures:
    """The pictures of one `kind`, "drawings" or "digits", on one `side`, "gained" or "lost".

    `count` is their number, of which `shown` has some, each with its data URL, or None if its author has deleted it.
    """

    kind: str
    side: str
    count: int
    shown: list[tuple[dict[str, Any], str | None]]


def report(session: Session, version_id: int) -> dict[str, Any] | None:
    """Return a version's comparison in words, with its criteria also in groups; None if it was never compared."""
    found = session.get(Comparison, version_id)
    if found is None:
        return None
    evidence = comparison(found.evidence)
    groups = groupby(evidence["criteria"], lambda criterion: criterion["group"])
    return evidence | {
        "champion_id": found.champion_id,
        "at": found.at,
        "passed": found.passed,
        "groups": [(name, list(part)) for name, part in groups],
        "pictures": _pictures(session, evidence, version_id),
    }


def verdicts(session: Session, versions: Sequence[Version]) -> dict[str, Any]:
    """Return `verdicts`, (passed, summary) by the id of each compared version, and `served`, those once in service."""
    numbers = [version.id for version in versions]
    summary = Comparison.evidence["summary"]
    compared = select(Comparison.version_id, Comparison.passed, summary).where(Comparison.version_id.in_(numbers))
    served = select(Promotion.version_id).where(Promotion.version_id.in_(numbers))
    return {
        "verdicts": {version_id: (passed, worded(said)) for version_id, passed, said in session.execute(compared)},
        "served": set(session.scalars(served)),
    }


def _pictures(session: Session, evidence: dict[str, Any], version_id: int) -> list[Pictures]:
    found = []
    for kind in ("drawings", "digits"):
        differences = evidence[kind]
        for side in ("gained", "lost") if differences else ():
            pictures = differences[f"{side}_pictures"]
            numbers = [one["number"] for one in pictures]
            urls = _digit_images(session, version_id, numbers) if kind == "drawings" else {}
            shown = [
                (one, f"data:image/png;base64,{one['image']}" if one["image"] else urls.get(one["number"]))
                for one in pictures
            ]
            found.append(Pictures(kind, side, differences[side], shown))
    return found


def _digit_images(session: Session, version_id: int, numbers: Iterable[int]) -> dict[int, str]:
    """Return the data URLs of the corrections that still exist, by id.

    Only of those that the version was compared by: a deleted correction's id may be another's by now.
    """
    rows = session.execute(
        select(Correction.id, Correction.digit_image)
        .join(RunCorrection, RunCorrection.correction_id == Correction.id)
        .join(Run, Run.id == RunCorrection.run_id)
        .where(Run.version_id == version_id, Correction.id.in_(numbers))
    )
    return {row.id: data_url(ink_png(image_of(row))) for row in rows}
