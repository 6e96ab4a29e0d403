"""The table of `make bench`: its figures, its parts, and what goes wrong."""

import os

import pytest

from benchmarks import __main__ as bench
from benchmarks.figures import Figure, table


def test_figure_says_whether_its_goal_is_reached():
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


def test_bench_table_has_the_parts_asked_for(monkeypatch, capsys):
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


def test_bench_failure_is_one_line(monkeypatch, capsys):
    def fail():
        raise bench.Failed("the server did not start")

    monkeypatch.setitem(bench.PARTS, "start", fail)
    assert bench.main(["start"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "benchmarks: start: the server did not start"


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", bench.PARTS)
def test_bench_part_gives_figures(part, capsys):
    assert bench.main([part]) == 0
    assert f"measuring: {part}" in capsys.readouterr().err
