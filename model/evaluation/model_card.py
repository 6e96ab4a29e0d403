"""A version's model card with its measured figures, as plain values and as Markdown.

The sections are those of "Model Cards for Model Reporting" (Mitchell et al., 2019).
"""

from __future__ import annotations

from typing import Any

from model.evaluation.metrics import Report, interval_words, wilson_interval
from model.task import ALL_LEARNT, DIGITS, GATE_DIGITS, PIXELS, TEST_DIGITS, VALIDATION_DIGITS

COUNTS = {
    "validation_accuracy": VALIDATION_DIGITS,
    "gate_accuracy": GATE_DIGITS,
    "test_accuracy": TEST_DIGITS,
}
"""The accuracies of a card, and the number of digits that each is of."""
TITLES = {
    "preset": "Preset", "hidden": "Hidden layers", "outputs": "Outputs", "epochs": "Epochs",
    "best_epoch": "Epoch kept", "settings": "Settings", "seed": "Seed", "processes": "Processes", "threads": "Threads",
    "created": "Made", "validation_accuracy": "Validation digits", "gate_accuracy": "Gate digits",
    "gate_unseen": "Gate digits never learnt from", "corrections": "Corrections", "split": "Division of MNIST",
    "data_sha256": "SHA-256 of MNIST", "code_sha256": "SHA-256 of the code",
    "parent": "SHA-256 of the weights that it was fine-tuned from", "calibration": "Calibration",
    "libraries": "Libraries", "sha256": "SHA-256 of the weights",
}  # fmt: skip
"""Titles of a card's fields, in the order in which they are shown."""
_IN_OTHER_SECTIONS = {"hidden", "outputs", "gate_unseen", "corrections", "split", "data_sha256", *COUNTS}
INTENDED_USE = (
    "Reading single handwritten digits, 0 to 9, drawn with finger, pen or mouse, for the person who draws them.",
    "Teaching and research: how a small network learns, hesitates, refuses and is compared.",
)
LIMITS = (
    "It reads one digit at a time: no numbers, no letters, no photographs of pages.",
    "It may be sure and mistaken, most of all in hands that write a digit as none of its training hands do.",
    "Its probabilities and the sets of digits that it names hold for digits like those of the calibration: MNIST's, "
    "deformed ones and drawn ones. On other people's drawings they are less reliable.",
    "Nothing that matters to a person (money, marks, addresses) should rest on a reading that nobody checks.",
)
REFUSES_NOTHING = "Its ten outputs are the digits: it takes every picture for one."


def described(card: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a card with `intervals`, those of 95 % of its accuracies."""
    intervals = {
        name: list(wilson_interval(card[name], count)) for name, count in COUNTS.items() if card.get(name) is not None
    }
    return card | {"intervals": intervals}


def measured(report: Report | None, robustness: dict[str, Any] | None) -> dict[str, Any]:
    """Return figures of the test digits: from predictions, and from a `Robustness.as_dict()`, where there are any."""
    found: dict[str, Any] = {}
    if report:
        rows = zip(report.confusion.sum(1).tolist(), report.per_digit, report.per_digit_intervals, strict=True)
        low, high = report.interval
        found |= {
            "digits": report.count,
            "error": 1 - report.accuracy,
            "error_interval": [1 - high, 1 - low],
            "per_digit": [
                {"digit": digit, "count": count, "accuracy": share, "interval": interval and list(interval)}
                for digit, (count, share, interval) in enumerate(rows)
            ],
        }
    if robustness:
        found |= {
            "calibration_error": robustness["reliability"]["error"],
            "coverage_promised": robustness["sets"]["promised"],
            "coverage_reached": robustness["sets"]["kept"],
            "coverage_reached_unsure": robustness["sets"]["unsure_kept"],
            "unsure": robustness["sets"]["unsure"],
            "digits_refused": robustness["refusals"]["digits"],
        }
    return found


def seen(card: dict[str, Any]) -> str:
    """Return in words whether the version has learnt from its validation and gate digits.

    A version without gate digits is of an earlier release, whose validation digits no training learnt from.
    """
    if card.get("split") == ALL_LEARNT:
        return "learnt from, so no measure"
    if card.get("gate_accuracy") is not None and not card.get("gate_unseen"):
        return "the weights that it goes back to learnt from some"
    return "never learnt from"


def limits(card: dict[str, Any]) -> list[str]:
    """Return the limits of the version that has this card."""
    return [*LIMITS, REFUSES_NOTHING] if card.get("outputs", DIGITS) == DIGITS else list(LIMITS)


def markdown(card: dict[str, Any]) -> str:
    """Return a model card as Markdown.

    `card` holds the fields of `described`, and `version`, `sha256`, `measured` and `evidence` as far as they are known.
    """
    sections = {
        "Model details": _bullets(*_details(card)) + _command(card),
        "Intended use": _bullets(*INTENDED_USE),
        "Factors": _bullets(
            "Hands: MNIST's were written by employees of the United States' Census Bureau and by high-school students; "
            "other forms (the slashed 0, the 1 with a flag, the crossed 7) are rare there, and known mostly from drawn "
            "digits.",
            "Instruments: the width of the line, noise, blur, size, place and slant: `python -m model strength` "
            "measures each at several levels.",
        ),
        "Metrics": _bullets(
            "Accuracy: the share read right, with its 95 % interval (Wilson score).",
            "Expected calibration error: the mean gap between confidence and accuracy, in 15 bins.",
            "Coverage: the share whose true digit is among those that the verdict names, of pictures not refused.",
        ),
        "Evaluation data": _bullets(
            f"Validation: {VALIDATION_DIGITS:,} of MNIST's training digits, to "
            f"{'' if card.get('split') == ALL_LEARNT else 'choose the epoch and '}calibrate by; {seen(card)}.",
            *_gate(card),
            f"Test: MNIST's {TEST_DIGITS:,} test digits, never used to choose.",
        ),
        "Training data": _bullets(*_training(card)),
        "Quantitative analyses": _figures(card),
        "Ethical considerations": _bullets(
            "Handwriting tells of a person. Drawings are kept with consent alone, and their authors can delete them; a "
            "version that has learnt from one keeps what it learnt.",
            "Hands that the training data lack are read less well: who they are is not known to the network.",
        ),
        "Caveats and recommendations": _bullets(*limits(card)),
    }
    title = f"# Model card: {card['version']}" if card.get("version") else "# Model card"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def _bullets(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _details(card: dict[str, Any]) -> list[str]:
    lines = []
    if "hidden" in card:
        widths = "-".join(map(str, (PIXELS, *card["hidden"], card.get("outputs", DIGITS))))
        lines.append(f"Multilayer perceptron {widths} with ReLU, weights in half precision")
    lines += [
        f"{title}: {_value(card[name])}"
        for name, title in TITLES.items()
        if name not in _IN_OTHER_SECTIONS and card.get(name) is not None
    ]
    return [*lines, "Licence: MIT. Questions: to the operator of the installation, or the project's issues"]


def _command(card: dict[str, Any]) -> str:
    return f"\n\nTrained by\n\n```sh\n{card['command']}\n```" if card.get("command") else ""


def _value(found: Any) -> str:
    if isinstance(found, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_value(part)}" for name, part in found.items())
    if isinstance(found, list | tuple):
        return ", ".join(map(_value, found))
    return f"{found:.6g}" if isinstance(found, float) else str(found)


def _gate(card: dict[str, Any]) -> list[str]:
    if card.get("gate_accuracy") is None:
        return []
    return [f"Gate: {GATE_DIGITS:,} of MNIST's training digits that judge finished versions alone; {seen(card)}."]


def _training(card: dict[str, Any]) -> list[str]:
    lines = ["MNIST's other training digits."]
    if split := card.get("split"):
        lines = [f"MNIST's training digits: {split}. Those of validation and gate: {seen(card)}."]
    if card.get("outputs", DIGITS) > DIGITS:
        lines.append("Digits and pictures of no digit that the project draws itself (docs/datasheet.md).")
    if corrections := card.get("corrections"):
        lines.append(f"Users' corrections (docs/datasheet.md): {_value(corrections)}.")
    return [*lines, *([f"SHA-256 of MNIST: {card['data_sha256']}"] if card.get("data_sha256") else [])]


def _figures(card: dict[str, Any]) -> str:
    lines = [
        f"{name.removesuffix('_accuracy').capitalize()} digits read right: {_share(card[name], interval)}"
        for name, interval in card.get("intervals", {}).items()
    ]
    found = card.get("measured") or {}
    if "error" in found:
        lines.append(f"Error on the test digits: {_share(found['error'], found['error_interval'])}")
    if "calibration_error" in found:
        lines += [
            f"Expected calibration error on the test digits: {_share(found['calibration_error'])}",
            f"Coverage on the test digits: {_share(found['coverage_reached'])}, and "
            f"{_share(found['coverage_promised'])} is promised",
            f"Test digits for which several are named: {_share(found['unsure'])}; the true one is among them in "
            f"{_share(found['coverage_reached_unsure'])}",
            f"Test digits refused: {_share(found['digits_refused'])}",
        ]
    if evidence := card.get("evidence"):
        verdict = "passed" if evidence["passed"] else "did not pass"
        lines.append(f"Compared with {evidence['champion']}: {verdict}; {evidence['summary']}")
    return _bullets(*lines) + _per_digit(found.get("per_digit", []))


def _per_digit(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [f"| {row['digit']} | {row['count']:,} | {_share(row['accuracy'], row['interval'])} |" for row in rows]
    return "\n".join(["\n\n| test digit | count | read right |", "|---|---|---|", *lines])


def _share(share: float | None, interval: list[float] | None = None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.2f} %" + (f" ({interval_words(*interval)})" if interval else "")
