"""The README says what is so: settings, commands, figures, files."""

import re
import subprocess
import sys

import pytest

from model import weights
from model.recognizer import SHIPPED
from webapp.settings import ROOT, Settings

README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")]


def test_every_setting_is_in_the_table_and_nothing_else():
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \|$", README, re.M)
    said = [(name, default.strip("`"), meaning) for name, default, meaning in rows]
    assert said == [(name, default.strip("`"), meaning) for name, default, meaning in Settings.table()]


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^)(?:PORT=\d+ )?make ([a-z-]+)", README, re.M))
    assert {"run", "test", "data", "password", "bench", "stress", "cluster-test"} <= named <= targets


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python -m (model [a-z]+|webapp [a-z]+)", README))))
def test_every_command_named_explains_itself(command):
    arguments = [sys.executable, "-m", *command.split(), "--help"]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "usage" in result.stdout


def test_figures_of_the_shipped_weights_are_those_of_their_card():
    card = weights.read_card(SHIPPED.read_bytes())
    assert f"| `{card.command}` | {card.test_accuracy:.2%}".replace("%", " %") in README
    assert f"{card.test_accuracy:.2%}".replace("%", " %") in (ROOT / "CHANGELOG.md").read_text()
    assert SHIPPED.stat().st_size <= 8_000_000 and card.test_accuracy >= 0.992


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_leads_to_what_is_there_and_has_no_gaps(page):
    text = page.read_text()
    for path in re.findall(r"\]\(([^)#]+)\)", text):
        assert path.startswith("https://pytorch.org/") or (page.parent / path).exists(), path
    assert not re.findall(r"@[A-Z0-9_]+@|^FIGURES$|TODO", text, re.M)
