"""English sentences of pages and JSON answers, made from messages: codes with their numbers, as stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from webapp.storage.schema import Removal, coded
from webapp.versions.promotions import BY_RUN

Message = dict[str, Any]


def worded(message: str | Message | None) -> str | None:
    """Return the sentence or clause of a message, which is an object or its JSON.

    Any other text, such as a sentence stored by an earlier release, is returned unchanged, and so is None.
    """
    if message is None:
        return None
    try:
        return _worded(json.loads(message) if isinstance(message, str) else message)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return str(message)


def quoted(text: str) -> str:
    """Return text written by a person, to be stored where messages are: as a message if it could be taken for one."""
    return text if worded(text) == text else coded("quoted", text=text)


def comparison(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison's evidence in words: its `summary`, and each criterion's `title`, `margin` and `reason`."""
    criteria = [one if "title" in one else _criterion(one) for one in evidence["criteria"]]
    return evidence | {"summary": worded(evidence["summary"]), "criteria": criteria}


def _worded(message: Message) -> str:
    words = _WORDS[message["code"]]
    if callable(words):
        return words(message)
    return words.format_map({name: _worded(one) if isinstance(one, dict) else one for name, one in message.items()})


# Comparisons


def _criterion(criterion: dict[str, Any]) -> dict[str, Any]:
    reason, margin = criterion["reason"], criterion["margin"]
    title = _TITLES[reason["code"]].format_map(reason)
    if reason.get("change"):
        title = f"Changed in {reason['change']}"
    if reason.get("kind"):
        title = HARD.get(reason["kind"], reason["kind"]).capitalize()
    limits = ", and ".join(words(margin[name]) for name, words in _LIMITS.items() if name in margin)
    return criterion | {
        "title": title,
        "margin": limits or _ASKED.get(reason["code"], "they load and give probabilities"),
        "limit": reason.get("limit"),
        "reason": worded(reason),
    }


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f} %"


def _points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:g} points"


def _against(message: Message) -> str:
    return "" if message["from"] is None else f" against {_percent(message['from'])}"


def _changed(message: Message) -> str:
    """Return the change between two shares: "3.2 points worse"."""
    old, new = message["from"], message["to"]
    if old is None:
        return f"in {_percent(new)} of cases"
    points = 100 * abs(new - old)
    return f"{points:.1f} points {'better' if new > old else 'worse'}" if points >= 0.05 else "as well"


def _tested(message: Message) -> str:
    """Return the result of McNemar's test; empty without a champion to compare with."""
    if "p" not in message:
        return ""
    p = message["p"]
    said = f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.4f}" if p >= 0.0001 else "p below 0.0001"
    return f"{_against(message)}, {message['gained']} gained and {message['lost']} lost ({said})"


def _bounded(message: Message) -> str:
    """Return what was lost and gained, and the upper limit of the loss."""
    if "limit" not in message:
        return ""
    counts = f", {message['gained']} gained and {message['lost']} lost" if "lost" in message else ""
    limit = message["limit"]
    most = (
        f"at most {100 * limit:.2f} points are lost" if limit > 0 else f"at least {-100 * limit:.2f} points are gained"
    )
    return f"{_against(message)}{counts}: with 95 % confidence, {most}"


def _digits(message: Message) -> str:
    learnt = "; the other has learnt from some of them" if message.get("old_learnt_them") else ""
    return f"reads {_percent(message['to'])} of the gate digits{_bounded(message)}{learnt}"


def _suite(message: Message) -> str:
    return f"reads {HARD.get(message['kind'], message['kind'])} {_changed(message)}"


def _validation(message: Message) -> str:
    short = f", and {_percent(message['least'], 0)} is the least" if "least" in message else ""
    return f"reads {_percent(message['to'])} of the validation digits{short}{_tested(message)}"


def _drawings(message: Message) -> str:
    said = _tested(message) or _bounded(message)
    return f"reads {_percent(message['to'])} of the {message['count']} drawings held out{said}"


def _strength(message: Message) -> str:
    digits = f"digits changed in {message['change']}" if message["change"] else "changed digits"
    return f"reads {digits} {_changed(message)}"


def _multiplications(message: Message) -> str:
    if message["from"] is None:
        return f"takes {message['to']:,} multiplications for a digit"
    return f"takes {message['to'] / message['from']:.2f} times as many multiplications for a digit"


def _waits(message: Message) -> str:
    more = f"; and {message['more']} more" if message["more"] else ""
    return f"waits: {'; '.join(map(_worded, message['reasons']))}{more}"


def _passed(message: Message) -> str:
    pictures = f"; {message['gained']} {message['of']} gained, {message['lost']} lost" if "of" in message else ""
    return f"{_percent(message['to'])} of validation digits{_against(message)}{pictures}"


def _gained(message: Message) -> str:
    pictures = f"{message['gained']} {message['of']} gained, {message['lost']} lost"
    return f"{_percent(message['to'])} of gate digits{_against(message)}; {pictures}"


def _interrupted(message: Message) -> str:
    added = message["added"]
    came = f"{added:,} new digits had come in by then" if added else "Nothing was imported"
    return f"The import was interrupted {message['times']} times; the last time {_worded(message['last'])}. {came}."


_LIMITS: dict[str, Callable[[float], str]] = {
    "loss": lambda share: f"at most {_points(share)} lost, with 95 % confidence",
    "holm": lambda level: f"no loss that a test shows (level {level} for all)",
    "level": lambda p: f"no worse by McNemar's exact test (p at least {p})",
    "fall": lambda share: f"at most {_points(share)} less",
    "rise": lambda share: f"at most {_points(share)} more",
    "least": lambda share: f"at least {_percent(share, 0)}",
    "most": lambda share: f"at most {_percent(share, 0)}",
    "times": lambda times: f"at most {_percent(times - 1, 0)} more",
}

# What is asked for by criteria without a margin, by the code of their reason.
_ASKED = {
    "gate_unseen": "it has not learnt from the gate digits",
    "gate_seen": "it has not learnt from the gate digits",
    "few_drawings": "enough of them to judge what it learnt",
    "gain": "something is gained that chance does not explain, on drawings held out or hard pictures",
    "no_gain": "something is gained that chance does not explain, on drawings held out or hard pictures",
}

# Kinds of hard pictures, by their names in the suite.
HARD = {
    "hands": "unusual hands",
    "deformed": "deformed digits",
    "turned": "turned digits",
    "small": "small digits",
    "thin and wide lines": "thin and wide lines",
    "noisy": "noisy digits",
    "blurred": "blurred digits",
    "on paper": "digits on paper",
}

_TITLES = {
    "usable": "Weights",
    "unusable": "Weights",
    "unusable_champion": "Weights",
    "unusable_anchor": "Weights",
    "gate_unseen": "Gate digits are new to it",
    "gate_seen": "Gate digits are new to it",
    "digits": "Gate digits read right",
    "all": "Gate digits and hard pictures read right",
    "few_drawings": "Drawings held out",
    "suite": "{kind}",
    "gain": "Gain",
    "no_gain": "Gain",
    "accuracy": "Gate digits read right",
    "refused": "Gate digits refused",
    "validation": "Validation digits read right",
    "recall": "{digit}s read right",
    "drawings": "Drawings held out read right",
    "strength": "Changed digits read right",
    "calibration": "Expected calibration error",
    "refused_others": "Non-digits refused",
    "refused_digits": "Validation digits refused",
    "accepted_digits": "Gate digits accepted",
    "accepted_hard": "Hard pictures of digits accepted",
    "multiplications": "Multiplications for one digit",
}

_WORDS: dict[str, str | Callable[[Message], str]] = {
    "usable": "can be used",
    "unusable": "cannot be used: {detail}",
    "unusable_champion": "has no version in service to be compared with: {detail}",
    "unusable_anchor": "cannot be compared with the version that a person or a release put in service last: {detail}",
    "gate_unseen": "has not learnt from the gate digits",
    "gate_seen": "has learnt from the digits that judge it, as all that goes back to weights of an earlier release",
    "digits": _digits,
    "all": lambda message: f"reads {_percent(message['to'])} of gate digits and hard pictures{_bounded(message)}",
    "few_drawings": "has learnt corrections, and {count} are held out to judge it by, where it takes {least}",
    "suite": _suite,
    "gain": "has gained on {of}",
    "no_gain": "has gained nothing that a test shows",
    "accuracy": lambda message: f"reads {_percent(message['to'])} of the gate digits",
    "refused": lambda message: f"refuses {_percent(message['to'])} of the gate digits",
    "validation": _validation,
    "recall": lambda message: f"reads {message['digit']}s {_changed(message)}",
    "drawings": _drawings,
    "strength": _strength,
    "calibration": lambda message: f"states confidences that are {_percent(message['to'])} off{_against(message)}",
    "refused_others": lambda message: (
        f"refuses {_percent(message['to'])} of what is no digit{_bounded(message) or _against(message)}"
    ),
    "accepted_hard": lambda message: f"accepts {_percent(message['to'])} of hard pictures of digits{_bounded(message)}",
    "accepted_digits": lambda message: f"accepts {_percent(message['to'])} of the gate digits{_bounded(message)}",
    "refused_digits": lambda message: f"refuses {_percent(message['to'])} of the validation digits{_against(message)}",
    "multiplications": _multiplications,
    "waits": _waits,
    "equal": "waits: no worse, and no better: nothing was gained that a test shows",
    "gained": _gained,
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
    # How a process of a distributed training, or the training itself, has ended
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


def about(seconds: float) -> str:
    """Return about how long something takes: "under a minute", "about 6 minutes", "about an hour"."""
    if seconds < 60:
        return "seconds" if seconds < 20 else "under a minute"
    minutes = round(seconds / 60)
    if minutes < 45:
        return "about a minute" if minutes == 1 else f"about {minutes} minutes"
    hours = round(minutes / 60)
    return "about an hour" if hours <= 1 else f"about {hours} hours"


def time_spent(seconds: float) -> str:
    """Return a duration in whole units: "1 second", "41 minutes", "1 hour 10 minutes"."""
    whole = max(0, round(seconds))  # negative if the clock was set back meanwhile
    if whole < 60:
        return _count(whole, "second")
    minutes = whole // 60
    if minutes < 60:
        return _count(minutes, "minute")
    return _count(minutes // 60, "hour") + (f" {_count(minutes % 60, 'minute')}" if minutes % 60 else "")


def lost_by_cancelling(seconds: float | None) -> str:
    """Return what is lost by cancelling a training that began so many seconds ago; None: it has not begun."""
    if seconds is None:
        return "It has not begun."
    spent = time_spent(seconds)
    return f"{spent} of training {'is' if spent.startswith('1 ') and spent.count(' ') == 1 else 'are'} lost."


def by_whom(by: str) -> str:
    """Return who or what put a version into service, as stored, in the words of the pages: "run 3" is "training 3"."""
    return f"training {by.removeprefix(BY_RUN)}" if by.startswith(BY_RUN) else by


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def correction_count(count: int) -> str:
    return f"{count:,} correction{'' if count == 1 else 's'}"


def removed_what(removal: Removal) -> str:
    """Return what a removal was about: "version v7", "training 3", "all older than 90 days"."""
    return _REMOVED[removal.kind].format(removal.number)


def removed_rows(counts: dict[str, int]) -> str:
    """Return the numbers of removed rows in words: "3 corrections, 1 version"."""
    return ", ".join(f"{count:,} {kind if count != 1 else kind[:-1]}" for kind, count in counts.items()) or "nothing"


_REMOVED = {
    "corrections": "corrections",
    "version": "version v{}",
    "run": "training {}",
    "old": "all older than {} days",
}


def imported(added: int, known: int) -> str:
    said = f"Imported: {correction_count(added)}, to be reviewed."
    return said + (f" {known:,} more were here already." if known else "")
