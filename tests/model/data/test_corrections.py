"""A set of corrections: its parts and its digest."""

import numpy as np
import pytest

from model.data.corrections import Corrections, class_index
from model.task import NO_DIGIT, REASONS


def some(labels=(3, 7, NO_DIGIT), held_out=(False, True, False)):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), np.uint8)
    return Corrections(images, np.array(labels), np.array(held_out), np.arange(len(labels)) + 50)


def test_corrections_parts_are_whole_and_apart():
    assert sorted(some().to_learn.ids.tolist()) == [50, 52]
    assert some().to_compare.ids.tolist() == [51]
    assert some().to_compare.labels.tolist() == [7]


def test_corrections_in_any_order_are_the_same_set():
    order = np.array([2, 0, 1])
    assert some().part(order).digest() == some().digest()
    assert some().part(order).to_learn.ids.tolist() == some().to_learn.ids.tolist()
    assert len(some(held_out=(True, True, True)).to_learn) == 0


@pytest.mark.parametrize("other", [some(labels=(3, 7, 9)), some(held_out=(True, True, False)), some().to_learn])
def test_corrections_learnt_otherwise_have_another_digest(other):
    assert other.digest() != some().digest()


def test_corrections_with_another_pixel_have_another_digest():
    changed = some()
    changed.images[1, 2, 3] ^= 1
    assert changed.digest() != some().digest()


def test_class_of_label_is_the_networks_output():
    assert [class_index(label) for label in range(10)] == list(range(10))
    assert REASONS[class_index(NO_DIGIT) - 10] == "unlike_any_digit"
