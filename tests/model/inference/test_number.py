"""Whole numbers: pieces joined to digits along the best path, from strokes and from ink alone."""

import numpy as np
import pytest

from model.data import hands
from model.imaging.ink import ink_in_place
from model.imaging.pieces import components
from model.inference import weights
from model.inference.classifier import SHIPPED, Classifier
from model.inference.number import MOST_PIECES, read_numbers
from model.inference.number_json import as_dict
from tests.support.written_numbers import picture_of, written

CHILD, CONTINENTAL, SLANTED, SCHOOL = (hands.HANDS[i] for i in (0, 2, 3, 5))


@pytest.fixture(scope="module")
def classifier():
    data = weights.read(SHIPPED)
    return Classifier(lambda: data, "shipped")


@pytest.fixture(params=["strokes", "ink"])
def read(request, classifier):
    """Reads strokes drawn in a picture, with them or from its ink alone."""

    def read(strokes, pen=9):
        picture = picture_of(strokes, pen)
        ink = ink_in_place(picture)
        scale = ink.shape[1] / picture.width
        return read_numbers(
            classifier, ink, [stroke * scale for stroke in strokes] if request.param == "strokes" else ()
        )

    return read


def text(numbers):
    return "\n".join(number.text for number in numbers)


@pytest.mark.parametrize("hand", [CHILD, CONTINENTAL, SLANTED, SCHOOL], ids=lambda hand: hand.name)
@pytest.mark.parametrize("number", ["2025", "81467", "90", "3", "605942", "11111"])
def test_numbers_of_any_length_are_read(read, hand, number):
    (found,) = read(written(number, hand))
    assert found.text == number and found.confidence > 0.8
    assert [sign.prediction.top[0][0] for sign in found.signs] == [int(digit) for digit in number]
    assert all(sign.prediction.verdict == "digit" for sign in found.signs)


@pytest.mark.parametrize("number", ["-12,5", "3.14", "20:45", "1+60=61", "9/2", "07.03.2025"])
def test_symbols_between_digits_are_told(read, number):
    (found,) = read(written(number, CONTINENTAL))
    assert found.text == number
    assert [sign.text for sign in found.signs if sign.prediction is None] == [s for s in number if not s.isdigit()]


def test_lines_are_read_from_top_to_bottom_though_they_slope(read):
    found = read(written("81467\n9305\n22", SCHOOL, slope=0.12))
    assert text(found) == "81467\n9305\n22"
    assert [number.box[1] for number in found] == sorted(number.box[1] for number in found)


def test_close_digits_are_told_apart(read):
    assert text(read(written("2580", SLANTED, gap=13))) == "2580"


def test_strokes_that_cross_are_told_apart(classifier):
    strokes = written("2946", SLANTED, gap=-12)
    ink = ink_in_place(picture_of(strokes))
    assert text(read_numbers(classifier, ink, strokes)) == "2946"


def test_touching_digits_are_cut(classifier):
    assert text(read_numbers(classifier, ink_in_place(picture_of(written("57", SCHOOL, gap=6))))) == "57"


def test_broken_digit_is_joined(classifier):
    ink = ink_in_place(picture_of(written("72", SCHOOL)))
    whole = len(components(ink))
    row = np.flatnonzero(ink.any(1))[0] + 20
    ink[row : row + 6] = 0
    assert len(components(ink)) > whole
    assert text(read_numbers(classifier, ink)) == "72"


def test_order_of_strokes_does_not_matter(classifier):
    strokes = written("45714", CONTINENTAL)
    ink = ink_in_place(picture_of(strokes))
    shuffled = [strokes[i] for i in np.random.default_rng(1).permutation(len(strokes))]
    backwards = [stroke[::-1] for stroke in shuffled]
    assert text(read_numbers(classifier, ink, backwards)) == text(read_numbers(classifier, ink, strokes)) == "45714"


@pytest.mark.parametrize(("height", "at"), [(40, (40, 40)), (100, (300, 7)), (180, (10, 200))])
def test_place_and_size_do_not_matter(read, height, at):
    strokes = written("3907", SCHOOL, height=height, gap=height / 4, at=at)
    (found,) = read(strokes, pen=max(3, height / 12))
    assert found.text == "3907"


def test_digits_far_apart_have_their_own_readings(read, classifier):
    strokes = written("6258", CHILD, gap=80)
    (found,) = read(strokes)
    for digit, sign in zip("6258", found.signs, strict=True):
        alone = classifier.predict(picture_of(written(digit, CHILD)))
        assert sign.prediction.top[0][0] == alone.top[0][0]
        assert sign.prediction.top[0][1] == pytest.approx(alone.top[0][1], abs=0.05)


def test_letter_among_digits_is_a_question_mark(classifier):
    digits = written("26", SCHOOL, gap=160)
    x = max(stroke[:, 0].max() for stroke in written("2", SCHOOL)) + 45
    letter = np.array([(x, 140), (x, 40), (x + 35, 140), (x + 70, 40), (x + 70, 140), (x + 35, 60)], float)
    strokes = [*digits, letter]
    (found,) = read_numbers(classifier, ink_in_place(picture_of(strokes)), strokes)
    assert found.text == "2?6" and found.confidence < 0.1


@pytest.mark.parametrize(
    "strokes",
    [
        [np.array([(50.0, 50.0)])],
        [np.array([(40.0, 50.0), (90.0, 52.0)])],
    ],
    ids=["dot", "dash"],
)
def test_what_has_no_digit_is_no_number(read, strokes):
    assert read(strokes) == []


def test_scribble_is_not_read_with_confidence(read):
    scribble = np.array([(x, 60 + 30 * (-1) ** i) for i, x in enumerate(range(40, 200, 9))], float)
    assert all(number.confidence < 0.1 for number in read([scribble]))


def test_texture_is_no_number(classifier):
    ink = np.zeros((300, 300), np.float32)
    ink[::6, ::6] = ink[1::6, ::6] = ink[::6, 1::6] = ink[1::6, 1::6] = 1
    assert np.count_nonzero(ink) // 4 > MOST_PIECES and read_numbers(classifier, ink) == []


def test_boxes_are_fractions_of_the_picture(classifier):
    strokes = written("17", SCHOOL, gap=50, at=(60, 30))
    picture = picture_of(strokes, side=400)
    answer = as_dict(read_numbers(classifier, ink_in_place(picture), strokes), picture.size)
    for digit, part in zip(answer["digits"], (strokes[:1], strokes[1:]), strict=True):
        points = np.concatenate(part)
        expected = [*(points.min(0) - 4.5) / 400, *(points.max(0) + 4.5) / 400]
        assert digit["box"] == pytest.approx(expected, abs=0.01)
    assert answer["lines"][0]["box"] == pytest.approx(
        [answer["digits"][0]["box"][0], min(d["box"][1] for d in answer["digits"]), answer["digits"][1]["box"][2],
         max(d["box"][3] for d in answer["digits"])], abs=1e-4
    )  # fmt: skip


def test_many_strokes_in_one_place_are_read_from_their_ink(classifier):
    strokes = written("25", SCHOOL)
    ink = ink_in_place(picture_of(strokes))
    hatching = [np.array([(50.0 + i % 7, 60), (90, 90.0 - i % 11)]) for i in range(MOST_PIECES)]
    assert text(read_numbers(classifier, ink, hatching)) == "25"
