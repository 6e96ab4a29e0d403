"""Every setting: its default, its bad values, and the secret key that an installation keeps."""

import os
from pathlib import Path

import pytest

from webapp.settings import Settings, SettingsError
from webapp.storage.engine import Database

KEY = "0123456789abcdef" * 2


def read(folder, **environ):
    return Settings.read({"DATA_DIR": str(folder), **environ})


def test_settings_defaults_are_these(tmp_path):
    settings = read(tmp_path)
    assert settings.data_dir == settings.mnist_dir == tmp_path
    assert (settings.host, settings.port, settings.https) == ("127.0.0.1", 8000, False)
    assert 1 <= settings.web_concurrency <= 4
    assert settings.database_url == f"sqlite:///{tmp_path}/inkling.db"
    assert (settings.admin_password, settings.admin_token) == ("", "")


def test_settings_empty_variable_is_as_none(tmp_path):
    empty = dict.fromkeys(Settings.variables(), "") | {"DATA_DIR": str(tmp_path)}
    assert Settings.read(empty) == read(tmp_path)


def test_settings_all_variables_are_taken(tmp_path):
    settings = read(
        tmp_path,
        MNIST_DIR=str(tmp_path / "digits"),
        HOST="0.0.0.0",
        PORT="80",
        WEB_CONCURRENCY="3",
        DATABASE_URL="sqlite:////elsewhere/x.db",
        REDIS_URL="redis://:pass%20word@queue:6380/3",
        ADMIN_PASSWORD="pass word",
        ADMIN_TOKEN="0123456789abcdef",
        SECRET_KEY=KEY,
        HTTPS="1",
    )
    assert (settings.mnist_dir, settings.host, settings.port) == (tmp_path / "digits", "0.0.0.0", 80)
    assert (settings.web_concurrency, settings.database_url) == (3, "sqlite:////elsewhere/x.db")
    assert (settings.admin_password, settings.admin_token) == ("pass word", "0123456789abcdef")
    assert (settings.secret_key, settings.https) == (KEY, True)
    assert settings.redis_url == "redis://:pass%20word@queue:6380/3"
    assert not (tmp_path / "secret_key").exists()


@pytest.mark.parametrize(
    ("host", "bind"),
    [
        ("127.0.0.1", "127.0.0.1:8000"),
        ("localhost", "localhost:8000"),
        ("my_host.example", "my_host.example:8000"),
        ("::1", "[::1]:8000"),
        ("[::1]", "[::1]:8000"),
        ("0:0:0:0:0:0:0:0", "[::]:8000"),
        ("unix:/run/inkling/web.sock", "unix:/run/inkling/web.sock"),
        ("unix:///run/inkling/web.sock", "unix:/run/inkling/web.sock"),
    ],
)
def test_settings_host_is_an_address_a_name_or_a_socket(tmp_path, host, bind):
    settings = read(tmp_path, HOST=host)
    assert settings.bind == bind
    assert settings.socket_path == (Path("/run/inkling/web.sock") if "unix" in host else None)


def test_settings_https_trusts_one_proxy_unless_told_otherwise(tmp_path):
    assert [read(tmp_path, HTTPS=https).trusted_proxies for https in "01"] == [0, 1]
    assert read(tmp_path, HTTPS="1", TRUSTED_PROXIES="0").trusted_proxies == 0
    assert read(tmp_path, TRUSTED_PROXIES="2").trusted_proxies == 2


def test_settings_log_level_is_taken_in_capitals(tmp_path):
    """As the environment may have it already, for another program."""
    assert read(tmp_path, LOG_LEVEL="INFO").log_level == "info"


BAD = {
    "HOST": [
        "bad host", "127.0.0.1:80", "10.0.0.300", "http://127.0.0.1", "*", "[::1", "::1:x", "-x", "a\nb", "unix:",
        "unix:web.sock", "unix:/" + "x" * 107,
    ],
    "BASE_PATH": ["inkling", "//evil.example", "/a//b", "/a/../b", "/a b", "/\u00fc", "/a?b", "/" + "x" * 200],
    "TRUSTED_PROXIES": ["-1", "17", "127.0.0.1"],
    "CORRECTIONS": ["yes", "2"],
    "READ_ONLY": ["-1", "on"],
    "WEBHOOK_URL": ["hooks.example", "ftp://hooks.example/", "file:///etc/passwd", "http://", "http://h:port/", "http://h/\u00fc"],
    "WEBHOOK_SECRET": ["short"],
    "LOG_LEVEL": ["trace"],
    "PORT": ["0", "65536", "-1", "80.0", " 80", "http", "0x50", "\u0668\u0660", "9" * 5000],  # 80 in Arabic digits
    "WEB_CONCURRENCY": ["0", "two", "257"],
    "HTTPS": ["2", "true", "yes"],
    "ADMIN_TOKEN": [
        "short", "of-15-character", "a token with many spaces", "a-token-from-a-file-with-its-line-end\n",
        "sch\u00f6ne-gr\u00fc\u00dfe-aus-k\u00f6ln", "'0123456789abcdef'", '"0123456789abcdef"',
    ],
    "SECRET_KEY": ["short", "of-31-characters-of-any-kind--"],
    "MNIST_DIR": ["/dev/null", "/dev/null/digits"],
    "DATABASE_URL": [
        "inkling.db", "/var/lib/inkling.db", "nosuchdatabase://localhost/inkling", "sqlite+nosuchdriver:///inkling.db",
        "postgresql://localhost:port/inkling", "mssql+pyodbc://localhost/inkling", "mysql://localhost/inkling",
        "postgresql+psycopg2://localhost/inkling", "sqlite://",
    ],
    "REDIS_URL": [
        "localhost:6379", "http://localhost:6379/0", "redis://localhost:port/0",
        "redis://localhost/0?socket_timeout=long",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("variable", "value"), [(variable, value) for variable in BAD for value in BAD[variable]])
def test_settings_bad_value_is_refused_by_name(tmp_path, variable, value):
    with pytest.raises(SettingsError, match=f"^{variable} "):
        read(tmp_path, **{variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "nosuchdatabase://me:hunter2@localhost/inkling"),
        ("DATABASE_URL", "postgresql://me:hunter2@localhost:port/inkling"),
        ("DATABASE_URL", "postgresql://me:p@ss:hunter2@localhost/inkling"),
        ("DATABASE_URL", "postgresql://me:p@hunter2:x/@localhost/inkling"),
        ("DATABASE_URL", "me:hunter2@localhost/inkling"),
        ("REDIS_URL", "http://:hunter2@localhost/0"),
        ("REDIS_URL", "redis://:hunter2@localhost:port/0"),
        ("WEBHOOK_URL", "http://hooks.example:port/hunter2"),
        ("WEBHOOK_URL", "hooks.example/hunter2"),
    ],
)
def test_settings_refusal_hides_a_password(tmp_path, variable, value):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, **{variable: value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_settings_postgresql_names_its_driver(tmp_path, scheme):
    settings = read(tmp_path, DATABASE_URL=f"{scheme}://me:p%40ss%2Fword@db:5433/inkling?sslmode=require")
    assert settings.database_url == "postgresql+psycopg://me:p%40ss%2Fword@db:5433/inkling?sslmode=require"
    arguments = Database(settings.database_url).engine.url.translate_connect_args()
    assert arguments == {"host": "db", "port": 5433, "database": "inkling", "username": "me", "password": "p@ss/word"}


@pytest.mark.parametrize("url", ["", "postgresql://localhost/inkling"])
def test_settings_make_no_secret_key(tmp_path, url):
    """A command as root, or in the wrong folder, left one that the servers could not read."""
    assert read(tmp_path, DATABASE_URL=url).secret_key == "" and list(tmp_path.iterdir()) == []
    assert read(tmp_path, DATABASE_URL=url, SECRET_KEY=KEY).secret_key == KEY


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"cut-short", None])
def test_secret_key_damaged_is_said(tmp_path, content):
    if content is None:
        (tmp_path / "secret_key").symlink_to(tmp_path / "not-mounted" / "secret_key")
    else:
        (tmp_path / "secret_key").write_bytes(content)
    with pytest.raises(SettingsError, match="SECRET_KEY .*secret_key"):
        read(tmp_path)


def test_settings_relative_data_dir_is_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = read("data")
    assert settings.data_dir == Path(tmp_path, "data")
    assert settings.database_url == f"sqlite:///{tmp_path}/data/inkling.db"


@pytest.mark.parametrize("name", ["with space", "what?now=1", "100%25", "a#b", "\u00fcber"])
def test_settings_any_folder_name_is_taken(tmp_path, name):
    database = Database(read(tmp_path / name).database_url)
    database.upgrade()
    database.close()
    assert (tmp_path / name / "inkling.db").stat().st_size > 0


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize("below", ["", "further/down"])
def test_settings_data_dir_that_is_a_file_is_refused(tmp_path, below, key):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="^DATA_DIR "):
        read(tmp_path / "file" / below, SECRET_KEY=key)


def test_settings_data_dir_not_writable_is_refused(tmp_path, monkeypatch):
    # The superuser may write anywhere, so the question is answered for it.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(SettingsError, match="^DATA_DIR "):
        read(tmp_path, SECRET_KEY=KEY)
