"""The strength report: the same seed gives the same figures, and each figure says what its name says."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from model import seeds
from model.data import synthetic
from model.data.strokes import Drawing
from model.evaluation import metrics, robustness
from model.inference.decision import UNCALIBRATED, Calibration
from model.network.predict import predict
from model.task import REASONS


@pytest.fixture(scope="module", autouse=True)
def few():
    """Fewer digits: each figure is the same kind of figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "CURVE_DIGITS", 6)
        patch.setattr(robustness, "OTHERS", 60)
        patch.setattr(robustness, "PAIRS", 6)
        yield


@pytest.fixture
def no_changes(monkeypatch):
    """Makes no curves, which take most of the time, where they are not what is tested."""
    monkeypatch.setattr(robustness, "CHANGES", ())


@pytest.fixture(scope="module")
def digits(mnist):
    return mnist.test.images[:300].numpy(), mnist.test.labels[:300].numpy()


@pytest.fixture(scope="module")
def read(trained):
    return functools.partial(predict, trained)


@pytest.fixture(scope="module")
def measured(read, digits):
    return robustness.measure_robustness(read, UNCALIBRATED, *digits)


def stroke(digit, *points):
    return Drawing(digit, (np.array(points, float),))


DRAWINGS = [
    *[stroke(1, (5, 0), (slant, 100)) for slant in range(8)],
    stroke(7, (0, 0), (60, 0), (20, 100)),
    stroke(None, (0, 0), (50, 100), (100, 0)),
    stroke(None, (0, 0), (1, 0)),
]


def knowing(outliers=None):
    """A reader that knows the labels of the images in order, whatever they look like; for figures known beforehand."""

    def read(images):
        likely = np.full((len(images), 10), 0.01, np.float32)
        likely[np.arange(len(images)), np.arange(len(images)) % 10] = 0.91
        return likely, np.zeros((len(images), 0)) if outliers is None else outliers(len(images))

    return read


def test_strength_of_the_same_seed_is_the_same(read, digits, measured):
    told = []
    assert robustness.measure_robustness(read, UNCALIBRATED, *digits, on_progress=told.append) == measured
    assert told == sorted(told) and told[-1] == 1 and len(told) > 2
    other = robustness.measure_robustness(read, UNCALIBRATED, *digits, seed=1)
    assert other.curves != measured.curves and other.seed == 1
    assert other.reliability == measured.reliability  # of the whole test set, which no seed chooses


def test_strength_is_plain_json(measured):
    assert json.loads(json.dumps(measured.as_dict(), allow_nan=False)) == measured.as_dict()


def test_curve_of_every_change_falls_from_its_plain_level(measured):
    names = ["shift", "size", "angle", "line width", "noise", "blur"]
    assert [curve.name for curve in measured.curves] == names
    for curve in measured.curves:
        assert len(curve.levels) == len(curve.accuracy) >= 4
        assert curve.levels == sorted(curve.levels)
        assert all(0 <= share <= 1 for share in curve.accuracy)
        assert max(curve.accuracy) > 0.6, "the network reads most digits where little is changed"
    by_name = {curve.name: curve for curve in measured.curves}
    assert by_name["shift"].accuracy[0] == pytest.approx(by_name["shift"].accuracy[-1], abs=0.06)
    assert by_name["angle"].accuracy[0] < max(by_name["angle"].accuracy)
    assert by_name["blur"].accuracy[-1] < by_name["blur"].accuracy[0]


def test_strength_accuracy_agrees_with_the_evaluation(measured, read, digits):
    images, labels = digits
    likely, _ = read(images)
    assert measured.accuracy == metrics.report(likely, labels).accuracy
    assert measured.reliability == metrics.reliability(likely, labels)
    assert measured.digits == 300 and measured.curve_digits == 6


def test_refusals_of_ten_outputs_are_none(measured):
    assert measured.refusals == robustness.Refusals(0.0, dict.fromkeys(REASONS, 0.0), None, None)


def test_refusals_are_counted_at_the_versions_own_threshold(digits, no_changes):
    def outliers(count):
        scores = np.zeros((count, 4), np.float32)
        scores[: count // 4, 3] = 0.9 if count == 300 else 0.2  # a quarter of the digits, and no other picture at 0.5
        return scores

    calibration = Calibration(0.98, refuse_above=0.5)
    found = robustness.measure_robustness(knowing(outliers=outliers), calibration, *digits)
    assert found.refusals.digits == 0.25
    assert found.refusals.others == dict.fromkeys(REASONS, 0.0)
    assert found.refusals.beside == 0
    assert found.refusals.area == pytest.approx((0.75 * 0.25) + 0.5 * 0.75 * 0.75)  # 0.2 beats 0; ties count half


def test_sets_keep_the_true_digit_as_often_as_said(no_changes):
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 0])
    images = np.zeros((10, 28, 28), np.uint8)
    sure = Calibration(0.9, 1.0, hesitant_mass=0.0, confident_mass=0.0)
    found = robustness.measure_robustness(knowing(), sure, images, labels).sets
    assert found == robustness.Sets(0.9, 0.9, 0.0, None, None, 0.0, None)
    unlike = Calibration(0.95, 1.0, hesitant_mass=0.0, confident_mass=0.0)  # 0.91 is hesitant: one digit each
    found = robustness.measure_robustness(knowing(), unlike, images, labels).sets
    assert (found.unsure, found.hesitant, found.hesitant_kept) == (0, 1, 0.9)
    wide = Calibration(0.95, 1.0, hesitant_mass=0.915, confident_mass=0.0)  # 0.91 is hesitant: two digits each
    found = robustness.measure_robustness(knowing(), wide, images, labels).sets
    assert found.unsure == 1 and found.unsure_size == 2 and found.promised == 0.95
    assert found.kept == found.unsure_kept == 1.0  # the last one's set is 9 and 0


def test_sets_are_judged_over_the_digits_that_are_not_refused(no_changes):
    def outliers(count):
        return np.where(np.arange(count) % 2, 0.2, 0.0)[:, None] * np.ones(4)  # every other one is refused

    calibration = Calibration(0.95, refuse_above=0.5, hesitant_mass=0.915)
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 9])  # of the even ones the last is wrong
    found = robustness.measure_robustness(knowing(outliers), calibration, np.zeros((10, 28, 28), np.uint8), labels).sets
    assert found.unsure == 1 and found.kept == found.unsure_kept == 0.8


def test_refusals_at_a_threshold_of_one_are_none(digits, no_changes):
    def outliers(count):
        return np.full((count, 4), np.nextafter(np.float32(0.25), np.float32(1)))  # together a little above 1

    found = robustness.measure_robustness(knowing(outliers), Calibration(refuse_above=1.0), *digits, DRAWINGS)
    assert found.refusals.digits == 0 and set(found.refusals.others.values()) == {0}
    assert found.strokes.digits_refused == found.strokes.others_refused == 0
    assert found.sets.kept is not None


def test_others_drawn_are_of_no_training(read, digits, monkeypatch, no_changes):
    asked = []
    draw = synthetic.others
    monkeypatch.setattr(synthetic, "others", lambda count, seed: asked.append(seed) or draw(count, seed))
    for seed in (0, 1):
        robustness.measure_robustness(read, UNCALIBRATED, *digits, seed=seed)
    assert asked == [seeds.derive_seed("strength, others", seed) for seed in (0, 1)]


def test_strength_of_a_version_refusing_everything_has_figures(digits, no_changes):
    everything = knowing(outliers=lambda count: np.ones((count, 4), np.float32) / 4)
    found = robustness.measure_robustness(everything, Calibration(0.98, refuse_above=0.5), *digits)
    assert found.refusals.digits == 1 and found.refusals.area == 0.5
    assert found.sets == robustness.Sets(0.98, None, None, None, None, None, None)


# Changes


@pytest.mark.parametrize("change", robustness.CHANGES, ids=lambda change: change.name)
def test_change_leaves_a_digit_on_the_canvas(mnist, change):
    rng = np.random.default_rng(0)
    for level in change.levels:
        ink = change.apply(mnist.test.images[0].numpy(), level, rng)
        assert ink.mode == "L" and ink.size == (robustness.SMALL_CANVAS, robustness.SMALL_CANVAS)
        assert np.asarray(ink).max() > 60


def test_sizes_and_widths_are_what_they_say(mnist):
    bar = np.zeros((28, 28), np.uint8)
    bar[4:24, 12:16] = 255
    rng = np.random.default_rng(0)

    def extent(name, level):
        (change,) = [change for change in robustness.CHANGES if change.name == name]
        dark = np.asarray(change.apply(bar, level, rng)) > 128
        return np.ptp(np.flatnonzero(dark.any(1))) + 1, np.ptp(np.flatnonzero(dark.any(0))) + 1

    assert extent("size", 50)[0] == pytest.approx(0.5 * robustness.SMALL_CANVAS, abs=1.5)
    assert extent("size", 90)[0] == pytest.approx(0.9 * robustness.SMALL_CANVAS, abs=1.5)
    plain, wider, thinner = (extent("line width", level)[1] for level in (0, 2, -2))
    assert wider - plain == plain - thinner == 2 * robustness.SMALL_CANVAS / 28


NOISELESS = [change for change in robustness.CHANGES if change.name != "noise"]


@pytest.mark.parametrize("change", NOISELESS, ids=lambda change: change.name)
def test_change_cuts_no_real_digit_off(mnist, change):
    rng = np.random.default_rng(0)
    for image in mnist.test.images[:300].numpy():
        for level in (change.levels[0], change.levels[-1]):
            ink = np.asarray(change.apply(image, level, rng))
            edge = np.concatenate((ink[0], ink[-1], ink[:, 0], ink[:, -1]))
            assert not edge.any(), (change.name, level)


def test_change_of_size_has_the_size_asked_for(mnist):
    (size,) = [change for change in robustness.CHANGES if change.name == "size"]
    for image in mnist.test.images[:300].numpy():
        left, top, right, bottom = size.apply(image, 90, None).getbbox()
        whole = 0.9 * robustness.SMALL_CANVAS
        assert max(right - left, bottom - top) == pytest.approx(whole, abs=6)  # a pixel of MNIST's is five of these
        middle = np.array([left + right, top + bottom]) / 2
        assert middle == pytest.approx(robustness.SMALL_CANVAS / 2, abs=3)


def test_pictures_without_ink_count_as_wrong(read):
    blank = Image.new("L", (60, 60), 255)
    line = Image.fromarray(np.where(np.arange(60) == 30, 0, 255).astype(np.uint8)[None].repeat(60, 0))
    answers = robustness.predictor(read)([blank, line])
    assert answers.predicted[0] == -1 and answers.predicted[1] >= 0
    assert not answers.probabilities[0].any() and answers.not_a_digit is None
    assert answers.refused.tolist() == [True, False]


def test_drawings_without_ink_are_read_as_nothing_and_like_nothing(read, monkeypatch):
    monkeypatch.setattr(robustness.strokes, "draw", lambda drawing, look: Image.new("L", (60, 60), 255))
    zeros = [stroke(0, (0, 0), (0, 100))] * 3
    found = robustness.stroke_figures(robustness.predictor(read), zeros, 0, lambda: None)
    assert found.accuracy == found.top3_accuracy == 0 and set(found.same.values()) == {0}


# Strokes


@pytest.fixture(scope="module")
def with_strokes(read, digits):
    return robustness.measure_robustness(read, UNCALIBRATED, *digits, DRAWINGS)


def test_strokes_leave_the_other_figures_as_they_are(with_strokes, measured):
    assert with_strokes.as_dict() | {"strokes": None} == measured.as_dict()


def test_strokes_have_figures_of_their_own(with_strokes):
    found = with_strokes.strokes
    assert (found.digits, found.others, found.pairs) == (9, 2, 6)
    assert 0 < found.accuracy <= found.top3_accuracy <= 1
    assert list(found.same) == ["moved", "size", "pen", "rotated", "all at once", "all at once, any pen"]
    assert found.same["moved"] > 0.8
    assert found.refused_beside is found.area is None  # ten outputs refuse nothing
    assert found.digits_refused == found.others_refused == 0


def test_strokes_without_others_or_without_digits(read, digits, no_changes):
    found = robustness.measure_robustness(read, UNCALIBRATED, *digits, DRAWINGS[:4]).strokes
    assert (found.digits, found.others, found.area, found.others_refused) == (4, 0, None, None)
    with pytest.raises(ValueError, match="no digit"):
        robustness.measure_robustness(read, UNCALIBRATED, *digits, DRAWINGS[-2:])


def test_pairs_differ_in_what_they_say_and_in_nothing_else():
    rng = np.random.default_rng(0)
    plain = vars(robustness.Look())
    changed = {"moved": {"x", "y"}, "size": {"size"}, "pen": {"pen"}, "rotated": {"angle"}}
    for name, look in robustness.PAIRED.items():
        for made in (vars(look(rng)) for _ in range(200)):
            differing = {field for field in plain if made[field] != plain[field]}
            assert differing == changed.get(name, set(plain))
            assert 0.15 <= made["size"] <= 0.9 and 4 <= made["pen"] <= 40 and abs(made["angle"]) <= 15


def test_pairs_all_at_once_keep_the_pen_within_a_quarter():
    for name, capped in (("all at once", True), ("all at once, any pen", False)):
        rng = np.random.default_rng(0)
        looks = [robustness.PAIRED[name](rng) for _ in range(300)]
        widest = max(look.pen / (look.size * 280) for look in looks)
        assert widest == pytest.approx(0.25) if capped else widest > 0.7
