"""Measure the comparison that promotes challengers: python -m benchmarks.promotion TABLE WEIGHTS [WEIGHTS ...]

Tables:

- equals: how often each criterion refuses an equal. Of every pair of networks trained alike but for the seed, one is
  compared with the other; and, since these differ a little, so are two that differ by chance alone: every gate digit,
  with all that is made from it, is read by either network of a pair as a coin decides.
- power: what harm passes. Two that differ by chance alone, and the challenger misreads a share of the gate digits, and
  all that is made from them, or of one digit's; refuses a share of the digits; accepts a share of the non-digits that
  were refused; misreads a share of one kind of hard pictures; is less sure, by a power of its probabilities.
- drawings: the same of corrections held out, for two versions that err independently.
- drift: noise is added to the weights again and again, and calibrated as in service; each step that is no worse
  replaces the champion, with the first version as the anchor and without any. "Lost" is measured on the validation
  digits.

Networks are trained by `python -m model train --preset standard --seed N --out sN.safetensors`, N from 0. The test set
is not used. Fine-tuning on wrong corrections is measured by `benchmarks/poison.py`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model import seeds
from model.data import splits
from model.data.splits import Mnist
from model.evaluation.answers import Answers, LoadedVersion, Pictures, VersionAnswers
from model.evaluation.comparison import DRAWINGS_LOSS, compare, relative_criteria
from model.evaluation.statistics import loss_limit
from model.evaluation.suite import Group, hard_pictures
from model.network.weights import deserialize, serialize
from model.task import NO_DIGIT
from model.training.calibrate import calibrate

Pair = tuple[VersionAnswers, VersionAnswers]
HARMS = (0.001, 0.002, 0.003, 0.005)
ONE_DIGIT = (0.01, 0.02, 0.03)
REFUSED = (0.005, 0.01, 0.015)
LET_IN = (0.03, 0.06)
ONE_KIND = (0.03, 0.06)
FLATTENED = (0.9, 0.8, 0.7)
HELD_OUT, MISREAD = (25, 50, 100, 200, 400), (0.1, 0.3)
STEPS = 30
NOISE = 0.06
"""Standard deviation of the noise, relative to that of each layer's weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["equals", "power", "drawings", "drift"])
    parser.add_argument("weights", type=Path, nargs="*")
    parser.add_argument("--draws", type=int, default=100, help="simulated comparisons of each pair (default: 100)")
    args = parser.parse_args()
    if args.table == "drawings":
        return drawings(10 * args.draws)
    data = splits.load()
    if len(args.weights) < (1 if args.table == "drift" else 2):
        sys.exit("more weights are needed")
    if args.table == "drift":
        return drift(data, args.weights[0].read_bytes())
    suite = hard_pictures(data.gate)
    versions = [LoadedVersion.load(path.read_bytes()) for path in args.weights]
    answers = [version.answer(Pictures(data.gate, suite, None)) for version in tqdm(versions, unit=" networks")]
    pairs = list(itertools.permutations(answers, 2))
    if args.table == "equals":
        _print("trained alike", refused(pairs, suite))
        _print("by chance alone", refused(by_chance(pairs, suite, args.draws), suite))
    else:
        for title, harmed in harms(pairs, suite, args.draws):
            _print(title, refused(harmed, suite))


def harms(pairs: list[Pair], suite: list[Group], draws: int) -> Iterator[tuple[str, Iterator[Pair]]]:
    """Yield names of harms, and pairs whose challenger has them."""

    def equals() -> Iterator[Pair]:
        return by_chance(pairs, suite, draws)

    for share in HARMS:
        yield f"{100 * share:.1f} points of all", planted(equals(), suite, share)
    for share in HARMS:
        title = f"{100 * share:.1f} points of gate digits as they are"
        yield title, planted(equals(), suite, share, as_they_are=True)
    for share in ONE_DIGIT:
        yield f"{100 * share:.0f} points of one digit", planted(equals(), suite, share, one=True)
    for share in REFUSED:
        yield f"{100 * share:.1f} points of digits refused", turned_away(equals(), share)
    for share in LET_IN:
        yield f"{100 * share:.0f} points of non-digits accepted", let_in(equals(), suite, share)
    for share in ONE_KIND:
        yield f"{100 * share:.0f} points of one kind", planted_in_kind(equals(), suite, share)
    for power in FLATTENED:
        yield f"probabilities to the power {power}", flattened(equals(), power)


def refused(pairs: Iterable[Pair], suite: list[Group]) -> dict[str, float]:
    """Return the share of comparisons that each group of criteria refuses, and that any does."""
    counts: Counter[str] = Counter()
    for old, new in pairs:
        failed = {_kind(one.name) for one in relative_criteria(old, new, suite) if not one.passed}
        counts.update(failed | ({"any"} if failed else set()) | {"pairs"})
    return {name: counts[name] / counts["pairs"] for name in (*KINDS, "any")} | {"pairs": counts["pairs"]}


KINDS = ("digits", "all", "recall", "suite", "calibration", "accepted-digits", "accepted-hard", "refused-others")


def _kind(name: str) -> str:
    return next((kind for kind in ("recall", "suite") if name.startswith(f"{kind}-")), name)


def _print(title: str, shares: dict[str, float]) -> None:
    figures = "".join(f"{name} {share:.1%}  " for name, share in shares.items() if name != "pairs")
    print(f"{title:<44} {shares['pairs']:>6.0f} comparisons, refused by: {figures}", flush=True)


# Simulated pairs


def by_chance(pairs: Iterable[Pair], suite: list[Group], draws: int) -> Iterator[Pair]:
    """Yield pairs in which a coin decides for every origin which of two networks reads it for the champion."""
    for number, (one, other) in enumerate(pairs):
        random = np.random.default_rng(seeds.derive_seed("promotion, by chance", number))
        for _ in range(draws):
            swapped = random.random(_count(suite)) < 0.5
            yield _mixed(one, other, suite, swapped), _mixed(other, one, suite, swapped)


def _mixed(one: VersionAnswers, other: VersionAnswers, suite: list[Group], swapped: np.ndarray) -> VersionAnswers:
    return _changed(one, suite, lambda answers, place, origins: _chosen(answers, _at(other, place), swapped[origins]))


def planted(
    pairs: Iterable[Pair], suite: list[Group], share: float, one: bool = False, as_they_are: bool = False
) -> Iterator[Pair]:
    """Yield pairs whose challenger misreads this share of the digits, or of one digit, each in all of its pictures or
    only as it is."""
    random = np.random.default_rng(seeds.derive_seed("promotion, planted"))
    for old, new in pairs:
        wrong = random.random(_count(suite)) < share
        digit = int(random.integers(10)) if one else None

        def misread(answers: Answers, place: int, origins: np.ndarray) -> Answers:
            spared = as_they_are and place >= 0
            return answers if spared else _misread(answers, wrong[origins], digit)  # noqa: B023

        yield old, _changed(new, suite, misread)


def _misread(answers: Answers, wrong: np.ndarray, digit: int | None) -> Answers:
    """Return the answers with the probabilities of the wrong ones turned by a digit."""
    meant = answers.labels if digit is None else np.where(answers.labels == digit, answers.labels, -1)
    harmed = wrong & (meant >= 0) & answers.recognised
    likely = np.where(harmed[:, None], np.roll(answers.probabilities, 1, 1), answers.probabilities)
    return replace(answers, probabilities=likely)


def planted_in_kind(pairs: Iterable[Pair], suite: list[Group], share: float) -> Iterator[Pair]:
    """Yield pairs whose challenger misreads this share of one kind of hard pictures, any but the non-digits."""
    random = np.random.default_rng(seeds.derive_seed("promotion, one kind"))
    places = [place for place, group in enumerate(suite) if group.labels[0] != NO_DIGIT]
    for old, new in pairs:
        answers, place = list(new.suite), int(random.choice(places))
        answers[place] = _misread(answers[place], random.random(len(suite[place])) < share, None)
        yield old, replace(new, suite=answers)


def turned_away(pairs: Iterable[Pair], share: float) -> Iterator[Pair]:
    """Yield pairs whose challenger refuses this share of the digits besides."""
    random = np.random.default_rng(seeds.derive_seed("promotion, refused"))
    for old, new in pairs:
        digits = replace(new.digits, refused=new.digits.refused | (random.random(len(new.digits)) < share))
        yield old, replace(new, digits=digits)


def let_in(pairs: Iterable[Pair], suite: list[Group], share: float) -> Iterator[Pair]:
    """Yield pairs whose challenger accepts this share of the non-digits besides."""
    random = np.random.default_rng(seeds.derive_seed("promotion, let in"))
    none = next(place for place, group in enumerate(suite) if group.labels[0] == NO_DIGIT)
    for old, new in pairs:
        answers = list(new.suite)
        kept = random.random(len(suite[none])) >= share
        answers[none] = replace(answers[none], refused=answers[none].refused & kept)
        yield old, replace(new, suite=answers)


def flattened(pairs: Iterable[Pair], power: float) -> Iterator[Pair]:
    """Yield pairs whose challenger states other confidences: its probabilities to this power, normalised."""
    for old, new in pairs:
        likely = new.digits.probabilities.astype(float) ** power
        digits = replace(new.digits, probabilities=likely / likely.sum(1, keepdims=True))
        yield old, replace(new, digits=digits)


def drawings(draws: int) -> None:
    """Print how often a loss on corrections held out is refused, by their number and by the loss."""
    for misread, count in itertools.product(MISREAD, HELD_OUT):
        told = []
        for worse in (0.0, 0.1, 0.2):
            random = np.random.default_rng(seeds.derive_seed("promotion, drawings", count))
            old, new = (random.random((draws, count)) >= share for share in (misread, misread + worse))
            lost, gained = (old & ~new).sum(1).tolist(), (new & ~old).sum(1).tolist()
            limits = [loss_limit(*numbers, count) for numbers in zip(lost, gained, strict=True)]
            told.append(f"{100 * worse:.0f} points worse {np.mean(np.array(limits) > DRAWINGS_LOSS):.0%}")
        print(f"{misread:.0%} misread, {count:>3} drawings, refused: {', '.join(told)}", flush=True)


def _changed(
    version: VersionAnswers, suite: list[Group], change: Callable[[Answers, int, np.ndarray], Answers]
) -> VersionAnswers:
    """Return the version with its answers changed; `change` gets the place in the suite too, -1 for the gate digits."""
    digits = change(version.digits, -1, np.arange(len(version.digits)))
    parts = enumerate(zip(version.suite, suite, strict=True))
    return replace(version, digits=digits, suite=[change(one, place, group.origin) for place, (one, group) in parts])


def _at(version: VersionAnswers, place: int) -> Answers:
    return version.digits if place < 0 else version.suite[place]


def _chosen(one: Answers, other: Answers, swapped: np.ndarray) -> Answers:
    return Answers(
        np.where(swapped[:, None], other.probabilities, one.probabilities),
        np.where(swapped, other.not_a_digit, one.not_a_digit),
        np.where(swapped, other.refused, one.refused),
        one.labels,
    )


def _count(suite: list[Group]) -> int:
    return 1 + max(int(group.origin.max()) for group in suite)


# Drift


def drift(data: Mnist, first: bytes) -> None:
    """Print for each step of a drift whether it is no worse than the one before, and than the anchor too."""
    for anchor in (None, first):
        champion, taken = first, 0
        for step in tqdm(range(STEPS), unit=" steps"):
            challenger = noisy(champion, data, step)
            if compare(challenger, champion, data.gate, anchor=anchor if champion != first else None).passed:
                champion, taken = challenger, taken + 1
        lost = _accuracy(first, data) - _accuracy(champion, data)
        name = "with the anchor" if anchor else "champion alone"
        print(f"{name:<16} {taken} of {STEPS} steps taken, {100 * lost:.2f} points of validation lost", flush=True)


def noisy(data: bytes, mnist: Mnist, seed: int) -> bytes:
    """Return a version with noise added to its weights, calibrated anew."""
    network, card = deserialize(data)
    random = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        if name.endswith("weight"):
            weight.data += NOISE * weight.data.std() * torch.randn(weight.shape, generator=random)
    network, calibration = calibrate(network, mnist.validation)
    return serialize(network, replace(card, calibration=calibration))


def _accuracy(data: bytes, mnist: Mnist) -> float:
    answers = LoadedVersion.load(data).answer(Pictures(mnist.validation, [], None))
    return float(answers.digits.recognised.mean())


if __name__ == "__main__":
    main()
