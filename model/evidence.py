"""Whether a challenger may take the champion's place: both measured on the same pictures, in the same process.

Nothing here looks at the test set: that one tells how good a version is, and would tell less with each choice made by
it.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from model import chance, drawn, evaluate, weights
from model.corrections import Corrections
from model.forward import Forward
from model.ink import ink_png
from model.recognizer import try_out
from model.strength import CHANGES, changed_pictures, digit_images, stream
from model.task import DIGITS, NO_DIGIT
from model.verdict import Calibration
from model.weights import WeightsError

if TYPE_CHECKING:
    from model.mnist import Split
    from model.network import MLP

Tell = Callable[[float], None]
"""Is told the fraction done, 0 to 1."""
Group = Literal["usable", "validation", "drawings", "recall", "strength", "calibration", "refusal", "time"]

# Margins. Shares are 0 to 1; a fall or a rise is from the champion's figure to the challenger's.
LEVEL = 0.05
NO_WORSE = f"no worse by McNemar's exact test (p at least {LEVEL})"
VALIDATION_FLOOR = 0.95
DRAWINGS_FALL = 0.05
DRAWINGS_ENOUGH = 50  # below that many, one drawing is too great a share for a limit in shares
RECALL_FALL = 0.01
STRENGTH_FALL = 0.01
CURVE_FALL = 0.03
CALIBRATION_RISE = 0.01
OTHERS_FALL = 0.02
REFUSED_RISE = 0.01
REFUSED_MOST = 0.05
SLOWER = 1.2

STRENGTH_DIGITS = 100
OTHERS = 1_000
SHOWN = 60
"""Of the pictures gained and of those lost, no more are kept; all are counted."""

PACE_DIGITS, PACE_TURN, PACE_ROUNDS = 60, 10, 6
PACE_ATTEMPTS = 5
REASONS_SAID = 3


@dataclass(frozen=True)
class Criterion:
    """One figure of both versions and whether it lets the challenger pass.

    The figures are shares, 0 to 1, or milliseconds by `unit`, and None where there is none to be had. `margin` says
    what is asked for, `reason` what was found, as a clause about the challenger: "reads 9s 3.2 points worse".
    """

    name: str
    group: Group
    title: str
    unit: Literal["share", "ms", "none"]
    champion: float | None
    challenger: float | None
    margin: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Seen:
    """What a version read, a digit or NO_DIGIT, and how probable that was to it, 0 to 1."""

    read: int
    probability: float


@dataclass(frozen=True)
class Difference:
    """A picture that one of both read right, and the other wrong.

    `number` is its place among the validation digits, or the correction's id. `image` is a PNG of its ink in base64;
    None for a correction, which must be gone when its author deletes it.
    """

    number: int
    truth: int
    champion: Seen
    challenger: Seen
    image: str | None


@dataclass(frozen=True)
class Differences:
    """How `count` pictures were read by both: how many more and how many no more are read right, and the clearest."""

    count: int
    gained: int
    lost: int
    gained_pictures: list[Difference]
    lost_pictures: list[Difference]


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against a challenger; `summary` says in one line why it passed or waits.

    `digits` are the validation digits, `drawings` the corrections held out; None where there is nothing to compare.
    """

    passed: bool
    summary: str
    criteria: list[Criterion]
    digits: Differences | None = None
    drawings: Differences | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return asdict(self)


def compare(
    challenger: bytes,
    champion: bytes | None,
    data: Split,
    drawings: Corrections | None = None,
    tell: Tell | None = None,
) -> Evidence:
    """Measure both versions, given as their files' bytes, on the validation digits `data` and on approved drawings that
    neither has learnt from.

    Without a champion there are only the floors to pass. Takes some seconds. The figures are the same each time, but
    for the prediction time.
    """
    tell = tell or (lambda fraction: None)
    tell(0)
    new, fault = _loaded(challenger)
    old, champions_fault = _loaded(champion) if champion else (None, None)
    if fault or champions_fault:
        said = f"cannot be used: {fault}" if fault else f"has no champion to be compared with: {champions_fault}"
        return _judged([_usable(False, said)])
    readers = [reader for reader in (old, new) if reader]
    images, labels = data.images.numpy(), data.labels.numpy()
    validation = [reader.answers(images) for reader in readers]
    criteria = [_usable(True, "can be used"), *_on_digits(validation, labels)]
    digits = _differences([one.likeliest for one in validation], validation, labels, images)
    held_out = None
    if drawings is not None and len(drawings):
        answers = [reader.answers(drawings.images) for reader in readers]
        read = [one.read for one in answers]
        criteria.append(_on_drawings(read, drawings.labels))
        held_out = _differences(read, answers, drawings.labels, numbers=drawings.ids)
    tell(0.1)
    criteria += _on_changes(readers, data, lambda done: tell(0.1 + 0.7 * done))
    criteria.append(_on_confidence(validation, labels))
    criteria += _on_others(readers, validation)
    tell(0.9)
    criteria.append(_on_time(readers, data.images[:PACE_DIGITS].numpy()))
    tell(1)
    return _judged(criteria, digits, held_out)


def mcnemar(lost: int, gained: int) -> float:
    """The probability, 0 to 1, that chance loses at least so many where as many are as likely to be gained.

    McNemar's exact test, one-sided: of the pictures that just one of two versions reads right, each falls to either
    with probability 1/2 if they are equally good ("Note on the sampling error of the difference between correlated
    proportions or percentages", 1947).
    """
    count = lost + gained
    ways = total = math.comb(count, lost)
    for k in range(lost, count):
        ways = ways * (count - k) // (k + 1)
        total += ways
    return total / 2**count


def paces(networks: Sequence[Forward], images: np.ndarray) -> list[float]:
    """The seconds that each network, as it serves, takes for one of these digits, uint8 (N, 28, 28): the median.

    They read in turns, so that whatever else the machine does hits all, and of several readings of a digit the quickest
    counts: the machine's other work only ever adds.
    """
    best = np.full((len(networks), len(images)), np.inf)
    for turn in range(PACE_ROUNDS):
        for start in range(0, len(images), PACE_TURN):
            for which in range(len(networks))[:: 1 if turn % 2 else -1]:
                for i in range(start, min(start + PACE_TURN, len(images))):
                    best[which, i] = min(best[which, i], _seconds(networks[which], images[i]))
    return np.median(best, axis=1).tolist()


def _seconds(network: Forward, image: np.ndarray) -> float:
    began = time.perf_counter()
    network.one(image)
    return time.perf_counter() - began


# Reading


@dataclass(frozen=True, eq=False)
class _Answers:
    """Probabilities (N, 10), that of no digit (N,), and which pictures are refused, bool (N,)."""

    probabilities: np.ndarray
    not_a_digit: np.ndarray
    refused: np.ndarray

    @property
    def likeliest(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def read(self) -> np.ndarray:
        """The likeliest digit, or NO_DIGIT where the picture is refused."""
        return np.where(self.refused, NO_DIGIT, self.likeliest)

    def seen(self, i: int, read: int) -> Seen:
        return Seen(read, float(self.not_a_digit[i] if read == NO_DIGIT else self.probabilities[i, read]))


@dataclass(frozen=True, eq=False)
class _Reader:
    network: MLP
    forward: Forward
    calibration: Calibration

    @property
    def refuses(self) -> bool:
        return self.network.outputs > DIGITS

    def answers(self, images: np.ndarray) -> _Answers:
        probabilities, outliers = evaluate.readings(self.network, images)
        scores = evaluate.not_a_digit(outliers)
        return _Answers(probabilities, scores, scores > self.calibration.refuse_above)


def _loaded(data: bytes) -> tuple[_Reader | None, str | None]:
    """What reads with these weights, or why nothing can."""
    try:
        try_out(data)
        network, card = weights.from_bytes(data)
        forward = Forward(weights.layers(data)[0])
    except WeightsError as error:
        return None, str(error)
    return _Reader(network, forward, card.calibration), None


# Criteria. A list holds the champion's and the challenger's, or the challenger's alone.


def _usable(passed: bool, reason: str) -> Criterion:
    margin = "they load and give probabilities"
    return Criterion("usable", "usable", "Weights", "none", None, None, margin, passed, reason)


def _on_digits(validation: list[_Answers], labels: np.ndarray) -> list[Criterion]:
    right = [answers.likeliest == labels for answers in validation]
    occurring = np.unique(labels).tolist()
    return [_on_validation(right), *(_on_digit(digit, [one[labels == digit] for one in right]) for digit in occurring)]


def _on_validation(right: list[np.ndarray]) -> Criterion:
    old, new = _both([float(one.mean()) for one in right])
    floor = _percent(VALIDATION_FLOOR, 0)
    passed, reason = new >= VALIDATION_FLOOR, f"reads {_percent(new)} of the validation digits"
    if not passed:
        reason += f", and {floor} is the least"
    elif old is not None:
        worse, found = _worse(right)
        passed = not worse
        reason += f" against {_percent(old)}, {found}"
    margin = f"{NO_WORSE}, and at least {floor}"
    title = "Validation digits read right"
    return Criterion("validation", "validation", title, "share", old, new, margin, passed, reason)


def _on_digit(digit: int, right: list[np.ndarray]) -> Criterion:
    old, new = _both([float(one.mean()) for one in right])
    passed = old is None or _net_lost(right) <= RECALL_FALL * len(right[0])
    reason = f"reads {digit}s {_changed(old, new, 'better', 'worse', 'as well')}"
    margin = f"at most {_points(RECALL_FALL)} less"
    return Criterion(f"recall-{digit}", "recall", f"{digit}s read right", "share", old, new, margin, passed, reason)


def _on_drawings(read: list[np.ndarray], labels: np.ndarray) -> Criterion:
    right = [one == labels for one in read]
    old, new = _both([float(one.mean()) for one in right])
    margin = NO_WORSE
    passed, reason = True, f"reads {_percent(new)} of the {len(labels)} drawings held out"
    if len(labels) >= DRAWINGS_ENOUGH:
        margin += f", and at most {_points(DRAWINGS_FALL)} less"
    if old is not None:
        worse, found = _worse(right)
        fallen = len(labels) >= DRAWINGS_ENOUGH and _net_lost(right) > DRAWINGS_FALL * len(labels)
        passed = not worse and not fallen
        reason += f" against {_percent(old)}, {found}"
    return Criterion("drawings", "drawings", "Drawings held out read right", "share", old, new, margin, passed, reason)


def _on_changes(readers: list[_Reader], data: Split, tell: Tell) -> list[Criterion]:
    """Each changed picture is made once, and read by both."""
    chosen = stream("evidence, digits", 0).permutation(len(data))[:STRENGTH_DIGITS]
    images, labels = data.images.numpy()[chosen], data.labels.numpy()[chosen]
    curves = {}
    for done, change in enumerate(CHANGES, 1):
        levels = [digit_images(pictures) for pictures in changed_pictures(change, images, 0, lambda: None)]
        curves[change.name] = [_read_right(reader, levels, labels) for reader in readers]
        tell(done / len(CHANGES))
    overall = np.mean(list(curves.values()), axis=0).tolist()
    criteria = [_on_change("strength", "Changed digits read right", "changed digits", overall, STRENGTH_FALL)]
    for name, shares in curves.items():
        slug, words = name.replace(" ", "-"), f"digits changed in {name}"
        criteria.append(_on_change(f"strength-{slug}", f"Changed in {name}", words, shares, CURVE_FALL))
    return criteria


def _read_right(reader: _Reader, levels: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray) -> float:
    return float(np.mean([(reader.answers(images).likeliest == labels) & ~blank for images, blank in levels]))


def _on_change(name: str, title: str, words: str, shares: list[float], fall: float) -> Criterion:
    old, new = _both(shares)
    passed = old is None or _at_most(old - new, fall)
    reason = f"reads {words} {_changed(old, new, 'better', 'worse', 'as well')}"
    return Criterion(name, "strength", title, "share", old, new, f"at most {_points(fall)} less", passed, reason)


def _on_confidence(validation: list[_Answers], labels: np.ndarray) -> Criterion:
    old, new = _both([evaluate.reliability(answers.probabilities, labels).error for answers in validation])
    passed = old is None or _at_most(new - old, CALIBRATION_RISE)
    reason = f"states confidences that are {_percent(new)} off{_against(old)}"
    margin = f"at most {_points(CALIBRATION_RISE)} more"
    title = "Expected calibration error"
    return Criterion("calibration", "calibration", title, "share", old, new, margin, passed, reason)


def _on_others(readers: list[_Reader], validation: list[_Answers]) -> list[Criterion]:
    images, _ = drawn.others(OTHERS, chance.seed("evidence, others"))
    others = [float(reader.answers(images).refused.mean()) for reader in readers]
    digits = [float(answers.refused.mean()) for answers in validation]
    bar = len(readers) > 1 and readers[0].refuses  # one that refuses nothing sets none
    return [_on_refused_others(others, bar), _on_refused_digits(digits, bar)]


def _on_refused_others(shares: list[float], bar: bool) -> Criterion:
    old, new = _both(shares)
    passed = not bar or _at_most(old - new, OTHERS_FALL)
    reason = f"refuses {_percent(new)} of what is no digit{_against(old)}"
    margin = f"at most {_points(OTHERS_FALL)} less"
    return Criterion("refused-others", "refusal", "Non-digits refused", "share", old, new, margin, passed, reason)


def _on_refused_digits(shares: list[float], bar: bool) -> Criterion:
    old, new = _both(shares)
    passed = _at_most(new, REFUSED_MOST) and (not bar or _at_most(new - old, REFUSED_RISE))
    reason = f"refuses {_percent(new)} of the validation digits{_against(old)}"
    margin = f"at most {_points(REFUSED_RISE)} more, and at most {_percent(REFUSED_MOST, 0)}"
    return Criterion(
        "refused-digits", "refusal", "Validation digits refused", "share", old, new, margin, passed, reason
    )


def _on_time(readers: list[_Reader], images: np.ndarray) -> Criterion:
    """Measured again where the challenger seems too slow: other work on the machine may have hit it alone."""
    networks = [reader.forward for reader in readers]
    attempts = []
    while not attempts or (attempts[-1][-1] > SLOWER * attempts[-1][0] and len(attempts) < PACE_ATTEMPTS):
        attempts.append(paces(networks, images))
    seconds = min(attempts, key=lambda found: found[-1] / found[0])
    old, new = _both([1000 * value for value in seconds])
    passed = old is None or new <= SLOWER * old
    reason = f"takes {new:.2f} ms for a digit" if old is None else f"takes {new / old:.2f} times as long for a digit"
    margin = f"at most {SLOWER - 1:.0%} longer".replace("%", " %")
    return Criterion("time", "time", "Time for one digit, one thread", "ms", old, new, margin, passed, reason)


def _both(values: list[float]) -> tuple[float | None, float]:
    """The champion's value, where there is one, and the challenger's."""
    return (values[0] if len(values) > 1 else None), values[-1]


def _at_most(change: float, margin: float) -> bool:
    """Whether a change is within its margin; 0.93 - 0.90 is a little more than 0.03 to a computer."""
    return change <= margin + 1e-9


def _lost_and_gained(right: list[np.ndarray]) -> tuple[int, int]:
    old, new = right
    return int((old & ~new).sum()), int((new & ~old).sum())


def _net_lost(right: list[np.ndarray]) -> int:
    lost, gained = _lost_and_gained(right)
    return lost - gained


def _worse(right: list[np.ndarray]) -> tuple[bool, str]:
    """Whether the challenger reads worse than chance explains, and the same in words."""
    lost, gained = _lost_and_gained(right)
    p = mcnemar(lost, gained)
    said = f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.4f}" if p >= 0.0001 else "p below 0.0001"
    return p < LEVEL, f"{gained} gained and {lost} lost ({said})"


# Words


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f} %"


def _points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:.0f} points"


def _against(share: float | None) -> str:
    return "" if share is None else f" against {_percent(share)}"


def _changed(old: float | None, new: float, better: str, worse: str, same: str) -> str:
    """The way from one share to another: "3.2 points worse"."""
    if old is None:
        return f"in {_percent(new)} of cases"
    points = 100 * abs(new - old)
    return f"{points:.1f} points {better if new > old else worse}" if points >= 0.05 else same


def _judged(
    criteria: list[Criterion], digits: Differences | None = None, drawings: Differences | None = None
) -> Evidence:
    failed = [criterion for criterion in criteria if not criterion.passed]
    summary = _why_it_waits(failed) if failed else _why_it_passed(criteria, digits, drawings)
    return Evidence(not failed, summary, criteria, digits, drawings)


def _why_it_waits(failed: list[Criterion]) -> str:
    said = "; ".join(criterion.reason for criterion in failed[:REASONS_SAID])
    more = len(failed) - REASONS_SAID
    return f"waits: {said}" + (f"; and {more} more" if more > 0 else "")


def _why_it_passed(criteria: list[Criterion], digits: Differences | None, drawings: Differences | None) -> str:
    validation = next(criterion for criterion in criteria if criterion.name == "validation")
    summary = f"{_percent(validation.challenger)} of validation digits{_against(validation.champion)}"
    told, name = (drawings, "drawings") if drawings else (digits, "digits")
    return f"{summary}; {told.gained} {name} gained, {told.lost} lost" if told else summary


# The pictures themselves


def _differences(
    read: list[np.ndarray],
    answers: list[_Answers],
    labels: np.ndarray,
    images: np.ndarray | None = None,
    numbers: Sequence[int] | None = None,
) -> Differences | None:
    """Pictures by what both read; those whose wrong reading was surest come first."""
    if len(read) < 2:
        return None
    old, new = (one == labels for one in read)

    def difference(i: int) -> Difference:
        seen = [one.seen(i, int(found[i])) for one, found in zip(answers, read, strict=True)]
        image = None if images is None else base64.b64encode(ink_png(images[i])).decode()
        return Difference(int(i if numbers is None else numbers[i]), int(labels[i]), *seen, image)

    def clearest(chosen: np.ndarray, wrong: int) -> list[Difference]:
        places = np.flatnonzero(chosen).tolist()
        sure = {i: answers[wrong].seen(i, int(read[wrong][i])).probability for i in places}
        return [difference(i) for i in sorted(places, key=lambda i: -sure[i])[:SHOWN]]

    gained, lost = new & ~old, old & ~new
    return Differences(
        len(labels), int(gained.sum()), int(lost.sum()), clearest(gained, wrong=0), clearest(lost, wrong=1)
    )
