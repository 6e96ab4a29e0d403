"""Commands by hand, as deploy/README.md has them: with the settings of the units, and no secret on a command line."""

import re
import subprocess
import sys

import psycopg

from tests.conftest import install, own_database
from webapp.settings import ROOT
from webapp.setup.backup_file import BackupFile

SECRET = "hunter2"


def by_hand(tmp_path, environment, *commands):
    """Runs the function of deploy/README.md, and then commands; the result, and every command line that was seen."""
    (function,) = re.findall(r"^inkling\(\) .+$", (ROOT / "deploy" / "README.md").read_text(), re.M)
    (tmp_path / "inkling.env").write_text(environment)
    runuser = tmp_path / "bin" / "runuser"  # by which any user may run this; the real one hands the environment on too
    runuser.parent.mkdir()
    runuser.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/seen\nshift 3\nexec "$@"\n')
    runuser.chmod(0o700)
    lines = function.replace("/etc/inkling/inkling.env", str(tmp_path / "inkling.env")), *commands
    lines = [line.replace(".venv/bin/python", sys.executable) for line in lines]
    path = {"PATH": f"{runuser.parent}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=ROOT, env=path, capture_output=True, text=True)
    return done, (tmp_path / "seen").read_text()


def test_commands_by_hand_have_the_settings(prepared, tmp_path):
    install(prepared, tmp_path / "data")
    environment = f"DATA_DIR='{tmp_path}/data'\nSECRET_KEY='a $secret & key of many characters'\n"
    done, seen = by_hand(tmp_path, environment, f"inkling backup {tmp_path}/backup.zip")
    assert (done.returncode, done.stderr) == (0, "")
    with BackupFile.open(tmp_path / "backup.zip") as backup:
        assert backup.secret_key == "a $secret & key of many characters"
    assert seen.startswith("-u inkling -- ") and "secret" not in seen


def test_copy_by_hand_shows_no_password(prepared, tmp_path, postgresql):
    install(prepared, tmp_path / "data")
    with own_database(postgresql) as url:
        address = postgresql.require_password(url, SECRET)
        settings = f"DATA_DIR={tmp_path}/data\nDATABASE_URL='{address}?connect_timeout=5&sslmode=prefer'\n"
        done, seen = by_hand(tmp_path, f"{settings}PGPASSWORD={SECRET}\n", "inkling copy")
        assert (done.returncode, done.stderr) == (0, "")
        assert "All is copied" in done.stdout and SECRET not in done.stdout + seen
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT count(*) FROM installation").fetchone() == (1,)
