"""The figures of `make bench`, in small: they are taken, and those that hold on any machine hold."""

import itertools
import os
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import __main__ as bench
from benchmarks import gallery, memory, page, serving, start, training
from benchmarks.figures import Figure, table
from model import mnist
from model.material import REDRAWN

pytestmark = pytest.mark.timeout(600)

needs = {name: pytest.mark.skipif(not (shutil.which(name) or os.environ.get("CI")), reason=f"{name} is not installed")
         for name in ("wrk", "chromedriver")}  # fmt: skip


@pytest.fixture(autouse=True)
def set_up_before(prepared, tmp_path, monkeypatch):
    numbers = itertools.count()

    @contextmanager
    def installation():
        yield Path(shutil.copytree(prepared, tmp_path / f"installation {next(numbers)}"))

    for part in (gallery, memory, page, serving, start):
        monkeypatch.setattr(part, "installation", installation)


def by_name(figures):
    return {figure.what: figure for figure in figures}


def test_a_figure_says_whether_its_goal_is_reached():
    limit, share = Figure("a", "ms", 51, 50), Figure("b", "/s", 61, 100, "empty route", 0.6, more=True)
    assert (limit.ratio, limit.met) == (1.02, False) and Figure("a", "ms", 50, 50).met
    assert share.met and not Figure("b", "/s", 59, 100, "empty route", 0.6, more=True).met
    assert Figure("c", "ms", 7).met and Figure("c", "ms", 7).ratio is None
    lines = table([limit, share, Figure("c", "ms", 1234.5)]).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells == ["a", "51.0 ms", "50.0 ms", "1.02", "at most 1", "missed"]
    assert "| 100 /s (empty route)" in lines[3] and lines[3].endswith("| 0.61  | at least 0.6 | ok     |")
    assert "1,234 ms" in lines[4] and "limit" not in lines[4]
    assert len({len(line) for line in lines}) == 1


def test_the_table_has_the_parts_asked_for(monkeypatch, capsys):
    for part in list(bench.PARTS):
        monkeypatch.setitem(bench.PARTS, part, lambda part=part: [Figure(f"what {part} takes", "ms", 5, 50)])
    assert bench.main([]) == 0
    printed = capsys.readouterr()
    assert all(f"what {part} takes" in printed.out and f"measuring: {part}" in printed.err for part in bench.PARTS)
    assert f"{os.cpu_count()} cores" in printed.out
    assert bench.main(["gallery"]) == 0
    assert "what memory takes" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["nothing"])


def test_what_fails_is_one_line(monkeypatch, capsys):
    def fail():
        raise bench.Failed("the server did not start")

    monkeypatch.setitem(bench.PARTS, "start", fail)
    assert bench.main(["start"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "benchmarks: start: the server did not start"


@needs["wrk"]
def test_a_reading_is_measured_beside_an_empty_route(monkeypatch):
    monkeypatch.setattr(serving, "BATCH", 16)
    load, asked = serving.load, {}

    def watched(way, seconds):
        found = load(way, seconds)
        asked.setdefault(way.url.rpartition("/")[2], found)
        return found

    monkeypatch.setattr(serving, "load", watched)
    found = by_name(serving.figures(rounds=1, seconds=1))
    ours, empty = asked["predict"], asked["empty"]
    assert (found["/predict"].ours, found["/predict"].beside) == (ours.per_second, empty.per_second)
    assert ours.per_second > 20 and 0 < ours.p50_ms <= ours.p99_ms
    assert len(found) == 4 and all(figure.ours > 0 for figure in found.values())


@needs["wrk"]
def test_a_web_worker_stays_small(monkeypatch):
    monkeypatch.setattr(memory, "SECONDS", 1)
    weight, growth, second = memory.figures(readings=300)
    assert 20 < weight.ours < 300
    assert growth.ours < 10
    assert 0 < second.ours < weight.ours


def test_a_worker_is_there_soon():
    page_, reading, rested, whole = start.figures(rounds=1, rest_seconds=0.5)
    assert 0 < page_.ours < 60_000 and 0 < reading.ours < 60_000 and 0 < rested.ours < 10_000
    assert 100 < whole.ours < 100_000


def test_pages_of_the_gallery_are_measured():
    one, three, ratio = gallery.figures(versions=(1, 3), rounds=1)
    assert 0 < one.ours < 2_000 and 0 < three.ours < 2_000
    assert ratio.ratio == pytest.approx(three.ours / one.ours)


@needs["chromedriver"]
def test_the_page_is_measured():
    answer, first, second = page.figures(strokes=3)
    assert 1 < answer.ours < 2_000
    assert 10 < first.ours < 60
    assert second.ratio == 1


def test_an_epoch_is_measured_beside_its_matrix_products(monkeypatch):
    few = mnist.load().subset(300)
    monkeypatch.setattr(mnist, "load", lambda: few)
    # a clock on which everything takes a second: what a busy machine takes for so few digits says nothing
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    *_, whole = found = training.figures(rounds=1)
    assert "standard" in whole.what and "float32" in whole.what and len(found) <= 2
    assert all((epoch.ours, epoch.beside) == (1 + 1 / REDRAWN, 1) for epoch in found)


class Products(TorchDispatchMode):
    """Counts matrix products by their shapes, those of the backward pass included."""

    def __init__(self):
        super().__init__()
        self.shapes = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            a, b = args[-2:]
            self.shapes[(*a.shape, b.shape[1])] += 1
        return func(*args, **(kwargs or {}))


def test_the_matrix_products_beside_an_epoch_are_those_of_its_network():
    measured = training.Epochs(mnist.load().subset(300), torch.float32, rounds=1)
    products = measured._products()
    with Products() as beside:
        products()
    with Products() as whole:
        measured.loop.epoch(1, lambda: False, lambda epochs, loss: None)
    assert sum(beside.shapes.values()) == 11 and beside.shapes == whole.shapes
