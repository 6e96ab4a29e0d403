"""Fixtures for everybody: an installation of its own for each test, made once and copied."""

import functools
import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from argon2 import PasswordHasher
from flask import Flask
from jinja2 import BytecodeCache
from sqlalchemy import event, make_url
from werkzeug.routing import Rule
from xdist.scheduler import LoadFileScheduling

from model.data import mnist
from model.inference import classifier
from tests.support import servers
from webapp import auth
from webapp.app import create_app
from webapp.services import services
from webapp.settings import Settings
from webapp.setup.install import set_up
from webapp.storage import health
from webapp.storage.engine import Database
from webapp.storage.secret_key import NotSetUp, with_secret_key

ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
ON_POSTGRESQL_UNDER_STRESS = pytest.mark.parametrize(
    "settings", ["sqlite", pytest.param("postgresql", marks=pytest.mark.stress)], indirect=True
)
ON_POSTGRESQL = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
PASSWORD = "correct horse battery"
LONGEST = [
    "worker",
    "operators_day",
    "admin",
    "overload",
    "draw",
    "gallery",
    "feedback",
    "review",
    "make_run",
    "install",
    "gate",
]
TOKEN = "a-token-for-scripts"
SECRET_KEY = "0123456789abcdef" * 2  # of installations that are not set up


class Templates(BytecodeCache):
    """Compiled templates, which the apps of all tests share."""

    def __init__(self):
        self.kept = {}

    def load_bytecode(self, bucket):
        if bucket.key in self.kept:
            bucket.bytecode_from_string(self.kept[bucket.key])

    def dump_bytecode(self, bucket):
        self.kept[bucket.key] = bucket.bytecode_to_string()


class SharedRule(Rule):
    """A route whose builder, 3/4 of what an app takes to be made, is compiled once for the apps of all tests."""

    builders = {}

    def _compile_builder(self, append_unknown=True):
        key = self.rule, append_unknown
        if key not in self.builders:
            self.builders[key] = super()._compile_builder(append_unknown)
        return self.builders[key]


@pytest.fixture(autouse=True, scope="session")
def made_once():
    """Spares the apps of all tests compiling the same templates and routes, and checking the same weights.

    A database that is asked beside other tests may take longer to answer than a probe waits for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "ANSWER_SECONDS", 30.0)
        patch.setattr(classifier, "_load_checked", functools.lru_cache(4)(classifier._load_checked))
        patch.setattr(Flask, "jinja_options", {"bytecode_cache": Templates()})
        patch.setattr(Flask, "url_rule_class", SharedRule)
        yield


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A DATA_DIR after set-up: schema, shipped version in service, password; the data set where it was fetched to."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(settings_in(folder))
    return folder


def prepare(settings):
    """Sets up an installation whose password is hashed, and so verified, in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        set_up(settings, say=lambda line: None)


def pytest_collection_modifyitems(items):
    """Begins with the files that take longest: one of them last would leave the other processes without work."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives each process whole files, and one of them all browser tests, which share a server and a browser."""

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition("/test_")[0] if "/browser/" in nodeid else super()._split_scope(nodeid)

    return Scheduler(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_generate_tests(metafunc):
    chosen = any("settings" in mark.args for mark in metafunc.definition.iter_markers("parametrize"))
    both = metafunc.definition.get_closest_marker("both_databases")
    if both and "settings" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(request, tmp_path):
    """Those of an installation of its own: on SQLite alone, unless the test is marked `both_databases`."""
    folder = tmp_path / "data"
    if getattr(request, "param", "sqlite") == "sqlite":
        install(request.getfixturevalue("prepared"), folder)
        yield settings_in(folder)
    else:
        server, template = request.getfixturevalue("prepared_postgresql")
        with own_database(server, template) as url:
            yield settings_in(folder, DATABASE_URL=url)


def install(prepared, folder):
    """Makes `folder` the DATA_DIR of an installation like the one prepared; static files are only linked."""
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("static"))
    (folder / "static").symlink_to(prepared / "static")


@pytest.fixture(scope="session")
def postgresql():
    """A server for all tests; each has a database of its own there."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def prepared_postgresql(postgresql, tmp_path_factory):
    """The server, and the name of a database after set-up."""
    url = postgresql.create_database()
    prepare(settings_in(tmp_path_factory.mktemp("prepared"), DATABASE_URL=url))
    return postgresql, make_url(url).database


@contextmanager
def own_database(server, template="template1"):
    """The URL of a copy of `template` that is gone afterwards."""
    url = server.create_database(template)
    yield url
    with server.connect() as connection:
        connection.execute(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")


@pytest.fixture
def database(settings):
    database = unsynced(Database(settings.database_url))
    yield database
    database.close()


def unsynced(database: Database) -> Database:
    """Spares a database waiting for the disk, which only tells when the whole machine fails."""
    if not database.is_postgresql:
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    return database


@pytest.fixture
def app(settings):
    app = create_app(settings)
    unsynced(services(app).database)
    yield app
    services(app).close()


@pytest.fixture
def client(app):
    return app.test_client()


def settings_in(folder, **environ: str) -> Settings:
    settings = Settings.read({"DATA_DIR": str(folder), "MNIST_DIR": str(mnist.default_folder()), **environ})
    settings = replace(settings, admin_password=PASSWORD, admin_token=TOKEN)
    with suppress(NotSetUp):
        settings = with_secret_key(settings)
    return settings
