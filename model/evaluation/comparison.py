"""Comparison of a challenger with the champion on equal pictures: may the challenger replace it?

The test set is not used: it gives the final accuracy, and choices made by it would bias that.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from model import seeds
from model.data import synthetic
from model.data.corrections import Corrections
from model.data.splits import Split
from model.evaluation import metrics
from model.evaluation.robustness import CHANGES, changed_pictures, digit_images, random_stream
from model.imaging.png import ink_png
from model.inference import weights
from model.inference.classifier import check_weights
from model.inference.decision import Calibration
from model.inference.weights import WeightsError
from model.network.mlp import MLP
from model.network.predict import predict
from model.network.weights import deserialize
from model.task import DIGITS, NO_DIGIT

Tell = Callable[[float], None]
"""Called with the fraction done, 0 to 1."""
Group = Literal["usable", "validation", "drawings", "recall", "strength", "calibration", "refusal", "multiplications"]
Finding = dict[str, Any]
"""A code with numbers, for the caller to word: {"code": "recall", "digit": 9, "from": 0.99, "to": 0.97}."""

# Margins. Shares are 0 to 1; a fall or a rise is the change from the champion's figure to the challenger's.
LEVEL = 0.05
VALIDATION_FLOOR = 0.95
DRAWINGS_FALL = 0.05
DRAWINGS_ENOUGH = 50  # for fewer drawings, a limit in shares would depend on a single one
RECALL_FALL = 0.01
STRENGTH_FALL = 0.01
CURVE_FALL = 0.03
CALIBRATION_RISE = 0.01
OTHERS_FALL = 0.02
REFUSED_RISE = 0.01
REFUSED_MOST = 0.05
LARGER = 1.2

STRENGTH_DIGITS = 100
OTHERS = 1_000
SHOWN = 60
"""Most pictures kept of those gained and of those lost; all are counted."""

REASONS_SUMMED_UP = 3


@dataclass(frozen=True)
class Criterion:
    """A figure of both versions and whether the challenger passes by it.

    The figures are shares, 0 to 1, or counts, by `unit`; None where there are none. `margin` holds the limits by name:
    `fall` and `rise` from the champion's figure, `least` and `most`, `times` the champion's, `level` of McNemar's test.
    `reason` holds the change "from" the champion's figure "to" the challenger's.
    """

    name: str
    group: Group
    unit: Literal["share", "count", "none"]
    champion: float | None
    challenger: float | None
    margin: dict[str, float]
    passed: bool
    reason: Finding


@dataclass(frozen=True)
class Seen:
    """A version's prediction, a digit or NO_DIGIT, and its probability, 0 to 1."""

    read: int
    probability: float


@dataclass(frozen=True)
class Difference:
    """A picture that only one version predicts correctly.

    `number` is its index among the validation digits, or the correction's id. `image` is a PNG of its ink in base64;
    None for a correction, so that no copy remains when its author deletes it.
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
    """The result of a comparison; `summary` says in short why the challenger passed or waits.

    `digits` are of the validation digits, `drawings` of the corrections held out; None without a champion or drawings.
    """

    passed: bool
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
    drawings: Corrections | None = None,
    tell: Tell | None = None,
) -> Evidence:
    """Measure both versions, given as their files' bytes, on the validation digits `data`, on approved drawings that
    neither was trained on, and on synthetic pictures.

    Without a champion, only the floors apply. Deterministic; takes some seconds. An unusable file fails the comparison.
    """
    tell = tell or (lambda fraction: None)
    tell(0)
    try:
        new = _load(challenger)
    except WeightsError as error:
        return _conclude([_usable(False, "unusable", detail=str(error))])
    try:
        old = _load(champion) if champion else None
    except WeightsError as error:
        return _conclude([_usable(False, "unusable_champion", detail=str(error))])
    readers = [reader for reader in (old, new) if reader]
    images, labels = data.images.numpy(), data.labels.numpy()
    validation = [reader.answers(images) for reader in readers]
    criteria = [_usable(True, "usable"), *_on_digits(validation, labels)]
    digits = _differences([one.likeliest for one in validation], validation, labels, images)
    held_out = None
    if drawings is not None and len(drawings):
        answers = [reader.answers(drawings.images) for reader in readers]
        read = [one.read for one in answers]
        criteria.append(_on_drawings(read, drawings.labels))
        held_out = _differences(read, answers, drawings.labels, numbers=drawings.ids.tolist())
    tell(0.1)
    criteria += _on_changes(readers, data, lambda done: tell(0.1 + 0.8 * done))
    criteria.append(_on_confidence(validation, labels))
    criteria += [*_on_others(readers, validation), _on_multiplications(readers)]
    tell(1)
    return _conclude(criteria, digits, held_out)


def mcnemar(lost: int, gained: int) -> float:
    """Return the p-value, 0 to 1, of McNemar's exact one-sided test that the challenger is no worse.

    If both are equally good, each picture that only one gets right is a loss or a gain with probability 1/2 ("Note on
    the sampling error of the difference between correlated proportions or percentages", 1947).
    """
    count = lost + gained
    ways = total = math.comb(count, lost)
    for k in range(lost, count):
        ways = ways * (count - k) // (k + 1)
        total += ways
    return total / 2**count


# Predictions


@dataclass(frozen=True, eq=False)
class _Predictions:
    """Predictions for N pictures: probabilities (N, 10), that of no digit (N,), refused pictures, bool (N,)."""

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
class _Version:
    network: MLP
    calibration: Calibration
    multiplications: int
    """Of one prediction, zero inputs included."""

    def answers(self, images: np.ndarray) -> _Predictions:
        probabilities, outliers = predict(self.network, images)
        scores = metrics.not_a_digit(outliers)
        return _Predictions(probabilities, scores, scores > self.calibration.refuse_above)


def _load(data: bytes) -> _Version:
    """Load a version; raises WeightsError."""
    check_weights(data)
    network, card = deserialize(data)
    return _Version(network, card.calibration, sum(weight.size for weight, _ in weights.layers(data)[0]))


# Criteria. A list holds the champion's and the challenger's, or the challenger's alone.


def _usable(passed: bool, code: str, **found: Any) -> Criterion:
    return Criterion("usable", "usable", "none", None, None, {}, passed, {"code": code, **found})


def _figure(
    name: str,
    group: Group,
    values: Sequence[float],
    margin: dict[str, float],
    passed: bool,
    unit: Literal["share", "count"] = "share",
    **found: Any,
) -> Criterion:
    """Return a criterion of the champion's value, where there is one, and the challenger's."""
    old, new = values[0] if len(values) > 1 else None, values[-1]
    reason = {"code": group, **found, "from": old, "to": new}
    return Criterion(name, group, unit, old, new, margin, passed, reason)


def _on_digits(validation: list[_Predictions], labels: np.ndarray) -> Iterator[Criterion]:
    right = [answers.likeliest == labels for answers in validation]
    shares, margin = _shares(right), {"level": LEVEL, "least": VALIDATION_FLOOR}
    if shares[-1] < VALIDATION_FLOOR:
        yield _figure("validation", "validation", shares, margin, False, least=VALIDATION_FLOOR)
    else:
        test = _mcnemar_test(right)
        yield _figure("validation", "validation", shares, margin, _is_no_worse(test), **test)
    for digit in np.unique(labels).tolist():
        those = [one[labels == digit] for one in right]
        passed = _net_lost(those) <= RECALL_FALL * len(those[0])
        yield _figure(f"recall-{digit}", "recall", _shares(those), {"fall": RECALL_FALL}, passed, digit=digit)


def _on_drawings(read: list[np.ndarray], labels: np.ndarray) -> Criterion:
    right, margin = [one == labels for one in read], {"level": LEVEL}
    test = _mcnemar_test(right)
    passed = _is_no_worse(test)
    if len(labels) >= DRAWINGS_ENOUGH:
        margin["fall"] = DRAWINGS_FALL
        passed = passed and _net_lost(right) <= DRAWINGS_FALL * len(labels)
    return _figure("drawings", "drawings", _shares(right), margin, passed, count=len(labels), **test)


def _on_changes(readers: list[_Version], data: Split, tell: Tell) -> Iterator[Criterion]:
    """Compare both versions on changed pictures, each of which is made once."""
    chosen = random_stream("evidence, digits", 0).permutation(len(data))[:STRENGTH_DIGITS]
    images, labels = data.images.numpy()[chosen], data.labels.numpy()[chosen]
    total = sum(len(change.levels) for change in CHANGES) * len(images)
    done = itertools.count(1)
    curves = {}
    for change in CHANGES:
        pictures_by_level = changed_pictures(change, images, 0, lambda: tell(next(done) / total))
        levels = [digit_images(pictures) for pictures in pictures_by_level]
        curves[change.name] = [_read_right(reader, levels, labels) for reader in readers]
    overall = np.mean(list(curves.values()), axis=0).tolist()
    for name, shares, fall in ((None, overall, STRENGTH_FALL), *((*curve, CURVE_FALL) for curve in curves.items())):
        key = f"strength-{name.replace(' ', '-')}" if name else "strength"
        yield _figure(key, "strength", shares, {"fall": fall}, _fallen_at_most(shares, fall), change=name)


def _read_right(reader: _Version, levels: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray) -> float:
    return float(np.mean([(reader.answers(images).likeliest == labels) & ~blank for images, blank in levels]))


def _on_confidence(validation: list[_Predictions], labels: np.ndarray) -> Criterion:
    errors = [metrics.reliability(answers.probabilities, labels).error for answers in validation]
    passed = _risen_at_most(errors, CALIBRATION_RISE)
    return _figure("calibration", "calibration", errors, {"rise": CALIBRATION_RISE}, passed)


def _on_others(readers: list[_Version], validation: list[_Predictions]) -> Iterator[Criterion]:
    images, _ = synthetic.others(OTHERS, seeds.derive_seed("evidence, others"))
    others = [float(reader.answers(images).refused.mean()) for reader in readers]
    digits = [float(answers.refused.mean()) for answers in validation]
    bar = readers[0].network.outputs > DIGITS  # a champion that refuses nothing sets no limit
    enough = not bar or _fallen_at_most(others, OTHERS_FALL)
    few = _at_most(digits[-1], REFUSED_MOST) and (not bar or _risen_at_most(digits, REFUSED_RISE))
    margin = {"rise": REFUSED_RISE, "most": REFUSED_MOST}
    yield _figure("refused-others", "refusal", others, {"fall": OTHERS_FALL}, enough, code="refused_others")
    yield _figure("refused-digits", "refusal", digits, margin, few, code="refused_digits")


def _on_multiplications(readers: list[_Version]) -> Criterion:
    counts = [reader.multiplications for reader in readers]
    passed = counts[-1] <= LARGER * counts[0]
    return _figure("multiplications", "multiplications", counts, {"times": LARGER}, passed, "count")


def _shares(right: list[np.ndarray]) -> list[float]:
    return [float(one.mean()) for one in right]


def _fallen_at_most(values: list[float], margin: float) -> bool:
    """Return whether the value has fallen by at most the margin; always without a champion."""
    return _at_most(values[0] - values[-1], margin)


def _risen_at_most(values: list[float], margin: float) -> bool:
    return _at_most(values[-1] - values[0], margin)


def _at_most(change: float, margin: float) -> bool:
    """Return whether a change is within its margin, up to rounding: 0.93 - 0.90 > 0.03 in floating point."""
    return change <= margin + 1e-9


def _net_lost(right: list[np.ndarray]) -> int:
    return int(right[0].sum()) - int(right[-1].sum())


def _mcnemar_test(right: list[np.ndarray]) -> Finding:
    """Return McNemar's test of champion and challenger; empty without a champion."""
    if len(right) < 2:
        return {}
    old, new = right
    lost, gained = int((old & ~new).sum()), int((new & ~old).sum())
    return {"gained": gained, "lost": lost, "p": mcnemar(lost, gained)}


def _is_no_worse(test: Finding) -> bool:
    """Return whether the challenger is not significantly worse."""
    return test.get("p", 1) >= LEVEL


def _conclude(
    criteria: list[Criterion], digits: Differences | None = None, drawings: Differences | None = None
) -> Evidence:
    failed = [criterion.reason for criterion in criteria if not criterion.passed]
    summary: Finding
    if failed:
        told = failed[:REASONS_SUMMED_UP]
        summary = {"code": "waits", "reasons": told, "more": len(failed) - len(told)}
    else:
        validation = next(criterion for criterion in criteria if criterion.name == "validation")
        summary = {"code": "passed", "from": validation.champion, "to": validation.challenger}
        if seen := drawings or digits:
            summary |= {"of": "drawings" if drawings else "digits", "gained": seen.gained, "lost": seen.lost}
    return Evidence(not failed, summary, criteria, digits, drawings)


# The pictures themselves


def _differences(
    read: list[np.ndarray],
    answers: list[_Predictions],
    labels: np.ndarray,
    images: np.ndarray | None = None,
    numbers: Sequence[int] | None = None,
) -> Differences | None:
    """Return the pictures that only one version gets right, most confident errors first; None without a champion."""
    if len(read) < 2:
        return None
    old, new = (one == labels for one in read)

    def difference(i: int) -> Difference:
        champion, challenger = (one.seen(i, int(found[i])) for one, found in zip(answers, read, strict=True))
        image = None if images is None else base64.b64encode(ink_png(images[i])).decode()
        return Difference(i if numbers is None else numbers[i], int(labels[i]), champion, challenger, image)

    def clearest(chosen: np.ndarray, wrong: int) -> list[Difference]:
        places = np.flatnonzero(chosen).tolist()
        sure = {i: answers[wrong].seen(i, int(read[wrong][i])).probability for i in places}
        return [difference(i) for i in sorted(places, key=lambda i: -sure[i])[:SHOWN]]

    gained, lost = new & ~old, old & ~new
    return Differences(
        len(labels), int(gained.sum()), int(lost.sum()), clearest(gained, wrong=0), clearest(lost, wrong=1)
    )
