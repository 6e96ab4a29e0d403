import json

import numpy as np
import pytest
import torch

from model import evaluate


def certain(digits):
    """Probabilities (N, 10) of a network that is sure of these digits, the next two digits following."""
    found = np.full((len(digits), 10), 0.01, np.float32)
    for row, digit in zip(found, digits, strict=True):
        row[digit], row[(digit + 1) % 10], row[(digit + 2) % 10] = 0.6, 0.2, 0.13
    return found


# Probabilities


def test_probabilities_are_the_networks_softmax(trained, mnist):
    images = mnist.test.images[:2_345]
    found = evaluate.probabilities(trained, images)
    assert found.shape == (2_345, 10) and found.dtype == np.float32
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    with torch.no_grad():
        slow = torch.stack([trained(image.reshape(1, 784) / 255).softmax(1)[0] for image in images[-50:]])
    assert np.allclose(found[-50:], slow.numpy(), atol=1e-5)


def test_arrays_and_tensors_are_read_alike(trained, mnist):
    images = mnist.test.images[:64]
    assert np.array_equal(
        evaluate.probabilities(trained, images), evaluate.probabilities(trained, images.numpy())
    )


def test_progress_rises_to_the_whole(trained, mnist):
    told = []
    evaluate.probabilities(trained, mnist.test.images[:2_500], told.append)
    assert told == [0.4, 0.8, 1.0]


def test_no_pictures_give_no_probabilities(trained):
    assert evaluate.probabilities(trained, np.zeros((0, 28, 28), np.uint8)).shape == (0, 10)


# Report


def test_a_report_counts_what_was_read():
    labels = np.array([0, 0, 1, 2, 9], np.uint8)
    report = evaluate.report(certain([0, 9, 1, 1, 6]), labels)
    # 9 for 0 has 0 in second place, 1 for 2 has 2 in second place, 6 for 9 has 7 and 8 before it
    assert report.count == 5
    assert report.accuracy == pytest.approx(2 / 5)
    assert report.top3_accuracy == pytest.approx(4 / 5)
    assert report.per_digit == [0.5, 1.0, 0.0, *[None] * 6, 0.0]
    expected = np.zeros((10, 10), int)
    expected[0, 0] = expected[0, 9] = expected[1, 1] = expected[2, 1] = expected[9, 6] = 1
    assert np.array_equal(report.confusion, expected)


def test_a_report_agrees_with_counting_one_by_one():
    chance = np.random.default_rng(5)
    likely = chance.dirichlet(np.ones(10), 400).astype(np.float32)
    labels = chance.integers(0, 8, 400)
    report = evaluate.report(likely, labels)

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


def test_equal_probabilities_are_read_as_the_smaller_digit():
    report = evaluate.report(np.full((1, 10), 0.1, np.float32), np.array([0]))
    assert report.accuracy == 1.0


def test_a_report_is_plain_json():
    report = evaluate.report(certain([3, 4]), np.array([3, 5], np.uint8))
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    assert report.as_dict()["confusion"][5][4] == 1


@pytest.mark.parametrize(
    ("likely", "labels"),
    [
        (np.zeros((0, 10)), np.zeros(0, int)),
        (np.zeros((3, 10)), np.zeros(2, int)),
        (np.zeros((2, 9)), np.zeros(2, int)),
        (np.zeros(10), np.zeros(1, int)),
    ],
)
def test_a_report_needs_matching_digits(likely, labels):
    with pytest.raises(ValueError, match="do not match"):
        evaluate.report(likely, labels)


def test_the_trained_network_reads_most_digits(trained, mnist):
    images, labels = mnist.test.images[:2_000], mnist.test.labels[:2_000].numpy()
    report = evaluate.report(evaluate.probabilities(trained, images), labels)
    assert report.accuracy > 0.7 and report.top3_accuracy > 0.9


# Contact sheet


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (10, 10, 1), (11, 10, 2), (40, 10, 4)]
)
def test_a_contact_sheet_has_a_place_for_every_digit(mnist, count, columns, rows):
    def sheet(count):
        labels = mnist.test.labels[:count].numpy()
        return evaluate.contact_sheet(mnist.test.images[:count].numpy(), labels, certain(labels))

    one = sheet(1)
    width, height = sheet(2).width - one.width, sheet(11).height - one.height
    assert sheet(count).mode == "RGB" and width > 84 and height > 84
    assert sheet(count).size == (one.width + (columns - 1) * width, one.height + (rows - 1) * height)


def test_a_contact_sheet_marks_what_was_read_wrong(mnist):
    image = np.zeros((1, 28, 28), np.uint8)
    right = np.asarray(evaluate.contact_sheet(image, np.array([7]), certain([7])), int)
    wrong = np.asarray(evaluate.contact_sheet(image, np.array([7]), certain([1])), int)

    def reddest(sheet):
        return (sheet[..., 0] - sheet[..., 1]).max()

    assert reddest(right) == 0 and reddest(wrong) > 100
    assert right.min() < 60, "the caption is there"
