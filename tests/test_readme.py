"""The README says what is so: settings, commands, figures, files."""

import re
import subprocess
import sys

import pytest

from model import weights
from model.recognizer import SHIPPED
from webapp.settings import ROOT, Settings

README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_table_and_nothing_else():
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \|$", README, re.M)
    said = [(name, default.strip("`"), meaning) for name, default, meaning in rows]
    assert said == [(name, default.strip("`"), meaning) for name, default, meaning in Settings.table()]


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^)(?:PORT=\d+ )?make ([a-z]+)", README, re.M))
    assert {"run", "test", "data", "password"} <= named <= targets


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


def test_every_file_named_exists():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert path.startswith("https://pytorch.org/") or (ROOT / path).is_file(), path
