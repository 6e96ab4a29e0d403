"""The commands of README, CONTRIBUTING and docs/api.md succeed as they stand there; every setting is documented."""

import json
import re
import shlex
import shutil
import subprocess

import pytest

from model.cli import main
from tests.conftest import TOKEN, install
from tests.support.gunicorn import serve
from tests.support.requests import drawn, encoded
from tests.support.versions import add_version, turned
from webapp.cli import main as webapp
from webapp.settings import ROOT

PAGES = "".join((ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md", "docs/api.md"))
BLOCKS = "".join(re.findall(r"^```sh\n(.+?)^```", PAGES, re.M | re.S)).replace("\\\n", " ")
COMMANDS = [re.sub(r"\s+#.*", "", line) for line in BLOCKS.splitlines()]
LONG = ("train", "strength", "replay")


def test_settings_are_documented_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    assert webapp(["settings", "--document"]) in (None, 0)
    assert (ROOT / "docs" / "settings.md").read_text() == capsys.readouterr().out


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)(?:PORT=\d+ )?make ([a-z-]+)", PAGES, re.M))))
def test_make_target_dry_run_succeeds(target):
    assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["short", "long"])
def test_readme_model_commands_succeed(long, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seven.png").write_bytes(encoded(drawn()))
    commands = [shlex.split(line)[3:] for line in COMMANDS if line.startswith("python -m model ")]
    assert len(commands) > 5
    for arguments in commands:
        if (arguments[0] in LONG) == long:
            if arguments[0] == "replay":
                shutil.copy("basic.safetensors", arguments[1])
            assert main(arguments) == 0


def test_readme_requests_succeed(prepared, tmp_path):
    (tmp_path / "seven.png").write_bytes(encoded(drawn()))
    install(prepared, tmp_path / "data")
    requests = [line for line in COMMANDS if line.startswith("curl ")]
    assert len(requests) > 5
    with serve(tmp_path / "data", workers=1, ADMIN_TOKEN=TOKEN) as server:
        add_version(server.database(), turned(1))
        for line in requests:
            line = line.replace(":8000", f":{server.port}")
            done = subprocess.run(line, shell=True, cwd=tmp_path, env={"ADMIN_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"},
                                  capture_output=True, check=True)  # fmt: skip
            assert "error" not in json.loads(done.stdout) or json.loads(done.stdout)["error"] is None, line
