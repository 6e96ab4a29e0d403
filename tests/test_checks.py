"""docs/checks.md names tests that are there."""

import re

from webapp.settings import ROOT

ROWS = [line for line in (ROOT / "docs/checks.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]


def named(row: str) -> list[tuple[str, str]]:
    """The files and functions that a row names."""
    tests = row.rstrip(" |").rpartition(" | ")[2]
    found = [re.findall(r"`([^`]+)`", part) for part in tests.split("; ")]
    return [(file, name) for file, *names in found for name in names]


def test_every_row_names_tests_and_every_one_of_them_is_there():
    assert [int(row.split()[1]) for row in ROWS] == list(range(1, len(ROWS) + 1)) and len(ROWS) >= 35
    for row in ROWS:
        assert named(row), row
        for file, name in named(row):
            path = ROOT / "tests" / file
            assert path.exists() and f"def test_{name}(" in path.read_text(), f"{file}: {name}"


def test_every_file_named_beside_the_table_is_there():
    files = re.findall(r"`(\w+/test_\w+\.py)`", (ROOT / "docs/checks.md").read_text())
    assert files and all((ROOT / "tests" / file).exists() for file in files)
