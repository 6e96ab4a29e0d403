"""Layout of the charts of runs and versions, in per cent, so that an SVG of any size draws them with text unscaled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from model.evaluation.metrics import wilson_interval

MOST_EPOCH_TICKS = 6
MOST_DOTS = 25
DOT_RADIUS = 3.0  # pixels
LEAST_TICK_DISTANCE = 9.0  # per cent of the height
LOSS_FLOOR = 1e-4
ACCURACY_TICKS = (0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999)
STRENGTH_TICKS = (0.0, 0.9, 0.99, 0.999)
SHARE_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# A curve is flat if fewer digits than this separate its ends: even if none of them is read right at the lower end only,
# McNemar's exact test at the level 0.05 cannot tell four digits from chance (2 ** -4 > 0.05).
FLAT_BELOW_DIGITS = 5
# A bin whose interval covers more than half of the scale cannot show whether it is off the diagonal: it is left out.
WIDEST_INTERVAL = 0.5
Height = Callable[[float], float]
IDEAL = ((0.0, 100.0), (100.0, 0.0))


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position from the left or the top in per cent, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in per cent from the top left corner; `radii` of their dots in pixels, 0 for none.

    `whiskers` (x, top, bottom) are the intervals of points that no line joins.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    radii: tuple[float, ...] = ()
    whiskers: tuple[tuple[float, float, float], ...] = ()

    @property
    def polyline(self) -> str:
        """The `points` of an SVG polyline in a view box of 100 by 100."""
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in self.points)

    @property
    def dots(self) -> tuple[tuple[float, float, float], ...]:
        """The points (x, y, radius) to draw as dots: all, or of more than MOST_DOTS the last."""
        radii = self.radii or (DOT_RADIUS,) * len(self.points)
        dots = tuple((*point, radius) for point, radius in zip(self.points, radii, strict=True) if radius)
        return dots if len(dots) <= MOST_DOTS else dots[-1:]


@dataclass(frozen=True)
class Chart:
    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    values: tuple[Tick, ...]
    reference: Tick | None = None


@dataclass(frozen=True)
class StrengthChart:
    """A curve of a robustness report: accuracy by the level of one change, in its `unit`.

    `level` is the one with the lowest accuracy, `share` that accuracy, `best` the highest one. `is_flat` if the number
    of digits cannot tell the lowest from the highest.
    """

    name: str
    unit: str
    chart: Chart
    level: float
    share: float
    best: float
    is_flat: bool

    @property
    def sentence(self) -> str:
        """Return the lowest accuracy in words, or the narrow range of a flat curve."""
        worst, best = (f"{100 * share:.1f}\u00a0%" for share in (self.share, self.best))
        if self.is_flat:
            return f"Flat: {worst}." if worst == best else f"Flat: between {worst} and {best}."
        return f"Lowest at {self.level:g}\u00a0{self.unit}: {worst}.".replace("-", "\u2212")


def loss_chart(history: Sequence[dict], epochs: int) -> Chart | None:
    """Return the losses by epoch on a logarithmic scale; None before there are any.

    `history` has the dicts of `model.training.train.Epoch.as_dict()`; `epochs` is the total number of the run's epochs.
    """
    found = {
        name: [(point["epoch"], loss) for point in history if _is_number(loss := point[f"{name}_loss"])]
        for name in ("train", "validation")
    }
    losses = [max(loss, LOSS_FLOOR) for points in found.values() for _, loss in points]
    if not losses:
        return None
    ticks = _round_values(min(losses), max(losses))

    def height(loss: float) -> float:
        return _from_top(math.log10(max(loss, LOSS_FLOOR)), math.log10(ticks[0]), math.log10(ticks[-1]))

    curves = tuple(_curve(name, points, 0, epochs, height) for name, points in found.items() if points)
    return Chart(curves, _epoch_ticks(epochs), _apart(Tick(height(tick), f"{tick:g}") for tick in ticks))


def accuracy_chart(history: Sequence[dict], epochs: int, reference: float | None = None) -> Chart | None:
    """Return the validation accuracy by epoch and, as a line, `reference`, another version's; None before there is any.

    The scale is logarithmic in the error rate, so that 90 %, 99 % and 99.9 % are equally far apart.
    """
    points = [(point["epoch"], point["validation_accuracy"]) for point in history]
    if not points:
        return None
    best = max(reference or 0.0, *(accuracy for _, accuracy in points))
    top = next((tick for tick in ACCURACY_TICKS[1:] if tick >= best), 1.0)

    def height(accuracy: float) -> float:
        return _from_top(_nines(accuracy), 0, _nines(top))

    return Chart(
        (_curve("validation", points, 0, epochs, height),),
        _epoch_ticks(epochs),
        _apart(Tick(height(tick), f"{100 * tick:g}") for tick in ACCURACY_TICKS if tick <= top),
        None if reference is None else Tick(height(reference), f"{100 * reference:.2f}"),
    )


def strength_charts(figures: dict[str, Any]) -> list[StrengthChart]:
    """Return a report's curves, `model.evaluation.robustness.Robustness.as_dict()`.

    All share one scale, logarithmic in the error rate.
    """
    return [_strength_chart(curve, figures["curve_digits"]) for curve in figures["curves"]]


def reliability_chart(figures: dict[str, Any]) -> Chart:
    """Return the reliability diagram: accuracy (y) by confidence (x) of each bin.

    The dots are larger for more readings, the whiskers are the 95 % intervals of the accuracy. A perfectly calibrated
    version is on the "ideal" line. Bins of too few readings are left out.
    """
    ticks = tuple(Tick(100 * share, f"{100 * share:g}") for share in SHARE_TICKS)
    upwards = tuple(Tick(100 - tick.at, tick.label) for tick in ticks[::-1])
    curves = Curve("ideal", IDEAL, (0.0, 0.0)), _reliability_curve(figures["reliability"]["bins"])
    return Chart(curves, ticks, upwards)


def sparkline(history: Sequence[dict], epochs: int) -> str:
    """Return the validation accuracy as the points of an SVG polyline, 100 by 100; empty with fewer than two epochs."""
    chart = accuracy_chart(history, epochs)
    return chart.curves[0].polyline if chart and len(history) > 1 else ""


def _strength_chart(curve: dict[str, Any], digits: int) -> StrengthChart:
    levels = sorted(curve["levels"])
    first, width = levels[0], (levels[-1] - levels[0]) or 1
    top = _nines(STRENGTH_TICKS[-1])

    def height(accuracy: float) -> float:
        return _from_top(min(_nines(accuracy), top), 0, top)

    chart = Chart(
        (_curve("version", zip(curve["levels"], curve["accuracy"], strict=True), first, width, height),),
        tuple(Tick(_across(level, first, width), f"{level:g}".replace("-", "\u2212")) for level in levels),
        tuple(Tick(round(height(tick), 2), f"{100 * tick:g}") for tick in STRENGTH_TICKS[::-1]),
    )
    worst, level = min(zip(curve["accuracy"], curve["levels"], strict=True))
    best = max(curve["accuracy"])
    is_flat = round((best - worst) * digits) < FLAT_BELOW_DIGITS
    return StrengthChart(curve["name"], curve["unit"], chart, level, worst, best, is_flat)


def _reliability_curve(bins: list[dict[str, Any]]) -> Curve:
    points, radii, whiskers = [], [], []
    for one in bins:
        low, high = wilson_interval(one["accuracy"], one["count"])
        if high - low <= WIDEST_INTERVAL:
            x = round(100 * one["confidence"], 2)
            points.append((x, round(100 - 100 * one["accuracy"], 2)))
            radii.append(round(1.5 + 1.5 * math.log10(one["count"]), 1))
            whiskers.append((x, round(100 - 100 * high, 2), round(100 - 100 * low, 2)))
    return Curve("version", tuple(points), tuple(radii), tuple(whiskers))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _nines(accuracy: float) -> float:
    """Return the number of nines: 1 for 0.9, 2 for 0.99, at most 4."""
    return -math.log10(max(1 - accuracy, 1e-4))


def _from_top(value: float, lowest: float, highest: float) -> float:
    return 100 * (highest - value) / (highest - lowest)


def _across(value: float, first: float, width: float) -> float:
    return round(100 * (value - first) / width, 2)


def _curve(name: str, points: Iterable[tuple[float, float]], first: float, width: float, height: Height) -> Curve:
    return Curve(name, tuple((_across(x, first, width), round(height(y), 2)) for x, y in points))


def _round_values(lowest: float, highest: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, from the last value not above `lowest` to the first above `highest`."""
    decades = range(math.floor(math.log10(lowest)) - 1, math.ceil(math.log10(highest)) + 2)
    values = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    first = max(value for value in values if value <= lowest)
    last = min(value for value in values if value > max(highest, first))
    return [value for value in values if first <= value <= last]


def _epoch_ticks(epochs: int) -> tuple[Tick, ...]:
    """Return ticks at round epochs from 0, and at the last one."""
    steps = (digit * 10**decade for decade in range(9) for digit in (1, 2, 5))
    step = next(step for step in steps if step * MOST_EPOCH_TICKS >= epochs)
    ticks = [epoch for epoch in range(0, epochs, step) if epochs - epoch >= step / 2]
    return tuple(Tick(_across(epoch, 0, epochs), str(epoch)) for epoch in [*ticks, epochs])


def _apart(ticks: Iterable[Tick]) -> tuple[Tick, ...]:
    """Return the ticks, from the top, without those too close to the one above."""
    kept: list[Tick] = []
    for tick in sorted(ticks, key=lambda tick: tick.at):
        if not kept or tick.at - kept[-1].at >= LEAST_TICK_DISTANCE:
            kept.append(Tick(round(tick.at, 2), tick.label))
    return tuple(kept)
