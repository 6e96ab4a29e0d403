"""What pages and JSON answers say in English: sentences from the codes and numbers that are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from webapp.storage.schema import coded

Found = dict[str, Any]


def worded(found: str | Found | None) -> str | None:
    """The sentence, or the clause, of a code with its numbers, as an object or as its JSON.

    Any other text is data, or a sentence that an earlier release has stored, and stays as it is; so does None.
    """
    if found is None:
        return None
    try:
        return _worded(json.loads(found) if isinstance(found, str) else found)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return str(found)


def quoted(text: str) -> str:
    """What a person has written, to be stored among codes: shown as it is, even where it reads as one of them."""
    return text if worded(text) == text else coded("quoted", text=text)


def comparison(evidence: Found) -> Found:
    """A comparison's evidence in words: with a `summary`, and a `title`, `margin` and `reason` for each criterion."""
    criteria = [one if "title" in one else _criterion(one) for one in evidence["criteria"]]
    return evidence | {"summary": worded(evidence["summary"]), "criteria": criteria}


def _worded(found: Found) -> str:
    words = _WORDS[found["code"]]
    if callable(words):
        return words(found)
    return words.format_map({name: _worded(one) if isinstance(one, dict) else one for name, one in found.items()})


# Comparisons


def _criterion(found: Found) -> Found:
    reason = found["reason"]
    title = _TITLES[reason["code"]].format_map(reason)
    if reason.get("change"):
        title = f"Changed in {reason['change']}"
    asked = ", and ".join(words(found["margin"][name]) for name, words in _LIMITS.items() if name in found["margin"])
    return found | {"title": title, "margin": asked or "they load and give probabilities", "reason": worded(reason)}


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f} %"


def _points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:.0f} points"


def _against(found: Found) -> str:
    return "" if found["from"] is None else f" against {_percent(found['from'])}"


def _changed(found: Found) -> str:
    """The way from one share to another: "3.2 points worse"."""
    old, new = found["from"], found["to"]
    if old is None:
        return f"in {_percent(new)} of cases"
    points = 100 * abs(new - old)
    return f"{points:.1f} points {'better' if new > old else 'worse'}" if points >= 0.05 else "as well"


def _tested(found: Found) -> str:
    """What McNemar's test has found, where there was a champion to compare with."""
    if "p" not in found:
        return ""
    p = found["p"]
    said = f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.4f}" if p >= 0.0001 else "p below 0.0001"
    return f"{_against(found)}, {found['gained']} gained and {found['lost']} lost ({said})"


def _validation(found: Found) -> str:
    short = f", and {_percent(found['least'], 0)} is the least" if "least" in found else ""
    return f"reads {_percent(found['to'])} of the validation digits{short}{_tested(found)}"


def _drawings(found: Found) -> str:
    return f"reads {_percent(found['to'])} of the {found['count']} drawings held out{_tested(found)}"


def _strength(found: Found) -> str:
    digits = f"digits changed in {found['change']}" if found["change"] else "changed digits"
    return f"reads {digits} {_changed(found)}"


def _multiplications(found: Found) -> str:
    if found["from"] is None:
        return f"takes {found['to']:,} multiplications for a digit"
    return f"takes {found['to'] / found['from']:.2f} times as many multiplications for a digit"


def _waits(found: Found) -> str:
    more = f"; and {found['more']} more" if found["more"] else ""
    return f"waits: {'; '.join(map(_worded, found['reasons']))}{more}"


def _passed(found: Found) -> str:
    pictures = f"; {found['gained']} {found['of']} gained, {found['lost']} lost" if "of" in found else ""
    return f"{_percent(found['to'])} of validation digits{_against(found)}{pictures}"


def _interrupted(found: Found) -> str:
    added = found["added"]
    came = f"{added:,} new digits had come in by then" if added else "Nothing was imported"
    return f"The import was interrupted {found['times']} times; the last time {_worded(found['last'])}. {came}."


_LIMITS: dict[str, Callable[[float], str]] = {
    "level": lambda p: f"no worse by McNemar's exact test (p at least {p})",
    "fall": lambda share: f"at most {_points(share)} less",
    "rise": lambda share: f"at most {_points(share)} more",
    "least": lambda share: f"at least {_percent(share, 0)}",
    "most": lambda share: f"at most {_percent(share, 0)}",
    "times": lambda times: f"at most {_percent(times - 1, 0)} more",
}

_TITLES = {
    "usable": "Weights",
    "unusable": "Weights",
    "unusable_champion": "Weights",
    "validation": "Validation digits read right",
    "recall": "{digit}s read right",
    "drawings": "Drawings held out read right",
    "strength": "Changed digits read right",
    "calibration": "Expected calibration error",
    "refused_others": "Non-digits refused",
    "refused_digits": "Validation digits refused",
    "multiplications": "Multiplications for one digit",
}

_WORDS: dict[str, str | Callable[[Found], str]] = {
    "usable": "can be used",
    "unusable": "cannot be used: {detail}",
    "unusable_champion": "has no champion to be compared with: {detail}",
    "validation": _validation,
    "recall": lambda found: f"reads {found['digit']}s {_changed(found)}",
    "drawings": _drawings,
    "strength": _strength,
    "calibration": lambda found: f"states confidences that are {_percent(found['to'])} off{_against(found)}",
    "refused_others": lambda found: f"refuses {_percent(found['to'])} of what is no digit{_against(found)}",
    "refused_digits": lambda found: f"refuses {_percent(found['to'])} of the validation digits{_against(found)}",
    "multiplications": _multiplications,
    "waits": _waits,
    "passed": _passed,
    # Why a version was put into service
    "first": "the first version",
    "shipped": "it comes with this release",
    "champion_unusable": "v{version} cannot be used: {detail}",
    "rolled_back": "rolled back from v{from}",
    "quoted": "{text}",
    # How a process ended
    "silent": "it stopped answering",
    "killed": "it was killed by signal {signal}",
    "exited": "it ended with code {status}",
    # How a process that trained together with others has ended, or the training itself
    "process_killed": "process {process} of {of} was killed by signal {signal}",
    "process_exited": "process {process} of {of} ended with code {status}",
    "process_silent": "another process has died, or has not answered for {seconds} seconds",
    "tasks_differ": "the processes were not given the same to train, or have not the same code",
    "networks_differ": "the processes have come to different networks in epoch {epoch}",
    "diverged": "the loss stopped being a number in epoch {epoch}",
    # Why a run, or a computation about a version, has failed
    "lost": "Its training process was lost {times} times; the last time {last}.",
    "no_parent": "no version is in service, so there is nothing to go on from",
    "not_good_enough": "it is not good enough to be the first version in service: {summary}",
    "database": "the database did not take it ({detail})",
    "broken": "The computation failed; the server's log says why.",
    "crashed": "The computation failed: {last}.",
    "failed": "{detail}",
    # Why an import has failed
    "interrupted": _interrupted,
    "not_imported": "Nothing was imported. {detail}",
}


def correction_count(count: int) -> str:
    return f"{count:,} correction{'' if count == 1 else 's'}"


def imported(added: int, known: int) -> str:
    said = f"Imported: {correction_count(added)}, to be reviewed."
    return said + (f" {known:,} more were here already." if known else "")
