"""The page's pure modules, under Node's own test runner."""

import shutil
import subprocess

from webapp.settings import ROOT


def test_modules_under_node_pass():
    node = shutil.which("node")
    assert node, "node is missing: `make test` installs it"
    result = subprocess.run([node, "--test", "tests/js/"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
