"""Temperature, the threshold of refusal and the sets of digits, chosen on digits not learnt from."""

import copy

import numpy as np
import pytest
import torch

from model.inference.decision import Calibration, digit_set
from model.network.mlp import MLP
from model.network.predict import digit_probabilities
from model.network.weights import deserialize, serialize
from model.task import DIGITS
from model.training.calibrate import COVERAGE, REFUSED_DIGITS, _groups, _mass, calibrate


@pytest.fixture(scope="module")
def calibrated(trained, small_mnist):
    return calibrate(trained, small_mnist.validation)


@pytest.mark.parametrize("factor", [0.5, 2.5])
def test_temperature_undoes_any_other(trained, calibrated, small_mnist, factor):
    warped = copy.deepcopy(trained)
    with torch.no_grad():
        warped.layers[-1].weight.mul_(factor)
        warped.layers[-1].bias.mul_(factor)
    before = {name: value.clone() for name, value in warped.state_dict().items()}
    network, _ = calibrate(warped, small_mnist.validation)
    likely, expected = (digit_probabilities(one, small_mnist.validation.images) for one in (network, calibrated[0]))
    assert np.allclose(likely, expected, atol=0.02)
    assert all(torch.equal(before[name], value) for name, value in warped.state_dict().items())  # left alone


def test_calibration_leaves_the_answers(calibrated, trained, small_mnist):
    images = small_mnist.test.images
    before, after = (digit_probabilities(network, images) for network in (trained, calibrated[0]))
    assert np.array_equal(before.argmax(1), after.argmax(1))


def test_calibration_sets_hold_the_true_digit_as_promised(calibrated, small_mnist):
    network, calibration = calibrated
    likely = digit_probabilities(network, small_mnist.test.images).tolist()
    labels = small_mnist.test.labels.tolist()
    held = [label in digit_set(p, calibration) for p, label in zip(likely, labels, strict=True)]
    assert calibration.coverage == COVERAGE
    assert np.mean(held) >= COVERAGE - 0.02  # a few hundred digits
    hesitant = [max(p) < COVERAGE for p in likely]
    assert np.mean([h for h, unsure in zip(held, hesitant, strict=True) if unsure]) >= COVERAGE - 0.05


def test_calibration_of_ten_outputs_refuses_nothing(calibrated):
    assert calibrated[1].refuse_above == 1.0


def test_calibration_refuses_as_many_digits_as_allowed(small_mnist):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = MLP((12,), 14).eval()
    network, calibration = calibrate(network, small_mnist.validation)
    with torch.inference_mode():
        likely = network(small_mnist.validation.images.flatten(1) / 255).softmax(1)
    refused = (likely[:, DIGITS:].sum(1) > calibration.refuse_above).float().mean()
    assert 0 < refused <= REFUSED_DIGITS + 0.002


def test_calibration_is_in_the_card(calibrated, card):
    from dataclasses import replace

    network, calibration = calibrated
    card = replace(card, hidden=network.hidden, outputs=network.outputs, calibration=calibration)
    assert deserialize(serialize(network, card))[1].calibration == calibration


@pytest.mark.parametrize(
    "count, wrong, expected",
    [
        (0, 0, 1.0),  # nothing to calibrate on: every digit may be it
        (48, 0, 1.0),  # too few for the promise
        (49, 0, 0.0),
        (99, 1, 0.0),  # ceil(100 * 0.98) = 98 of 99 must be held
        (99, 2, 0.6),
    ],
)
def test_calibration_sets_reach_as_far_as_promised(count, wrong, expected):
    """All digits but a few are read right, those with the true one second, after one of probability 0.6."""
    likely = np.tile([0.6, 0.3] + [0.0125] * 8, (count, 1))
    labels = np.array([1] * wrong + [0] * (count - wrong), int)
    assert _mass(likely, labels) == pytest.approx(expected)


def test_calibration_sets_are_no_wider_than_needed():
    """Digits whose probabilities are exactly right: hesitant ones need more than one, confident ones do not."""
    random = np.random.default_rng(4)
    likely = np.concatenate((random.dirichlet([0.3] * 10, 4_000), np.tile([0.991] + [0.001] * 9, (4_000, 1))))
    labels = np.array([random.choice(10, p=p / p.sum()) for p in likely])
    hesitant, confident = (_mass(likely[group], labels[group]) for group in _groups(likely))
    calibration = Calibration(COVERAGE, 1.0, hesitant, confident)
    sets = [digit_set(p, calibration) for p in likely.tolist()]
    held = np.array([label in digits for label, digits in zip(labels, sets, strict=True)])
    for group in _groups(likely):
        assert COVERAGE - 0.005 <= held[group].mean() <= COVERAGE + 0.015
    assert all(len(digits) == 1 for digits in sets[4_000:])
    assert 2 < np.mean([len(digits) for digits in sets[:4_000]]) < 8


def test_calibration_leaves_the_random_state(trained, small_mnist):
    state = torch.get_rng_state()
    calibrate(trained, small_mnist.validation)
    assert torch.equal(torch.get_rng_state(), state)
