import json

import numpy as np
import pytest
import torch

from model.evaluation import metrics
from model.evaluation.contact_sheet import contact_sheet
from model.inference import decision
from model.network.predict import digit_probabilities, predict


def certain(digits):
    """Probabilities (N, 10) of a network that is sure of these digits, the next two digits following."""
    found = np.full((len(digits), 10), 0.01, np.float32)
    for row, digit in zip(found, digits, strict=True):
        row[digit], row[(digit + 1) % 10], row[(digit + 2) % 10] = 0.6, 0.2, 0.13
    return found


# Probabilities


def test_probabilities_are_the_networks_softmax(trained, mnist):
    images = mnist.test.images[:2_345]
    found = digit_probabilities(trained, images)
    assert np.array_equal(found, digit_probabilities(trained, images.numpy()))
    assert found.shape == (2_345, 10) and found.dtype == np.float32
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    with torch.no_grad():
        slow = torch.stack([trained(image.reshape(1, 784) / 255).softmax(1)[0] for image in images[-50:]])
    assert np.allclose(found[-50:], slow.numpy(), atol=1e-5)


def test_probabilities_tell_their_progress(trained, mnist):
    told = []
    digit_probabilities(trained, mnist.test.images[:2_500], told.append)
    assert told == [0.4, 0.8, 1.0]


def test_probabilities_of_no_pictures_are_none(trained):
    assert digit_probabilities(trained, np.zeros((0, 28, 28), np.uint8)).shape == (0, 10)


# Report


def test_report_agrees_with_counting_one_by_one():
    chance = np.random.default_rng(5)
    likely = chance.dirichlet(np.ones(10), 400).astype(np.float32)
    labels = chance.integers(0, 8, 400)
    report = metrics.report(likely, labels)

    right = top3 = 0
    per_digit = {digit: [] for digit in range(10)}
    for row, label in zip(likely.tolist(), labels.tolist(), strict=True):
        best = sorted(range(10), key=lambda digit: -row[digit])
        right += best[0] == label
        top3 += label in best[:3]
        per_digit[label].append(best[0] == label)
    assert report.accuracy == pytest.approx(right / 400)
    assert report.top3_accuracy == pytest.approx(top3 / 400)
    assert report.per_digit[8:] == [None, None]
    assert report.per_digit[:8] == pytest.approx([np.mean(per_digit[digit]) for digit in range(8)])
    assert report.confusion.sum() == 400 and np.trace(report.confusion) == right


def test_report_equal_probabilities_read_as_the_smaller_digit():
    report = metrics.report(np.full((1, 10), 0.1, np.float32), np.array([0]))
    assert report.accuracy == 1.0


def test_report_blank_picture_is_no_digit():
    likely = certain([0, 1, 2, 0])
    likely[:3] = 0
    report = metrics.report(likely, np.array([0, 1, 2, 0]))
    assert report.accuracy == report.top3_accuracy == 0.25
    assert report.per_digit == [0.5, 0.0, 0.0, *[None] * 7] and report.confusion.sum() == 1


def test_report_is_plain_json():
    report = metrics.report(certain([3, 4]), np.array([3, 5], np.uint8))
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    assert report.as_dict()["confusion"][5][4] == 1


# Intervals


def test_wilson_interval_of_known_shares():
    assert metrics.wilson_interval(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert metrics.wilson_interval(1.0, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert metrics.wilson_interval(0.8, 50) == pytest.approx((0.6696, 0.8876), abs=1e-4)
    assert metrics.wilson_interval(0.0047, 10_000) == pytest.approx((0.0035, 0.0062), abs=5e-5)
    assert metrics.interval_words(0.99379, 0.9965) == "99.38 to 99.65"


def test_report_has_the_interval_of_every_accuracy():
    labels = np.array([3] * 40 + [5] * 60)
    report = metrics.report(certain([3] * 40 + [5] * 54 + [1] * 6), labels)
    assert report.interval == metrics.wilson_interval(0.94, 100)
    assert report.top3_interval == metrics.wilson_interval(0.94, 100)
    assert report.per_digit_intervals[3] == metrics.wilson_interval(1, 40)
    assert report.per_digit_intervals[5] == metrics.wilson_interval(0.9, 60)
    assert report.per_digit_intervals[4] is None


# Contact sheet


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (10, 10, 1), (11, 10, 2), (40, 10, 4)])
def test_contact_sheet_has_a_place_for_every_digit(mnist, count, columns, rows):
    def sheet(count):
        labels = mnist.test.labels[:count].numpy()
        return contact_sheet(mnist.test.images[:count].numpy(), labels, certain(labels))

    one = sheet(1)
    width, height = sheet(2).width - one.width, sheet(11).height - one.height
    assert sheet(count).mode == "RGB" and width > 84 and height > 84
    assert sheet(count).size == (one.width + (columns - 1) * width, one.height + (rows - 1) * height)


def test_contact_sheet_marks_mistakes(mnist):
    image = np.zeros((1, 28, 28), np.uint8)
    right = np.asarray(contact_sheet(image, np.array([7]), certain([7])), int)
    wrong = np.asarray(contact_sheet(image, np.array([7]), certain([1])), int)

    def reddest(sheet):
        return (sheet[..., 0] - sheet[..., 1]).max()

    assert reddest(right) == 0 and reddest(wrong) > 100
    assert right.min() < 60, "the caption is there"


# Refusals


def test_refusals_of_many_are_those_of_one():
    outliers = np.random.default_rng(3).dirichlet(np.full(5, 0.02), 2_000).astype(np.float32)[:, :4]
    found = metrics.not_a_digit(outliers)
    assert found.dtype == np.float64
    assert found == pytest.approx([decision.not_a_digit(row) for row in outliers.tolist()])
    assert not metrics.not_a_digit(np.zeros((3, 0), np.float32)).any()
    outliers = np.full((1, 4), np.nextafter(np.float32(0.25), np.float32(1)))
    assert outliers.sum() > 1 and metrics.not_a_digit(outliers) == 1


def test_readings_and_reasons_have_their_own_shares(mnist):
    from model.network.mlp import MLP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = MLP((12,), 14)
    images = mnist.test.images[:1_200]
    likely, outliers = predict(network, images)
    assert likely.shape == (1_200, 10) and outliers.shape == (1_200, 4)
    assert likely.dtype == outliers.dtype == np.float32
    with torch.no_grad():
        everything = network(images.reshape(-1, 784) / 255).softmax(1).numpy()
    assert np.allclose(outliers, everything[:, 10:], atol=1e-5)
    digits = everything[:, :10] / everything[:, :10].sum(1, keepdims=True)
    assert np.allclose(likely, digits, atol=1e-5)


def test_network_of_ten_outputs_has_no_reasons(trained, mnist):
    likely, outliers = predict(trained, mnist.test.images[:5])
    assert np.array_equal(likely, digit_probabilities(trained, mnist.test.images[:5]))
    assert outliers.shape == (5, 0)


def test_area_is_the_share_of_pairs_in_order():
    chance = np.random.default_rng(2)
    inside, outside = chance.integers(0, 20, 60) / 20, chance.integers(5, 25, 40) / 20  # many ties
    pairs = [(b > a) + (b == a) / 2 for a in inside for b in outside]
    assert metrics.roc_area(inside, outside) == pytest.approx(np.mean(pairs))
    assert metrics.roc_area(np.array([0.1, 0.2]), np.array([0.3])) == 1
    assert metrics.roc_area(np.zeros(3), np.zeros(4)) == 0.5
    assert metrics.roc_area(np.zeros(0), np.zeros(4)) is metrics.roc_area(np.zeros(4), np.zeros(0)) is None


def test_refused_beside_two_in_a_hundred_is_right():
    inside = np.arange(100) / 100
    assert metrics.refused_beside(inside, np.array([0.97, 0.975, 0.99, 0.2])) == 0.5  # 0.98 and 0.99 are refused
    assert metrics.refused_beside(inside, np.array([0.97, 0.975, 0.99, 0.2]), 0) == 0
    assert metrics.refused_beside(np.zeros(50), np.zeros(50)) == 0
    assert metrics.refused_beside(np.zeros(0), np.ones(3)) is None


def test_refused_beside_refuses_no_more_digits_than_allowed():
    chance = np.random.default_rng(4)
    for count in (1, 7, 49, 50, 51, 999):
        inside = chance.integers(0, 30, count) / 30
        for share in (0, 0.02, 0.3):
            outside = np.linspace(0, 1, 2_001)
            threshold = 1 - metrics.refused_beside(inside, outside, share)
            assert (inside > threshold + 1e-3).mean() <= share


# Calibration


def slow_error(likely, labels):
    """The expected calibration error as its definition reads, bin by bin."""
    error = 0.0
    for number in range(15):
        rows = [
            (max(row), max(row) == row[label])
            for row, label in zip(likely.tolist(), labels.tolist(), strict=True)
            if number / 15 < max(row) <= (number + 1) / 15
        ]
        if rows:
            confidence, right = np.mean([c for c, _ in rows]), np.mean([r for _, r in rows])
            error += len(rows) / len(labels) * abs(confidence - right)
    return error


def test_calibration_error_agrees_with_counting_one_by_one():
    chance = np.random.default_rng(6)
    likely = chance.dirichlet(np.full(10, 0.3), 500)
    labels = chance.integers(0, 10, 500)
    found = metrics.reliability(likely, labels)
    assert found.error == pytest.approx(slow_error(likely, labels))
    assert sum(one.count for one in found.bins) == 500
    assert [one.confidence for one in found.bins] == sorted(one.confidence for one in found.bins)


def test_calibration_error_of_the_calibrated_is_zero():
    likely = np.zeros((10, 10))
    likely[:, 3], likely[:, 5] = 0.7, 0.3
    labels = np.array([3] * 7 + [5] * 3)
    found = metrics.reliability(likely, labels)
    assert found.error == pytest.approx(0)
    assert found.bins == [metrics.Bin(10, pytest.approx(0.7), pytest.approx(0.7))]


def test_calibration_blank_picture_is_wrong_with_confidence_0():
    found = metrics.reliability(np.concatenate((np.zeros((1, 10)), np.eye(10)[:1])), np.array([0, 0]))
    assert found.error == 0 and found.bins == [metrics.Bin(1, 0, 0), metrics.Bin(1, 1, 1)]


def test_calibration_certainty_belongs_to_the_last_bin():
    found = metrics.reliability(np.eye(10), np.zeros(10, int))
    assert found.error == pytest.approx(0.9) and len(found.bins) == 1
