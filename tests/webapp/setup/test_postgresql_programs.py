"""The commands that are printed for PostgreSQL do on a real one what they say, and show no password."""

import subprocess

import pytest

from tests.conftest import ON_POSTGRESQL, TOKEN
from tests.support.servers import found_or_skip
from tests.support.versions import add_version, promotions, turned
from webapp.cli import main
from webapp.settings import Settings
from webapp.setup.postgresql_programs import backup_commands, restore_commands

pytestmark = ON_POSTGRESQL


@pytest.fixture
def printed(settings, monkeypatch, capsys, tmp_path):
    """Runs one of our commands; what it prints, all of which is a shell's."""
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SECRET_KEY", "")

    def run(name):
        assert main([name, str(tmp_path / "a backup")]) == 2
        out, err = capsys.readouterr()
        reason = "nothing was done, since the database is PostgreSQL; the commands above do it"
        assert err == f"inkling: {reason}\n"
        return out

    return run


def shell(commands):
    done = subprocess.run(["sh", "-e"], input=commands, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_commands_for_postgresql_bring_back_what_was_there(settings, database, printed, tmp_path):
    found_or_skip("postgresql-client", "pg_dump", "pg_restore", "psql")
    shell_commands = printed("backup")
    assert shell(shell_commands).endswith("complete\n")
    add_version(database, turned(1))
    database.close()
    restoring = printed("restore")
    keeping, _, dropping = restoring.partition("# Once all is well:\n")
    shell(keeping)
    assert add_version(database, turned(2)) == 2  # the number that the version has which was added after the backup
    assert promotions(database) == [1]
    kept = "SELECT count(*) FROM before_restore.version"
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql(kept).scalar() == 2
    database.close()
    shell(dropping)
    (tmp_path / "a backup").unlink()
    shell(printed("backup"))  # the next one is as whole
    shell(keeping)


@pytest.mark.parametrize("commands", [backup_commands, restore_commands])
def test_commands_show_no_password(settings, tmp_path, commands):
    url = "postgresql://me:hunter2@db.internal:6432/inkling?sslmode=require&password=hunter2&sslpassword=hunter2"
    environ = {"DATA_DIR": str(settings.data_dir), "DATABASE_URL": url, "SECRET_KEY": TOKEN * 3}
    printed = "\n".join(commands(Settings.read(environ), tmp_path / "backup"))
    assert "postgresql://me@db.internal:6432/inkling?sslmode=require" in printed
    assert "hunter2" not in printed and TOKEN not in printed and "SECRET_KEY is a setting here" in printed
