"""Commands by hand, as deploy/README.md installs them: with the settings of the units, and without secrets in `ps`."""

import psycopg

from tests.conftest import install, own_database
from tests.support.units import Units
from webapp.setup.backup_file import BackupFile

SECRET = "hunter2"


def by_hand(folder, environment, *arguments):
    """Runs `inkling` of deploy/ as it is installed; the result, and every command line that was seen."""
    units = Units(folder)
    units.unpack("inkling-1")
    units.install("inkling-1")
    units.env_file.write_text(environment)
    units.add_program("runuser", f'echo "$@" >>{folder}/seen\nshift 3; exec "$@"')
    done = units.shell(f"inkling {' '.join(map(str, arguments))}")
    return done, (folder / "seen").read_text()


def test_commands_by_hand_have_the_settings(prepared, tmp_path):
    install(prepared, tmp_path / "data")
    environment = f"DATA_DIR='{tmp_path}/data'\nSECRET_KEY='a $secret & key of many characters'\n"
    done, seen = by_hand(tmp_path, environment, "backup", tmp_path / "backup.zip")
    assert (done.returncode, done.stderr) == (0, "")
    with BackupFile.open(tmp_path / "backup.zip") as backup:
        assert backup.secret_key == "a $secret & key of many characters"
    assert seen.startswith("-u inkling -- ") and "secret" not in seen


def test_copy_by_hand_shows_no_password(prepared, tmp_path, postgresql):
    install(prepared, tmp_path / "data")
    with own_database(postgresql) as url:
        address = postgresql.require_password(url, SECRET)
        settings = f"DATA_DIR={tmp_path}/data\nDATABASE_URL='{address}?connect_timeout=5&sslmode=prefer'\n"
        done, seen = by_hand(tmp_path, f"{settings}PGPASSWORD={SECRET}\n", "copy")
        assert (done.returncode, done.stderr) == (0, "")
        assert "All is copied" in done.stdout and SECRET not in done.stdout + seen
        assert f"inkling.db* and secret_key in {tmp_path}/data still hold every drawing" in done.stdout
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT count(*) FROM installation").fetchone() == (1,)
