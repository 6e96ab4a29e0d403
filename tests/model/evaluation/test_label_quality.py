"""Suspicion: right labels are believed, wrong ones are not, and what is merely unusual lies between."""

import numpy as np
import pytest

from model.data import synthetic
from model.evaluation import label_quality, metrics
from model.evaluation.label_quality import FAR, NEAR, NEIGHBOURS, NO_DIGIT, Reference, features
from model.inference.classifier import SHIPPED
from model.network.predict import predict
from model.network.weights import load_network

JUDGED = 1_000
WRONG = 100


@pytest.fixture(scope="module")
def reference(mnist):
    """A third of MNIST's training digits, which is enough and quicker."""
    part = mnist.train.first(20_000)
    return Reference(part.images.numpy(), part.labels.numpy())


@pytest.fixture(scope="module")
def network():
    return load_network(SHIPPED)[0]


@pytest.fixture(scope="module")
def digits(mnist):
    part = mnist.validation.first(JUDGED)
    return part.images.numpy(), part.labels.numpy()


def judged(network, reference, images, labels):
    return label_quality.suspicion(images, labels, *predict(network, images), reference)


def test_suspicion_of_planted_wrong_labels_stands_out(network, reference, digits):
    images, true = digits
    random = np.random.default_rng(0)
    wrong = np.isin(np.arange(JUDGED), random.choice(JUDGED, WRONG, replace=False))
    labels = np.where(wrong, (true + random.integers(1, 10, JUDGED)) % 10, true)
    found = judged(network, reference, images, labels)
    assert metrics.roc_area(found.suspicion[~wrong], found.suspicion[wrong]) > 0.99
    assert np.quantile(found.suspicion[wrong], 0.1) > 0.8
    assert np.quantile(found.suspicion[~wrong], 0.95) < 0.05
    most = np.argsort(-found.suspicion)[:WRONG]
    assert wrong[most].mean() >= 0.95


def test_suspicion_of_unusual_digits_lies_between(network, reference, mnist):
    """Validation digits that the network misreads, or as good as: rightly labelled all the same."""
    images, labels = mnist.validation.images.numpy(), mnist.validation.labels.numpy()
    probabilities, _ = predict(network, images)
    hard = np.argsort(probabilities[np.arange(len(labels)), labels])[:20]
    found = judged(network, reference, images[hard], labels[hard])
    usual = judged(network, reference, images[:200], labels[:200])
    wrong = judged(network, reference, images[:200], (labels[:200] + 5) % 10)
    assert np.mean(usual.suspicion) < 0.1 < np.mean(found.suspicion) < 0.7 < np.mean(wrong.suspicion)


def test_suspicion_of_what_is_no_digit_is_judged(network, reference, digits):
    """Scribbles and the like are rightly called no digit; digits are not."""
    others, _ = synthetic.others(200, seed=1)
    right = judged(network, reference, others, np.full(200, NO_DIGIT))
    wrong = judged(network, reference, digits[0][:200], np.full(200, NO_DIGIT))
    assert np.quantile(right.suspicion, 0.9) < 0.1 and np.quantile(wrong.suspicion, 0.1) > 0.7
    assert (right.read == NO_DIGIT).mean() > 0.9 and (wrong.read == digits[1][:200]).mean() > 0.9
    as_digits = judged(network, reference, others, np.full(200, 3))
    assert np.median(as_digits.suspicion) > 0.4  # nothing near them is a 3, and much is simply far


def test_neighbours_agree_with_a_slow_search(digits):
    images, labels = digits
    reference = Reference(images[:300], labels[:300])
    found, similarities = reference.nearest(images[300:310])
    for number, image in enumerate(images[300:310]):
        slow = features(images[:300]) @ features(image[None])[0]
        order = np.argsort(-slow)[:NEIGHBOURS]
        assert np.sort(similarities[number]) == pytest.approx(slow[order][::-1], abs=1e-5)
        assert sorted(found[number]) == sorted(labels[order])


def test_suspicion_needs_both_witnesses(digits):
    """Plain figures: a network that says 3 and neighbours that are all one image of it."""
    image = digits[0][:1]
    crowd = Reference(np.repeat(image, NEIGHBOURS, 0), np.full(NEIGHBOURS, 3))
    probabilities = np.zeros((1, 10), np.float32)
    probabilities[0, 3] = 1
    sure = np.zeros((1, 4), np.float32)
    for label, expected in ((3, 0), (5, 1), (NO_DIGIT, 1)):
        found = label_quality.suspicion(image, np.array([label]), probabilities, sure, crowd)
        assert found.suspicion == pytest.approx(expected, abs=1e-6)
        assert found.neighbours[0, 3] == NEIGHBOURS and found.read == 3
    others_doubt = label_quality.suspicion(image, np.array([5]), np.eye(10, dtype=np.float32)[[5]], sure, crowd)
    assert others_doubt.network_doubt == 0 and others_doubt.neighbour_doubt == 1 and others_doubt.suspicion == 0


def test_suspicion_by_a_network_without_refusal_is_unsure(digits):
    image = digits[0][:1]
    found = label_quality.suspicion(
        image, np.array([NO_DIGIT]), np.eye(10, dtype=np.float32)[[3]], np.zeros((1, 0), np.float32),
        Reference(np.repeat(image, NEIGHBOURS, 0), np.full(NEIGHBOURS, 3)),
    )  # fmt: skip
    assert found.network_doubt == 0.5 and found.suspicion == 0.5


def test_suspicion_without_reference_half_believes_the_network(network, digits):
    nothing = Reference(np.zeros((0, 28, 28), np.uint8), np.zeros(0, int))
    images, true = digits[0][:100], digits[1][:100]
    assert len(nothing) == 0
    wrong = judged(network, nothing, images, (true + 3) % 10)
    assert np.median(wrong.suspicion) == pytest.approx(0.5, abs=0.01) and wrong.neighbours.sum() == 0
    assert np.median(judged(network, nothing, images, true).suspicion) < 0.01


def test_suspicion_of_nothing_and_blank_is_judged(network, reference):
    assert len(judged(network, reference, np.zeros((0, 28, 28), np.uint8), np.zeros(0, int))) == 0
    found = judged(network, reference, np.zeros((1, 28, 28), np.uint8), np.array([4]))
    assert 0 <= found.suspicion[0] <= 1 and found.neighbours.sum() == 0


def test_suspicion_is_a_share(network, reference, digits):
    labels = np.random.default_rng(2).integers(0, NO_DIGIT + 1, JUDGED)
    found = judged(network, reference, digits[0], labels)
    for figures in (found.suspicion, found.network_doubt, found.neighbour_doubt, found.probability):
        assert figures.shape == (JUDGED,) and figures.min() >= 0 and figures.max() <= 1
    assert found.neighbours.sum(1).max() <= NEIGHBOURS and 0 < FAR < NEAR < 1
