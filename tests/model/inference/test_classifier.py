"""The classifier: lazy, loaded once, and honest about weights that cannot be used."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.inference import weights
from model.inference.classifier import SHIPPED, Classifier
from model.network.weights import serialize

ROOT = Path(__file__).parents[3]


def seven():
    picture = Image.new("RGBA", (140, 140), (0, 0, 0, 0))
    ImageDraw.Draw(picture).line([(40, 30), (100, 32), (62, 112)], fill=(0, 0, 0, 255), width=9, joint="curve")
    return picture


def blank():
    return Image.new("RGBA", (140, 140), (0, 0, 0, 0))


@pytest.fixture(scope="module")
def shipped():
    return Classifier(SHIPPED.read_bytes, "v1")


def run(code):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_classifier_imports_no_torch():
    run(
        "import sys\n"
        "import model.imaging.normalise, model.data.mnist, model.evaluation.metrics, model.inference.weights\n"
        "model.data.mnist.read_test()\n"
        "from PIL import Image\n"
        "from model.inference.classifier import SHIPPED, Classifier\n"
        "classifier = Classifier(SHIPPED.read_bytes, 'v1')\n"
        "assert classifier.predict(Image.new('RGBA', (9, 9))).verdict == 'blank'\n"
        "sheet = Image.new('L', (99, 99), 255)\n"
        "sheet.paste(0, (40, 20, 46, 80))\n"
        "assert classifier.predict(sheet).top[0][0] == 1\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules), 'torch was imported'\n"
    )


def test_reading_is_consistent(shipped):
    reading = shipped.predict(seven())
    assert reading.verdict == "digit"
    assert len(reading.probabilities) == 10 and sum(reading.probabilities) == pytest.approx(1, abs=1e-5)
    assert all(type(p) is float and 0 <= p <= 1 for p in reading.probabilities)
    assert len(reading.top) == 3 and reading.top[0][0] == 7
    assert [p for _, p in reading.top] == sorted(reading.probabilities, reverse=True)[:3]
    assert all(reading.probabilities[digit] == p for digit, p in reading.top)
    assert len({digit for digit, _ in reading.top}) == 3
    assert reading.digit_image.shape == (28, 28) and reading.digit_image.dtype == np.uint8


def test_reading_twice_is_the_same(shipped):
    picture = seven()
    first, again = shipped.predict(picture), shipped.predict(picture)
    assert first.probabilities == again.probabilities
    assert picture.tobytes() == seven().tobytes()


def test_reading_of_a_blank_picture_is_blank(shipped):
    reading = shipped.predict(blank())
    assert (reading.verdict, reading.top, reading.probabilities, reading.digit_image) == ("blank", (), (), None)


def test_reading_of_mnist_digits_is_right(shipped, mnist):
    images, labels = mnist.test.images[:200].numpy(), mnist.test.labels[:200].tolist()
    read = [shipped.predict(Image.fromarray(255 - image)).top[0][0] for image in images]
    assert sum(a == b for a, b in zip(read, labels, strict=True)) >= 196


def test_reading_of_a_digit_image_is_that_of_its_picture(shipped):
    reading = shipped.predict(seven())
    again = shipped.predict_digit_image(reading.digit_image)
    assert np.array_equal(again.digit_image, reading.digit_image)
    assert replace(again, digit_image=None) == replace(reading, digit_image=None)


class Counted:
    """A source of weights that counts how often it is asked, and answers in turn."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def __call__(self):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_classifier_loads_weights_once_when_needed():
    load = Counted(SHIPPED.read_bytes())
    classifier = Classifier(load, "v1")
    classifier.predict(blank())
    assert load.asked == 0 and classifier.version == "v1"
    classifier.warm()
    assert load.asked == 1
    readings = [classifier.predict(seven()) for _ in range(3)]
    assert load.asked == 1 and len(readings) == 3


def test_classifier_asked_by_many_threads_loads_once():
    load, together = Counted(SHIPPED.read_bytes()), threading.Barrier(16)
    classifier = Classifier(load, "v1")

    def first(_):
        together.wait(timeout=30)
        return classifier.predict(seven())

    with ThreadPoolExecutor(16) as pool:
        readings = list(pool.map(first, range(16)))
    assert load.asked == 1
    assert {reading.top[0][0] for reading in readings} == {7}
    assert len({tuple(reading.probabilities) for reading in readings}) == 1


def flipped(data):
    data = bytearray(data)
    data[-1000] ^= 4
    return bytes(data)


DAMAGED = {
    "nothing": lambda data: b"",
    "text": lambda data: b"these are no weights" * 99,
    "cut short": lambda data: data[: len(data) // 2],
    "a flipped bit": flipped,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_classifier_with_damaged_weights_works_with_good_ones_later(name):
    good = SHIPPED.read_bytes()
    load = Counted(DAMAGED[name](good), good)
    classifier = Classifier(load, "v1")
    with pytest.raises(weights.WeightsError):
        classifier.predict(seven())
    assert classifier.predict(seven()).top[0][0] == 7
    assert load.asked == 2


def test_classifier_that_cannot_load_tries_again():
    load = Counted(OSError("the disk is away"), SHIPPED.read_bytes())
    classifier = Classifier(load, "v1")
    with pytest.raises(OSError, match="the disk is away"):
        classifier.warm()
    classifier.warm()
    assert load.asked == 2


def test_weights_that_overflow_are_refused(card):
    """Each weight is finite and within half precision, but the sums in float32 are not."""
    import torch

    from model.network.mlp import MLP

    network = MLP((16,) * 8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(60_000)
    data = serialize(network, replace(card, hidden=network.hidden))
    with pytest.raises(weights.WeightsError, match="no finite probabilities"):
        Classifier(lambda: data, "v1").warm()
