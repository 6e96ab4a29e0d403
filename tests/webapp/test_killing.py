"""Whatever moment a writer is killed at, exactly the old or exactly the new state is left."""

import json
import subprocess
import sys

import pytest

from model.presets import Config
from tests.webapp.versions import add_version, promote, turned
from webapp import runs
from webapp.runs import Hold
from webapp.settings import ROOT


@pytest.mark.parametrize("what", ["finish", "roll_back", "keep", "lose"])
def test_write_killed_anywhere_is_whole_or_absent(settings, database, what):
    runs.start(database, Config("seed", 1), "a test", corrections=False)
    runs.claim(database, 1)
    Hold(database, 1, 1).keep(b"old" * 100_000)
    if what == "roll_back":
        promote(database, add_version(database, turned(1)))
        promote(database, 1)
    done = subprocess.run(
        [sys.executable, "-m", "tests.webapp.killing", what, str(settings.data_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    old, new = found["before"], found["after"][-1]
    assert old != new and old[0] == new[0] == "ok"
    assert len(found["after"]) > 3 and found["after"][0] == old
    assert all(state in (old, new) for state in found["after"]), found
