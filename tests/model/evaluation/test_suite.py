"""The suite of hard pictures: repeatable, legible, and apart from what training draws."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data import glyphs, hands, loader, rasterize, synthetic
from model.evaluation import metrics, suite
from model.inference.classifier import SHIPPED
from model.network.predict import predict
from model.network.weights import load_network
from model.task import NO_DIGIT


@pytest.fixture(scope="module")
def gate(mnist):
    return mnist.gate.first(300)


@pytest.fixture(scope="module", autouse=True)
def few():
    """Fewer pictures of each group."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "HANDS_EACH", 5)
        patch.setattr(suite, "CHANGED", 25)
        patch.setattr(suite, "LETTERS_EACH", 3)
        yield


@pytest.fixture(scope="module")
def groups(gate):
    return suite.hard_pictures(gate)


def test_hard_pictures_of_the_same_digits_are_the_same(gate, groups):
    told = []
    for one, other in zip(groups, suite.hard_pictures(gate, told.append), strict=True):
        assert one.name == other.name
        for field in ("images", "labels", "origin"):
            assert np.array_equal(getattr(one, field), getattr(other, field))
    assert told == sorted(told) and told[-1] == 1 and len(told) > 5


def test_hard_pictures_are_digit_images_with_labels(groups):
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert group.images.shape == (len(group), 28, 28) and group.images.dtype == np.uint8
        assert group.labels.shape == group.origin.shape == (len(group),)
        assert group.labels.dtype == group.origin.dtype == np.int64
        assert group.images.reshape(len(group), -1).max(1).min() > 60  # none is blank
        possible = {NO_DIGIT} if group.name == "no digit" else set(range(10))
        assert set(group.labels.tolist()) <= possible


def test_hard_pictures_origins_of_digits_are_those_of_the_gate(gate, groups):
    labels = gate.labels.numpy()
    drawn = [group for group in groups if group.name in ("hands", "no digit")]
    for group in groups:
        if group not in drawn:
            assert np.array_equal(labels[group.origin], group.labels)
    assert np.bincount(groups[1].origin).tolist() == [suite.DEFORMED] * len(gate)
    hands_origin, others_origin = (group.origin for group in drawn)
    assert len(gate) == hands_origin.min() and hands_origin.max() < others_origin.min()


def test_hard_pictures_are_legible(groups):
    """The shipped network reads most of each group, and refuses most non-digits."""
    network, card = load_network(SHIPPED)
    for group in groups:
        probabilities, outliers = predict(network, group.images)
        refused = metrics.not_a_digit(outliers) > card.calibration.refuse_above
        right = refused if group.name == "no digit" else probabilities.argmax(1) == group.labels
        assert right.mean() > 0.9, group.name


def test_hands_each_skeleton_is_read_in_most_of_its_drawings(groups):
    network, _ = load_network(SHIPPED)
    drawn = groups[0]
    right = predict(network, drawn.images)[0].argmax(1) == drawn.labels
    assert right.reshape(-1, suite.HANDS_EACH).mean(1).min() > 0.5


def test_hands_and_letters_are_not_those_of_training():
    own = {shape for hand in hands.HANDS for shape in hand.shapes} | set(hands.LETTERS)
    trained = {shape for shapes in glyphs.DIGITS.values() for shape in shapes} | set(glyphs.LETTERS)
    assert not own & trained
    assert not set(hands.HERSHEY) & set(glyphs.HERSHEY_FONTS)
    assert all(len(hand.shapes) == 10 for hand in hands.HANDS)
    assert len(own) == 10 * len(hands.HANDS) + len(hands.LETTERS)


def test_hands_skeletons_differ_from_those_of_training_when_drawn():
    """Drawn without variation, none has about the pixels of one of training's."""

    def drawn(form):
        points = torch.from_numpy(form.curve @ form.controls)[None]
        return rasterize.draw(points, torch.tensor([2.5]), torch.tensor([1.0]))[0].numpy().astype(int)

    trained = {digit: np.stack([drawn(form) for form in forms]) for digit, forms in glyphs.digits().items()}
    for hand in hands.HANDS:
        for digit, form in enumerate(hand.skeletons()):
            if digit != 1:  # a stroke is a stroke
                apart = np.abs(trained[digit] - drawn(form)).mean((1, 2))
                assert apart.min() > 3, (hand.name, digit)


@pytest.mark.parametrize("module", [glyphs, synthetic, loader], ids=lambda module: module.__name__)
def test_hands_are_out_of_training_s_reach(module):
    tree = ast.parse(Path(module.__file__).read_text())
    names = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    assert not {"hands", "suite"} & {name.split(".")[-1] for name in names}
