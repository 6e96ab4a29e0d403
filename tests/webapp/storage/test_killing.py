"""Whatever moment a writer is killed at, exactly the old or exactly the new state is left."""

import json
import subprocess
import sys

from model.presets import Config
from tests.support.versions import add_version, promote, turned
from webapp.settings import ROOT
from webapp.training import runs
from webapp.training.runs import Lease


def test_write_killed_anywhere_is_whole_or_absent(settings, database):
    runs.start(database, Config("basic", 1), "a test", corrections=False)
    runs.claim(database, 1)
    Lease(database, 1, 1).save_checkpoint(b"old" * 100_000)
    promote(database, add_version(database, turned(1)))
    promote(database, 1)
    command = [sys.executable, "-m", "tests.support.killing", str(settings.data_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["writes"].keys() == {"finish", "roll_back", "keep", "lose"}
    old = found["before"]
    for name, after in found["writes"].items():
        new = after[-1]
        assert old != new and old[0] == new[0] == "ok", name
        assert len(after) > 3 and after[0] == old, name
        assert all(state in (old, new) for state in after), (name, after)
