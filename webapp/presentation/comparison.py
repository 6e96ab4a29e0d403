"""A version's comparison with the champion of that time, for its page and for lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from model.imaging.png import data_url, ink_png
from webapp.corrections.store import image_of
from webapp.presentation.wording import HARD, comparison
from webapp.storage.schema import Comparison, Correction, Promotion, Run, RunCorrection, Version
from webapp.versions.promotions import roll_back_target

# Criteria in the words of `sentence`; those of single digits are "0s" to "9s".
SUBJECTS = {
    "validation": "validation digits",
    "drawings": "drawings held out",
    "strength": "changed digits",
    "strength-shift": "moved digits",
    "strength-size": "resized digits",
    "strength-angle": "turned digits",
    "strength-line-width": "thinner and wider lines",
    "strength-noise": "noisy digits",
    "strength-blur": "blurred digits",
    "calibration": "calibration error",
    "digits": "gate digits",
    "accuracy": "gate digits",
    "all": "gate digits and hard pictures",
    "accepted-digits": "gate digits accepted",
    "accepted-hard": "hard pictures accepted",
    "refused": "gate digits refused",
    "refused-others": "non-digits refused",
    "refused-digits": "validation digits refused",
} | {f"suite-{kind.replace(' ', '-')}": words for kind, words in HARD.items()}
LOWER_IS_BETTER = {"calibration", "refused", "refused-digits", "multiplications", "time"}
# A change of less is shown as 0.0 points.
SMALLEST_CHANGE = 0.0005


class Verdict(NamedTuple):
    """The result of a comparison in short: `passed` if it is no worse, `gained` if it is better; `sentence` sums up the
    figures, `failed` is the number of criteria not passed, and `summary` gives the reasons, for JSON answers."""

    passed: bool
    gained: bool
    sentence: str
    failed: int
    summary: str


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
    evidence["criteria"] = [_row(one) for one in evidence["criteria"]]
    parts = groupby(evidence["criteria"], lambda criterion: (criterion.get("versus", "champion"), criterion["group"]))
    return evidence | {
        "champion_id": found.champion_id,
        "anchored": "anchor_id" in evidence,  # earlier releases compared with the champion alone, on other digits
        "anchor_id": evidence.get("anchor_id"),
        "gained": has_gained(evidence.get("gained"), found.passed),
        "flattered": [one.get("versus") for one in found.evidence["criteria"] if _learnt_them(one)],
        "at": found.at,
        "passed": found.passed,
        "failed": len(_failed(evidence["criteria"])),
        "sentence": sentence(evidence["criteria"]),
        "groups": [(*key, list(part)) for key, part in parts],
        "pictures": _pictures(session, evidence, version_id),
    }


def verdicts(session: Session, versions: Sequence[Version]) -> dict[str, Any]:
    """Return the variables of `_versions.html`: `verdicts`, a Verdict by the id of each compared version, `served`, the
    ids of those once in service, and `target`, the id of the one that may be rolled back to, or None."""
    numbers = [version.id for version in versions]
    served = select(Promotion.version_id).where(Promotion.version_id.in_(numbers))
    return {
        "verdicts": compared(session, numbers),
        "served": set(session.scalars(served)),
        "target": roll_back_target(session),
    }


def compared(session: Session, version_ids: Collection[int]) -> dict[int, Verdict]:
    """Return the Verdict of each version that was compared, by its id."""
    names = "summary", "criteria", "gained"  # without the pictures
    parts = [Comparison.evidence[name] for name in names]
    chosen = select(Comparison.version_id, Comparison.passed, *parts).where(Comparison.version_id.in_(version_ids))
    found = {}
    for version_id, passed, summary, criteria, gained in session.execute(chosen):
        failed = len(_failed(criteria))
        said = comparison({"summary": summary, "criteria": criteria})
        found[version_id] = Verdict(
            passed, has_gained(gained, passed), sentence(said["criteria"]), failed, said["summary"]
        )
    return found


def _learnt_them(criterion: dict[str, Any]) -> bool:
    """Return whether the version compared with has learnt from digits that this criterion judges by."""
    reason = criterion["reason"]  # a sentence in comparisons of earlier releases
    return isinstance(reason, dict) and bool(reason.get("old_learnt_them"))


def has_gained(gained: bool | None, passed: bool) -> bool:
    """Return whether the challenger has gained something; earlier releases, which stored None, asked for no gain."""
    return passed if gained is None else gained


def sentence(criteria: Sequence[dict[str, Any]]) -> str:
    """Sum up the criteria of a comparison in words: "Worse in 17 of 22 checks; worst: turned digits, -21 points"."""
    failed = _failed(criteria)
    checks = [one for one in criteria if one["group"] != "gain"]
    if not failed:
        better = sum((_gain(one) or 0) >= SMALLEST_CHANGE for one in checks)
        equal = next((f": it {one['reason']}" for one in criteria if not one["passed"]), "")
        return f"{_checks(len(checks))}{f', better in {better}' if better else ''}{equal}"
    if len(checks) == 1:  # the weights cannot be used, so nothing was measured
        return f"It {failed[0]['reason']}"
    shares = [(gain, one) for one in failed if one["unit"] == "share" and (gain := _gain(one)) is not None]
    least, worst = min(shares, key=itemgetter(0), default=(0, {}))
    if least < 0:
        subject = SUBJECTS.get(worst["name"]) or f"{worst['name'].removeprefix('recall-')}s"
        return f"Worse in {len(failed)} of {_checks(len(checks))}; worst: {subject}, {_change(worst)}"
    return f"Failed {len(failed)} of {_checks(len(checks))}: it {failed[0]['reason']}"


def _failed(criteria: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the criteria by which the challenger is worse: that it has gained nothing is no fault."""
    return [one for one in criteria if not one["passed"] and one["group"] != "gain"]


def _row(criterion: dict[str, Any]) -> dict[str, Any]:
    """Return a criterion as a row of the page's table."""
    title = criterion["title"]
    if criterion["name"].startswith("strength-") and (subject := SUBJECTS.get(criterion["name"])):
        title = subject.capitalize()
    limit = criterion.get("limit")
    at_worst = None if limit is None else f"{-100 * limit:+.2f}".replace("-", "\u2212")
    return criterion | {"title": title, "change": _change(criterion), "at_worst": at_worst}


def _gain(criterion: dict[str, Any]) -> float | None:
    """Return by how much the challenger's figure is better; None where there are not two figures."""
    old, new = criterion["champion"], criterion["challenger"]
    if old is None or new is None:
        return None
    return old - new if criterion["name"] in LOWER_IS_BETTER else new - old


def _change(criterion: dict[str, Any]) -> str | None:
    """Return the change from the champion's figure to the challenger's: "\u22123.2 points", "+5 %"."""
    old, new = criterion["champion"], criterion["challenger"]
    if old is None or new is None:
        return None
    if criterion["unit"] == "share":
        return _signed(100 * (new - old), "points")
    return _signed(100 * (new / old - 1), "%") if old else None


def _signed(value: float, unit: str) -> str:
    places = 0 if abs(value) >= 9.95 else 1
    return f"{value:+.{places}f} {unit}".replace("-", "\u2212").replace("+0.0", "0.0").replace("\u22120.0", "0.0")


def _checks(count: int) -> str:
    return f"{count} check{'' if count == 1 else 's'}"


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
