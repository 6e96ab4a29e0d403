"""What `python -m webapp settings` tells: values, origins, no secrets, and misspelt variables."""

import pytest

from webapp.cli import main
from webapp.settings import Settings
from webapp.setup import report

SECRET = "hunter2-hunter2-hunter2-hunter2-"


@pytest.fixture
def environ(tmp_path, monkeypatch):
    """Only these variables are set; a test adds others."""
    for variable in Settings.variables():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return monkeypatch


def printed(capsys):
    """The rows of the table: value and origin by variable."""
    assert main(["settings"]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    return {row[0]: tuple(cell.strip() for cell in row[1:] if cell.strip()) for row in rows}


def test_settings_in_force_tell_their_origin(environ, tmp_path, capsys):
    environ.setenv("PORT", "8123")
    environ.setenv("HTTPS", "1")
    rows = printed(capsys)
    assert list(rows) == Settings.variables()
    assert rows["DATA_DIR"] == (str(tmp_path / "data"), "environment")
    assert rows["PORT"] == ("8123", "environment") and rows["HTTPS"] == ("1", "environment")
    assert rows["HOST"] == ("127.0.0.1", "default") and rows["MNIST_DIR"] == (str(tmp_path / "data"), "default")
    assert rows["DATABASE_URL"] == (f"sqlite:///{tmp_path}/data/inkling.db", "default")
    assert rows["ADMIN_PASSWORD"] == ("(none)", "default")
    assert rows["SECRET_KEY"] == ("(none)", "none yet: set-up creates it")
    assert list((tmp_path / "data").iterdir()) == []
    (tmp_path / "data" / "secret_key").write_text(SECRET)
    assert printed(capsys)["SECRET_KEY"] == ("(set, not shown)", f"file {tmp_path}/data/secret_key")


def test_settings_in_force_show_no_secret(environ, tmp_path, capsys):
    for variable in ("ADMIN_PASSWORD", "ADMIN_TOKEN", "SECRET_KEY"):
        environ.setenv(variable, SECRET)
    environ.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@127.0.0.1:1/inkling?sslpassword={SECRET}&sslmode=prefer")
    environ.setenv("REDIS_URL", f"redis://:{SECRET}@queue:6380/3?password={SECRET}")
    environ.setenv("WEBHOOK_URL", f"https://hooks.example/{SECRET}?token={SECRET}")
    rows = printed(capsys)
    assert "hunter2" not in str(rows) and rows["WEBHOOK_URL"] == ("https://hooks.example/...", "environment")
    assert rows["ADMIN_TOKEN"] == rows["SECRET_KEY"] == ("(set, not shown)", "environment")
    shown = "postgresql+psycopg://me:***@127.0.0.1:1/inkling?"
    assert rows["DATABASE_URL"][0].startswith(shown) and "sslmode=prefer" in rows["DATABASE_URL"][0]
    assert rows["REDIS_URL"] == ("redis://:***@queue:6380/3?password=***", "environment")


@pytest.mark.parametrize("url", ["redis://:p@ss:w@rd@queue/0", "redis://me:@queue/0", "unix://me:word@/run/redis.sock"])
def test_settings_in_force_hide_odd_passwords(environ, url, capsys):
    environ.setenv("REDIS_URL", url)
    assert "word" not in (shown := printed(capsys)["REDIS_URL"][0]) and ":***@" in shown


def test_settings_on_a_database_that_is_away_are_told(environ, capsys):
    environ.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/inkling")
    assert printed(capsys)["SECRET_KEY"] == ("(none)", "PostgreSQL, which does not answer")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("DATABASE_URI", "DATABASE_URL"),
        ("ADMIN_PASWORD", "ADMIN_PASSWORD"),
        ("SECRETKEY", "SECRET_KEY"),
        ("MINST_DIR", "MNIST_DIR"),
        ("PATH", None),
        ("HOSTNAME", None),
        ("HTTPS_PROXY", None),
        ("XDG_DATA_DIRS", None),
        ("PORT", None),
    ],
)
def test_settings_misspelt_are_told(variable, meant):
    lines = report.misspelt({variable: "x"})
    assert lines == ([f"{variable} is no setting and has no effect; is {meant} meant?"] if meant else [])
