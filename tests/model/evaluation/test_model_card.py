"""The model card: intervals, measured figures, and Markdown from any card."""

import numpy as np
import pytest

from model.evaluation import metrics, model_card
from model.task import ALL_LEARNT, SPLIT
from tests.support.versions import figures

CARD = {
    "preset": "standard",
    "hidden": [64, 32],
    "outputs": 14,
    "epochs": 30,
    "best_epoch": 27,
    "command": "python -m model train --preset standard",
    "settings": {"batch_size": 512, "learning_rate": 0.01},
    "validation_accuracy": 0.9968,
    "gate_accuracy": 0.9966,
    "gate_unseen": True,
    "test_accuracy": 0.9953,
    "code_sha256": "c0ffee",
    "corrections": {"learnt": 51, "held_out": 12, "sha256": "5eed"},
}


def test_card_intervals_are_of_the_digits_of_each_accuracy():
    found = model_card.described(CARD)["intervals"]
    assert found["test_accuracy"] == list(metrics.wilson_interval(0.9953, 10_000))
    assert found["gate_accuracy"] == list(metrics.wilson_interval(0.9966, 5_000))
    assert model_card.described({"test_accuracy": None})["intervals"] == {}


def test_card_in_markdown_has_every_section_and_figure():
    report = metrics.report(np.eye(10, dtype=np.float32), np.array([*range(9), 0]))
    known = {"version": "v7", "measured": model_card.measured(report, figures())}
    text = model_card.markdown(model_card.described(CARD) | known)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip
    for words in (
        "# Model card: v7",
        "784-64-32-14",
        "Epoch kept: 27",
        "Settings: batch size 512, learning rate 0.01",
        "SHA-256 of the code: c0ffee",
        "Users' corrections (docs/datasheet.md): learnt 51, held out 12, sha256 5eed",
        "Gate digits read right: 99.66 % (99.46 to 99.79)",
        "Error on the test digits: 10.00 % (1.79 to 40.42)",
        "Expected calibration error on the test digits: 1.23 %",
        "Coverage on the test digits: 99.00 %, and 98.00 % is promised",
        "| 0 | 2 | 50.00 % (9.45 to 90.55) |",
        "| 9 | 0 | - |",
    ):
        assert words in text
    assert model_card.REFUSES_NOTHING not in text


def test_card_in_markdown_says_what_is_known_of_an_older_one():
    text = model_card.markdown(model_card.described({"hidden": [64], "gate_accuracy": 0.99}))
    assert (
        model_card.REFUSES_NOTHING in text and text.count("; the weights that it goes back to learnt from some.") == 2
    )
    assert model_card.markdown(model_card.described({})).startswith("# Model card\n")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"split": ALL_LEARNT, "gate_accuracy": 0.99}, "learnt from, so no measure"),
        ({"split": SPLIT, "gate_accuracy": 0.99}, "the weights that it goes back to learnt from some"),
        ({"split": SPLIT, "gate_accuracy": 0.99, "gate_unseen": True}, "never learnt from"),
    ],
)
def test_card_in_markdown_says_what_the_version_has_seen(card, said):
    text = model_card.markdown(model_card.described(card))
    assert model_card.seen(card) == said and text.count(said) == 3, "validation, gate and training"
    assert ("choose the epoch" in text) == (card["split"] == SPLIT)


def test_validation_digits_of_an_older_card_were_never_learnt_from():
    assert model_card.seen({"validation_accuracy": 0.99, "parent": "c0ffee"}) == "never learnt from"
