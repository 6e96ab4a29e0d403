"""Comparison of a challenger with the champion and an anchor on equal pictures: may it replace the champion by itself?

Three questions, by figures whose error is known:

- Is it no worse? The upper 95 % limit of what is lost lies below a margin ("non-inferiority"). A loss that merely could
  not be shown does not count as none.
- No worse than what? Than the champion, and than the anchor: the version that a person or a release put in service
  last. So losses that are each within the margin cannot add up.
- What has it gained? Without a gain that can be shown, nothing speaks for a change.

The pictures are gate digits, pictures made from them or drawn for the comparison, and corrections held out: no training
learns from them, or chooses an epoch or calibrates by them. Promotions do choose by them, again and again, so the
figures of a version in service flatter it a little; the anchor bounds what luck can do. The test set is not used: it
gives the final accuracy, and choices made by it would bias that. `benchmarks/promotion.py` measures how often each
criterion refuses an equal, and what harm it lets pass.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from model.data.corrections import Corrections
from model.data.splits import Split
from model.evaluation import metrics, statistics
from model.evaluation.answers import Answers, LoadedVersion, Pictures, VersionAnswers
from model.evaluation.statistics import Loss
from model.evaluation.suite import Group, hard_pictures
from model.imaging.png import ink_png
from model.inference.weights import WeightsError
from model.task import NO_DIGIT

Tell = Callable[[float], None]
"""Called with the fraction done, 0 to 1."""
Subject = Literal[
    "usable", "digits", "drawings", "recall", "suite", "calibration", "refusal", "multiplications", "gain"
]
Versus = Literal["champion", "anchor"]
Finding = dict[str, Any]
"""A code with numbers, for the caller to word: {"code": "recall", "digit": 9, "from": 0.99, "to": 0.97}."""

# Margins. Shares are 0 to 1; what is lost is bounded by its upper limit.
ACCURACY_FLOOR = 0.95
DIGITS_LOSS = 0.003
ALL_LOSS = 0.0025
DRAWINGS_LOSS = 0.1
DRAWINGS_ENOUGH = 25  # fewer drawings could not keep to that, even with none of them lost
CALIBRATION_RISE = 0.01
REFUSED_RISE = 0.01
HARD_REFUSED_RISE = 0.015
REFUSED_MOST = 0.05
OTHERS_LOSS = 0.04
LARGER = 1.2
# Levels of tests: that any digit has lost, that any kind of the suite has, that something was gained.
RECALL_LEVEL = 0.01
KINDS_LEVEL = 0.01
GAIN_LEVEL = 0.025
# Corrections are sent where the champion errs, so any other network reads some of what it misreads: an equal, a fifth
# of such drawings (15 to 21 % among twelve pairs). More than this share of them is a gain.
EQUALS_READ = 1 / 3

GATE = "gate"
SHOWN = 60
"""Most pictures kept of those gained and of those lost; all are counted."""

REASONS_SUMMED_UP = 3


@dataclass(frozen=True)
class Criterion:
    """A figure of both versions and whether the challenger passes by it.

    The figures are shares, 0 to 1, or counts, by `unit`; None where there are none. `champion` is the figure of the
    version compared with, champion or anchor, by `versus`. `margin` holds the limits by name: `loss` (of the upper
    limit of what is lost), `holm` (the level of all tests of a group together), `rise` from the other's figure, `least`
    and `most`, `times` the other's, `level` of a test.
    `reason` holds the change "from" the other's figure "to" the challenger's.
    """

    name: str
    group: Subject
    unit: Literal["share", "count", "none"]
    champion: float | None
    challenger: float | None
    margin: dict[str, float]
    passed: bool
    reason: Finding
    versus: Versus = "champion"


@dataclass(frozen=True)
class Seen:
    """A version's prediction, a digit or NO_DIGIT, and its probability, 0 to 1."""

    read: int
    probability: float


@dataclass(frozen=True)
class Difference:
    """A picture that only one version predicts correctly.

    `number` is its index among the gate digits, or the correction's id. `image` is a PNG of its ink in base64; None for
    a correction, so that no copy remains when its author deletes it.
    """

    number: int
    truth: int
    champion: Seen
    challenger: Seen
    image: str | None


@dataclass(frozen=True)
class Differences:
    """Numbers of pictures, of `count`, that only the challenger (gained) or only the champion (lost) gets right."""

    count: int
    gained: int
    lost: int
    gained_pictures: list[Difference]
    lost_pictures: list[Difference]


@dataclass(frozen=True)
class Evidence:
    """The result of a comparison; `summary` says in short why the challenger is promoted or waits.

    `passed`: it is no worse by any criterion. `gained`: it is better on the drawings held out or on the suite. `digits`
    are of the gate digits, `drawings` of the corrections held out; None without a champion or drawings.
    """

    passed: bool
    gained: bool
    summary: Finding
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
    corrections: Corrections | None = None,
    tell: Tell | None = None,
    anchor: bytes | None = None,
) -> Evidence:
    """Measure versions, given as their files' bytes, on the gate digits `data`, on the suite of hard pictures, and on
    those of the challenger's `corrections` that were held out.

    `anchor` is None where it is the champion. Without a champion, only the floors apply. Deterministic; takes some
    seconds. An unusable file fails the comparison.
    """
    tell = tell or (lambda fraction: None)
    tell(0)
    loaded = []
    for code, file in (("unusable", challenger), ("unusable_champion", champion), ("unusable_anchor", anchor)):
        try:
            loaded += [LoadedVersion.load(file)] if file else []
        except WeightsError as error:
            return _conclude([_usable(False, code, detail=str(error))])
    drawings = corrections.to_compare if corrections else None
    pictures = Pictures(data, hard_pictures(data, lambda done: tell(0.5 * done)), drawings)
    answers = []
    for number, version in enumerate(loaded, 1):
        answers.append(version.answer(pictures))
        tell(0.5 + 0.5 * number / len(loaded))
    new, others = answers[0], answers[1:]
    criteria = [_usable(True, "usable"), _unseen(new), *_floors(new)]
    enough = drawings is not None and len(drawings) >= DRAWINGS_ENOUGH
    if corrections and len(corrections.to_learn) and not enough:
        criteria.append(_too_few_drawings(len(drawings or ())))
    if not others:
        return _conclude(criteria)
    for versus, other in zip(get_args(Versus), others, strict=False):
        criteria += [replace(one, versus=versus) for one in relative_criteria(other, new, pictures.suite)]
    old = others[0]
    criteria.append(_gain(old, new, pictures.suite))
    return _conclude(criteria, _digit_differences(old, new, data), _drawing_differences(old, new, drawings))


# Criteria of the challenger alone


def _usable(passed: bool, code: str, **found: Any) -> Criterion:
    return Criterion("usable", "usable", "none", None, None, {}, passed, {"code": code, **found})


def _unseen(new: VersionAnswers) -> Criterion:
    code = "gate_unseen" if new.gate_unseen else "gate_seen"
    return Criterion("unseen", "usable", "none", None, None, {}, new.gate_unseen, {"code": code})


def _floors(new: VersionAnswers) -> Iterator[Criterion]:
    accuracy, refused = float(new.digits.recognised.mean()), float(new.digits.refused.mean())
    floor, most = {"least": ACCURACY_FLOOR}, {"most": REFUSED_MOST}
    yield _figure("accuracy", "usable", (None, accuracy), floor, accuracy >= ACCURACY_FLOOR, code="accuracy")
    yield _figure("refused", "usable", (None, refused), most, refused <= REFUSED_MOST, code="refused")


def _too_few_drawings(count: int) -> Criterion:
    """Refuse a challenger that has learnt corrections where too few are held out to judge what it learnt."""
    reason = {"code": "few_drawings", "count": count, "least": DRAWINGS_ENOUGH}
    return Criterion("drawings", "drawings", "none", None, None, {}, False, reason)


# Criteria of the challenger and another version


def relative_criteria(old: VersionAnswers, new: VersionAnswers, suite: list[Group]) -> Iterator[Criterion]:
    """Yield the criteria by which a challenger is no worse than another version, the champion or the anchor."""
    pairs = _Pairs.of(old, new, suite)
    right = old.digits.recognised, new.digits.recognised
    yield _bounded("digits", "digits", right, DIGITS_LOSS, old_learnt_them=not old.gate_unseen)
    yield _on_all(pairs)
    if old.drawings and new.drawings and len(new.drawings) >= DRAWINGS_ENOUGH:
        yield _bounded("drawings", "drawings", (old.drawings.right, new.drawings.right), DRAWINGS_LOSS)
    yield from _on_each_digit(pairs)
    yield from _on_suite(pairs)
    errors = [metrics.reliability(one.digits.probabilities, one.digits.labels).error for one in (old, new)]
    passed = errors[1] - errors[0] <= CALIBRATION_RISE
    yield _figure("calibration", "calibration", errors, {"rise": CALIBRATION_RISE}, passed)
    if old.refuses:  # one that refuses nothing sets no limit
        yield from _on_refusals(old, new, suite)
    counts = old.multiplications, new.multiplications
    fits = counts[1] <= LARGER * counts[0]
    yield _figure("multiplications", "multiplications", counts, {"times": LARGER}, fits, "count")


def _on_refusals(old: VersionAnswers, new: VersionAnswers, suite: list[Group]) -> Iterator[Criterion]:
    accepted = ~old.digits.refused, ~new.digits.refused
    yield _bounded("accepted-digits", "refusal", accepted, REFUSED_RISE, code="accepted_digits")
    hard = [place for place, group in enumerate(suite) if group.labels[0] != NO_DIGIT]
    none = [place for place, group in enumerate(suite) if group.labels[0] == NO_DIGIT]
    for name, places, turned, margin in (
        ("accepted-hard", hard, True, HARD_REFUSED_RISE),
        ("refused-others", none, False, OTHERS_LOSS),
    ):
        right = [np.concatenate([one.suite[place].refused != turned for place in places]) for one in (old, new)]
        origins = np.concatenate([suite[place].origin for place in places])
        limit = statistics.clustered_loss(right[0].astype(int) - right[1], origins).limit
        shares, code = [float(one.mean()) for one in right], name.replace("-", "_")
        yield _figure(name, "refusal", shares, {"loss": margin}, limit <= margin, code=code, limit=limit)


def _on_all(pairs: _Pairs) -> Criterion:
    """Bound the loss on all pictures together, which is known best."""
    everything = np.ones(len(pairs.labels), bool)
    limit = pairs.loss(everything).limit
    shares = pairs.shares(everything)
    return _figure("all", "digits", shares, {"loss": ALL_LOSS}, limit <= ALL_LOSS, code="all", limit=limit)


def _on_each_digit(pairs: _Pairs) -> Iterator[Criterion]:
    """Test each digit on all pictures of it: too few of the gate digits are one digit to bound what it loses."""
    digits = np.unique(pairs.labels).tolist()
    failed = statistics.holm([pairs.loss(pairs.labels == digit).p for digit in digits], RECALL_LEVEL)
    for digit, fails in zip(digits, failed, strict=True):
        shares = pairs.shares(pairs.labels == digit)
        yield _figure(f"recall-{digit}", "recall", shares, {"holm": RECALL_LEVEL}, not fails, digit=digit)


def _on_suite(pairs: _Pairs) -> Iterator[Criterion]:
    """Test each kind of hard pictures."""
    kinds = pairs.suite_kinds
    failed = statistics.holm([pairs.loss(pairs.kinds == kind).p for kind in kinds], KINDS_LEVEL)
    for kind, fails in zip(kinds, failed, strict=True):
        key, shares = f"suite-{kind.replace(' ', '-')}", pairs.shares(pairs.kinds == kind)
        yield _figure(key, "suite", shares, {"holm": KINDS_LEVEL}, not fails, kind=kind)


def _gain(old: VersionAnswers, new: VersionAnswers, suite: list[Group]) -> Criterion:
    """Tell whether something was gained: on the drawings held out, or on the suite."""
    of = None
    if old.drawings and new.drawings:
        misread = ~old.drawings.right
        count, gained = int(misread.sum()), int((misread & new.drawings.right).sum())
        of = "drawings" if statistics.binomial_p(gained, count, EQUALS_READ) <= GAIN_LEVEL else None
    pairs = _Pairs.of(old, new, suite)
    if of is None and pairs.loss(pairs.kinds != GATE).gain_p <= GAIN_LEVEL:
        of = "suite"
    reason = {"code": "gain", "of": of} if of else {"code": "no_gain"}
    return Criterion("gain", "gain", "none", None, None, {}, of is not None, reason)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """All pictures of digits that both versions have read: labels, kinds and origins (N,), and which each recognised.

    The kind of a gate digit as it is is GATE; origins are numbered over all kinds.
    """

    labels: np.ndarray
    kinds: np.ndarray
    origins: np.ndarray
    old: np.ndarray
    new: np.ndarray

    @classmethod
    def of(cls, old: VersionAnswers, new: VersionAnswers, suite: list[Group]) -> _Pairs:
        count = len(old.digits)
        parts = [(GATE, np.arange(count), old.digits, new.digits)]
        for group, first, second in zip(suite, old.suite, new.suite, strict=True):
            if group.labels[0] != NO_DIGIT:
                parts.append((group.name, group.origin, first, second))
        return cls(
            np.concatenate([one.labels for *_, one in parts]),
            np.concatenate([np.full(len(one), name) for name, *_, one in parts]),
            np.concatenate([origins for _, origins, *_ in parts]),
            np.concatenate([one.recognised for _, _, one, _ in parts]),
            np.concatenate([one.recognised for *_, one in parts]),
        )

    @property
    def suite_kinds(self) -> list[str]:
        return [kind for kind in dict.fromkeys(self.kinds.tolist()) if kind != GATE]

    def shares(self, chosen: np.ndarray) -> list[float]:
        """Return the shares of the chosen pictures, bool (N,), that each version recognises."""
        return [float(self.old[chosen].mean()), float(self.new[chosen].mean())]

    def loss(self, chosen: np.ndarray) -> Loss:
        return statistics.clustered_loss(self._losses[chosen], self.origins[chosen])

    @property
    def _losses(self) -> np.ndarray:
        return self.old.astype(int) - self.new


def _bounded(name: str, group: Subject, right: tuple[np.ndarray, np.ndarray], most: float, **found: Any) -> Criterion:
    """Bound the loss from the other version's right answers to the challenger's, each bool (N,)."""
    lost, gained = _lost_and_gained(*right)
    limit = statistics.loss_limit(lost, gained, len(right[0]))
    shares = [float(one.mean()) for one in right]
    found |= {"count": len(right[0]), "gained": gained, "lost": lost, "limit": limit}
    return _figure(name, group, shares, {"loss": most}, limit <= most, **found)


def _lost_and_gained(old: np.ndarray, new: np.ndarray) -> tuple[int, int]:
    return int((old & ~new).sum()), int((new & ~old).sum())


def _figure(
    name: str,
    group: Subject,
    values: Sequence[float | None],
    margin: dict[str, float],
    passed: bool,
    unit: Literal["share", "count"] = "share",
    **found: Any,
) -> Criterion:
    """Return a criterion of the other version's value, None without one, and the challenger's."""
    old, new = values
    reason = {"code": group, **found, "from": old, "to": new}
    return Criterion(name, group, unit, old, new, margin, passed, reason)


def _conclude(
    criteria: list[Criterion], digits: Differences | None = None, drawings: Differences | None = None
) -> Evidence:
    harmed = [one.reason for one in criteria if not one.passed and one.group != "gain"]
    gain = next((one for one in criteria if one.group == "gain"), None)
    gained = gain is None or gain.passed
    summary: Finding
    if harmed:
        told = harmed[:REASONS_SUMMED_UP]
        summary = {"code": "waits", "reasons": told, "more": len(harmed) - len(told)}
    elif not gained:
        summary = {"code": "equal"}
    else:
        accuracy = next(one for one in criteria if one.name == ("digits" if digits else "accuracy"))
        summary = {"code": "gained" if digits else "passed", "from": accuracy.champion, "to": accuracy.challenger}
        if seen := drawings or digits:
            summary |= {"of": "drawings" if drawings else "digits", "gained": seen.gained, "lost": seen.lost}
    return Evidence(not harmed, gained, summary, criteria, digits, drawings)


# The pictures themselves


def _digit_differences(old: VersionAnswers, new: VersionAnswers, data: Split) -> Differences:
    def image(i: int) -> str:
        return base64.b64encode(ink_png(data.images[i].numpy())).decode()

    read = old.digits.probabilities.argmax(1), new.digits.probabilities.argmax(1)
    return _differences(old.digits, new.digits, read, range(len(data)), image)


def _drawing_differences(old: VersionAnswers, new: VersionAnswers, drawings: Corrections | None) -> Differences | None:
    if not (drawings and old.drawings and new.drawings):
        return None
    read = old.drawings.read, new.drawings.read
    return _differences(old.drawings, new.drawings, read, drawings.ids.tolist(), lambda i: None)


def _differences(
    old: Answers,
    new: Answers,
    read: tuple[np.ndarray, np.ndarray],
    numbers: Sequence[int],
    image: Callable[[int], str | None],
) -> Differences:
    """Return the pictures that only one version gets right by what they have `read`, most confident errors first."""
    labels = old.labels
    right = [one == labels for one in read]

    def seen(which: int, i: int) -> Seen:
        answers, said = (old, new)[which], int(read[which][i])
        return Seen(said, float(answers.not_a_digit[i] if said == NO_DIGIT else answers.probabilities[i, said]))

    def clearest(chosen: np.ndarray, wrong: int) -> list[Difference]:
        places = sorted(np.flatnonzero(chosen).tolist(), key=lambda i: -seen(wrong, i).probability)[:SHOWN]
        return [Difference(numbers[i], int(labels[i]), seen(0, i), seen(1, i), image(i)) for i in places]

    gained, lost = right[1] & ~right[0], right[0] & ~right[1]
    return Differences(
        len(labels), int(gained.sum()), int(lost.sum()), clearest(gained, wrong=0), clearest(lost, wrong=1)
    )
