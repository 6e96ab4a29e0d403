"""Measure whether wrong corrections are stopped and right ones pass: python -m benchmarks.poison STROKES_FOLDER WEIGHTS

Fine-tunes the weights on corrections as a run does, compares the result with them as a run does, and prints whether it
would be promoted. The corrections are drawings of real handwriting; every fourth writer's are held out. In the worst
case, which this is, the reviewer has approved them all, and what is held out is as wrong as what is learnt. The folder
is as for `benchmarks/corrections.py`. The test accuracies are printed for the reader: nothing is chosen by them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.corrections import Handwriting, read
from model.data import splits
from model.data.corrections import Corrections
from model.evaluation.comparison import compare
from model.inference import weights
from model.network.weights import deserialize
from model.presets import Config
from model.progress import progress_bar
from model.task import NO_DIGIT
from model.training.package import build_package
from model.training.train import train

HELD_OUT_EVERY = 4
Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Images, labels and writers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--case", choices=CASES, action="append", help="measure this one (default: all)")
    args = parser.parse_args()
    written, data, start = read(args.folder), splits.load(), args.weights.read_bytes()
    for name in args.case or CASES:
        print(result(name, CASES[name](written), data, start), flush=True)


def result(name: str, case: Labelled, data: splits.Mnist, start: bytes) -> str:
    """Fine-tune on a case and return what came of it, in lines."""
    corrections = _corrections(*case)
    config = Config("fine-tune")
    with progress_bar() as move:
        trained = train(
            config,
            data,
            lambda progress: move(progress.fraction),
            start=deserialize(start)[0],
            corrections=corrections,
        )
    package = build_package(config, trained, data, start, corrections)
    evidence = compare(package.data, start, data.gate, corrections)
    failed = [one.name for one in evidence.criteria if not one.passed]
    held_out = next(one for one in evidence.criteria if one.name == "drawings")
    # too few drawings held out are not judged
    read = f"{held_out.champion:.1%} to {held_out.challenger:.1%}" if held_out.challenger is not None else "not judged"
    tested = weights.read_card(start).test_accuracy, package.card.test_accuracy
    verdict = "promoted" if evidence.passed and evidence.gained else "waits"
    return (
        f"{name}: {len(corrections.to_learn)} learnt, {len(corrections.to_compare)} held out\n"
        f"  {verdict}; not passed: {', '.join(failed) or 'none'}\n"
        f"  held out {read}, test {tested[0]:.2%} to {tested[1]:.2%}"
    )


def _corrections(images: np.ndarray, labels: np.ndarray, writers: np.ndarray) -> Corrections:
    """Hold out every fourth writer; every fourth drawing where there are fewer writers."""
    names, hands = np.unique(writers, return_inverse=True)
    if len(names) < HELD_OUT_EVERY:
        hands = np.arange(len(writers))
    return Corrections(images, labels, hands % HELD_OUT_EVERY == HELD_OUT_EVERY - 1, np.arange(len(labels)))


# Cases


def _some(written: Handwriting, chosen: np.ndarray, count: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.flatnonzero(chosen))[:count]


def _called(digit: int, wrong: int, donor: str | None = None) -> Callable[[Handwriting], Labelled]:
    def case(written: Handwriting) -> Labelled:
        chosen = written.labels == digit
        if donor:
            chosen &= written.donors == donor
        places = _some(written, chosen, 150)
        return written.images[places], np.full(len(places), wrong), written.writers[places]

    return case


def _partly_wrong(count: int) -> Callable[[Handwriting], Labelled]:
    def case(written: Handwriting) -> Labelled:
        random = np.random.default_rng(0)
        places = _some(written, np.ones(len(written.labels), bool), count)
        turned = (random.random(len(places)) < 0.2) * random.integers(1, 10, len(places))
        return written.images[places], (written.labels[places] + turned) % 10, written.writers[places]

    return case


def _mirrored(written: Handwriting) -> Labelled:
    places = _some(written, written.labels == 4, 150)
    return written.images[places][:, :, ::-1].copy(), written.labels[places], written.writers[places]


CASES: dict[str, Callable[[Handwriting], Labelled]] = {
    "sevens called 1": _called(7, 1),
    "slashed zeros called 8": _called(0, 8, donor="gmd"),
    "sevens called no digit": _called(7, NO_DIGIT),
    "a fifth of 250 wrong": _partly_wrong(250),
    "a fifth of 70 wrong": _partly_wrong(70),
    "fours the wrong way round": _mirrored,
}


if __name__ == "__main__":
    main()
