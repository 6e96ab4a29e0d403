"""The layout of curves: places in per cent from the top left corner."""

import math

import pytest

from webapp.curves import accuracy_chart, loss_chart, sparkline


def epoch(number, train_loss, validation_loss, validation_accuracy):
    return {
        "epoch": number,
        "train_loss": train_loss,
        "validation_loss": validation_loss,
        "validation_accuracy": validation_accuracy,
        "seconds": number * 2.0,
    }


HISTORY = [epoch(0, None, 2.3, 0.1), epoch(1, 0.4, 0.2, 0.9), epoch(2, 0.1, 0.11, 0.99)]


def test_nothing_is_drawn_before_the_first_figures():
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


def test_each_further_nine_is_as_high_as_the_last():
    chart = accuracy_chart(HISTORY, 2)
    (curve,) = chart.curves
    assert curve.points[1:] == ((50, 50), (100, 0))
    assert chart.reference is None


def test_the_reference_fits_into_the_chart():
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
    ticks = loss_chart(HISTORY[:1], epochs).epochs
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
def test_every_point_and_tick_lies_in_the_field_however_odd_the_figures(history):
    for chart in (loss_chart(history, 1), accuracy_chart(history, 1, reference=1.0)):
        places = [place for curve in chart.curves for point in curve.points for place in point]
        places += [tick.at for tick in (*chart.epochs, *chart.values)]
        assert all(0 <= place <= 100 for place in places)


def test_ticks_keep_their_distance():
    for accuracy in (0.2, 0.93, 0.994, 0.9985, 1.0):
        places = [tick.at for tick in accuracy_chart([epoch(0, None, 2.3, accuracy)], 1).values]
        assert all(later - earlier >= 9 for earlier, later in zip(places, places[1:], strict=False))


def test_a_sparkline_is_the_accuracy_curve():
    assert sparkline(HISTORY, 2) == accuracy_chart(HISTORY, 2).curves[0].polyline
    assert sparkline(HISTORY, 2).startswith("0.00,")
