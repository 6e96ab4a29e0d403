"""Pupils behind one address draw through nginx: the limits for a school hold none of them back."""

import re
import subprocess
import sys

import pytest

from webapp.settings import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_sixty_pupils_behind_one_address_are_not_held_back():
    command = [sys.executable, "-m", "benchmarks.school", "--pupils", "60", "--seconds", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    statuses = dict(re.findall(r"^  (\w+): (\d+) ", done.stdout, re.M))
    assert int(statuses["200"]) > 300 and not {"429", "broken"} & statuses.keys(), done.stdout
