"""The layout of curves: places in per cent from the top left corner."""

import math

import pytest

from tests.support.versions import figures
from webapp.presentation.charts import (
    accuracy_chart,
    loss_chart,
    reliability_chart,
    sparkline,
    strength_charts,
)


def epoch(number, train_loss, validation_loss, validation_accuracy):
    return {
        "epoch": number,
        "train_loss": train_loss,
        "validation_loss": validation_loss,
        "validation_accuracy": validation_accuracy,
        "seconds": number * 2.0,
    }


HISTORY = [epoch(0, None, 2.3, 0.1), epoch(1, 0.4, 0.2, 0.9), epoch(2, 0.1, 0.11, 0.99)]


def test_chart_without_figures_is_empty():
    assert loss_chart([], 2) is None
    assert accuracy_chart([], 2, 0.99) is None
    assert sparkline([], 2) == sparkline(HISTORY[:1], 2) == ""


def test_losses_lie_between_round_values_on_a_logarithmic_scale():
    chart = loss_chart(HISTORY, 2)
    assert [tick.label for tick in chart.values] == ["5", "2", "1", "0.5", "0.2", "0.1"]
    train, validation = chart.curves
    assert [x for x, _ in train.points] == [50, 100]  # there is no training loss before training
    assert [x for x, _ in validation.points] == [0, 50, 100]
    assert train.points[1][1] == 100
    assert validation.points[0][1] == pytest.approx(100 * math.log10(5 / 2.3) / math.log10(50), abs=0.01)


def test_accuracy_scale_gives_each_nine_the_same_height():
    chart = accuracy_chart(HISTORY, 2)
    (curve,) = chart.curves
    assert curve.points[1:] == ((50, 50), (100, 0))
    assert chart.reference is None


def test_reference_fits_into_the_chart():
    chart = accuracy_chart(HISTORY, 2, reference=0.9942)
    assert chart.reference.label == "99.42"
    assert 0 <= chart.reference.at <= chart.curves[0].points[-1][1]


@pytest.mark.parametrize(
    ("epochs", "labels"),
    [
        (1, "0 1"),
        (2, "0 1 2"),
        (7, "0 2 4 6 7"),
        (20, "0 5 10 15 20"),
        (17, "0 5 10 17"),
        (1000, "0 200 400 600 800 1000"),
    ],
)
def test_epoch_ticks_are_round_and_end_with_the_last_epoch(epochs, labels):
    ticks = loss_chart(HISTORY[:1], epochs).across
    assert " ".join(tick.label for tick in ticks) == labels
    assert (ticks[0].at, ticks[-1].at) == (0, 100)


@pytest.mark.parametrize(
    "history",
    [
        [epoch(0, None, 0.0, 1.0), epoch(1, 0.0, 0.0, 1.0)],
        [epoch(0, None, 1.0, 0.0), epoch(1, 1.0, 1.0, 0.0)],
        [epoch(0, None, math.inf, 0.1), epoch(1, 1e30, math.nan, 0.1)],
        [epoch(0, None, 2.3, 0.1), epoch(1, 1e-9, 300.0, 0.9999)],
    ],
)
def test_chart_of_any_figures_keeps_points_and_ticks_inside(history):
    for chart in (loss_chart(history, 1), accuracy_chart(history, 1, reference=1.0)):
        places = [place for curve in chart.curves for point in curve.points for place in point]
        places += [tick.at for tick in (*chart.across, *chart.values)]
        assert all(0 <= place <= 100 for place in places)


def test_ticks_keep_their_distance():
    for accuracy in (0.2, 0.93, 0.994, 0.9985, 1.0):
        places = [tick.at for tick in accuracy_chart([epoch(0, None, 2.3, accuracy)], 1).values]
        assert all(later - earlier >= 9 for earlier, later in zip(places, places[1:], strict=False))


def test_sparkline_is_the_accuracy_curve():
    assert sparkline(HISTORY, 2) == accuracy_chart(HISTORY, 2).curves[0].polyline
    assert sparkline(HISTORY, 2).startswith("0.00,")


# Strength


def test_strength_report_has_a_chart_for_each_change():
    angle, blur = strength_charts(figures(accuracy=0.99))
    assert (angle.name, angle.unit) == ("angle", "degrees")
    (curve,) = angle.chart.curves
    assert curve.name == "version"
    assert [x for x, _ in curve.points] == [0, 50, 100]
    assert curve.points[1][1] == pytest.approx(100 / 3, abs=0.01)  # two of three nines
    assert [tick.label for tick in angle.chart.across] == ["\u221230", "0", "30"]
    assert [tick.label for tick in blur.chart.values] == ["99.9", "99", "90", "0"]
    assert (angle.level, angle.share) == (-30, 0.5)


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        ([0.998, 0.998], "Flat: 99.8\u00a0%."),
        ([0.99, 0.998], "Flat: between 99.0\u00a0% and 99.8\u00a0%."),  # four of 500 digits
        ([0.988, 0.998], "Lowest at \u221220\u00a0degrees: 98.8\u00a0%."),  # five
    ],
)
def test_curve_that_the_digits_cannot_tell_from_a_flat_one_is_called_flat(accuracy, said):
    mine = figures()
    mine["curves"] = [{"name": "angle", "unit": "degrees", "levels": [-20, 0], "accuracy": accuracy}]
    (curve,) = strength_charts(mine)
    assert curve.sentence == said


def test_reliability_chart_has_a_diagonal_and_larger_dots_for_more_readings():
    ideal, version = reliability_chart(figures()).curves
    assert (ideal.name, ideal.dots) == ("ideal", ())
    assert (version.name, version.points) == ("version", ((50, 75), (99, 10)))
    few, many = (radius for _, _, radius in version.dots)
    assert 0 < few < many < 10
    for (x, y), (at, top, bottom) in zip(version.points, version.whiskers, strict=True):
        assert x == at and 0 <= top < y < bottom <= 100


def test_reliability_chart_leaves_out_bins_that_show_nothing():
    sparse = figures()
    sparse["reliability"]["bins"] = [
        {"count": 1, "confidence": 0.3, "accuracy": 1.0},
        {"count": 8, "confidence": 0.5, "accuracy": 0.5},
        {"count": 9_991, "confidence": 0.99, "accuracy": 0.99},
    ]
    version = reliability_chart(sparse).curves[-1]
    assert version.points == ((99, 1),) and len(version.whiskers) == 1
    sparse["reliability"]["bins"] = sparse["reliability"]["bins"][:1]
    assert reliability_chart(sparse).curves[-1].points == ()


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.999, 0.99999, 1.0])
def test_strength_lies_in_the_field_however_odd_the_figures(accuracy):
    odd = figures(accuracy)
    odd["curves"][0]["levels"], odd["curves"][0]["accuracy"] = [5], [accuracy]
    charts = [found.chart for found in strength_charts(odd)] + [reliability_chart(odd)]
    for chart in charts:
        places = [place for curve in chart.curves for point in curve.points for place in point]
        places += [tick.at for tick in (*chart.across, *chart.values)]
        assert all(0 <= place <= 100 for place in places)
