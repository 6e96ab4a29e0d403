"""Every database that a release, or a commit between two, may have left is brought up to date with all its rows.

Two migrations were changed after they had been committed. What databases of that time were migrated by is in
`earlier_migrations/`, named by revision and commit.
"""

import hashlib
import itertools
import json
import shutil
from contextlib import closing
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, select, text

from tests.conftest import PASSWORD, TOKEN, own_database, settings_in
from tests.support.corrections import answer
from tests.webapp.storage.test_database import schema
from webapp.app import create_app
from webapp.auth import HASHER
from webapp.services import services
from webapp.settings import ROOT
from webapp.setup.install import set_up
from webapp.storage.engine import Database
from webapp.storage.schema import Base, Correction, Review, Version

MIGRATIONS = ROOT / "webapp" / "storage" / "migrations"
EARLIER = Path(__file__).parent / "earlier_migrations"

# A migration that has been committed may have been run: put what is to change into a new one.
COMMITTED = {
    "0001_first_schema.py": "b29a56df074cf995e2a20ef4478d6d7dfad8783ea7ec651d789f6e0902387c9a",
    "0002_strength.py": "f3591d3cb6230d1993c945531358ef1958c067d1e83d65afad83c9241520d2f9",
    "0003_corrections.py": "b4c5e3fe648b6ef907ccb1a2a9ca52780da0788183bf7665192ad86b0b4d708d",
    "0004_many_machines.py": "a3a91c4e89767160dfa5946ee955f9fd426f6231e1e48155aa9ea2d17cde95b1",
    "0005_repair_corrections.py": "d15edd0b00910033aaf4b87913f8ea7e2bb27eebad02c4ccade40ac163923106",
    "0006_imports.py": "5e7920181789b129cb35e208a9ced9e88c29da5c9d618759616e6c2f4c493a7e",
    "0007_computations.py": "719c9fc0ce949f7f3692b84df95e3a8cf8a98f3ed336bd09933d71bba8ac3154",
    "0008_browsers.py": "fe424128becfcd3697465d70b40e93514c3b11202cc55da67f50fefd3a95d9fe",
    "0009_validation_accuracy.py": "cc097910a0ab882546e4e87c3fa3d9fb1497351a0df6a2abb231e337022f008f",
    "0010_training_settings.py": "15579cc35aed80d5433d082412c929877f21b7933bcf747baf9710613bafefa5",
    "0011_hands.py": "df613cf6073b4c0ffb0b0793f3eb6e9883f7833186287e42dafbb57888330895",
    "0012_administrators.py": "290cef35890ac0de959aea2f06ad23cad752a5fca9ded0cafa4ab713aed82cc9",
    "0013_request_id.py": "f3dcecefd4d7b7d1c3c96c784a5b2ea902734b893af14671cfa930fd21417b15",
    "0014_webhooks.py": "1bcc38218df864d4e725a929f427f5e279239eba25d5de247132cefffdfe1edc",
    "0015_removals.py": "32b39bef4d8cbfa2157f645de9695ef356e28295445bdbe62ab7ade8b748af60",
}


def test_migration_committed_is_never_changed():
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (MIGRATIONS / "versions").glob("0*.py")
    }
    assert found | COMMITTED == found, "it may have been run: add a new one instead"
    assert set(found) == set(COMMITTED), "add the SHA-256 of the new one here"


def forms(revision):
    """The files by which a database may have come to a revision: today's first."""
    return list((MIGRATIONS / "versions").glob(f"{revision}_*.py")) + sorted(EARLIER.glob(f"{revision}_*.py"))


# Every way to each revision, as the files of the migrations that were run; from 0005 on all are alike.
WAYS = [
    pytest.param(
        way, marks=[] if length in (1, 4) and EARLIER not in {path.parent for path in way} else pytest.mark.stress
    )
    for length in range(1, 5)
    for way in itertools.product(*(forms(f"{revision:04}") for revision in range(1, length + 1)))
]


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request, tmp_path):
    """Those of an installation whose database is empty."""
    folder = tmp_path / "data"
    if request.param == "sqlite":
        yield settings_in(folder)
    else:
        with own_database(request.getfixturevalue("postgresql")) as url:
            yield settings_in(folder, DATABASE_URL=url)


@pytest.fixture
def database(settings):
    with closing(Database(settings.database_url)) as database:
        for file in database.files[:1]:
            file.touch()
        yield database


def migrate(database, way, folder):
    """Runs the migrations in these files."""
    (folder / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "env.py", folder)
    for path in way:
        shutil.copy(path, folder / "versions")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(folder))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


RUN = {"kind": "retrain", "preset": "seed", "epochs": 1, "seed": 0, "requested_by": "a test", "created_at": 5.0}
RUN |= {"attempt": 1, "cancel_requested": False, "progress": {"epoch": 1}, "history": [{"epoch": 1}]}
CORRECTION = {"created_at": 6.0, "meant": 7, "label": 7, "digit_image": bytes(784), "picture": b"\0\xff"}
CORRECTION |= {"answered": answer(1), "version_id": 7, "held_out": False}
REVIEW = {"batch": "b", "by": "a test", "label": 7, "state_before": "received", "label_before": 7}
VERSION = {"source": "run", "run_id": 1, "preset": "seed", "weights": b"\0\xff", "card": {"epochs": 2}}
VERSION |= {"created_at": 1.5, "validation_accuracy": 0.97}
# Of every table some rows; those of tables that a revision does not have yet are left out.
ROWS = {
    "version": [VERSION | {"id": 7, "sha256": "abc"}, VERSION | {"id": 8, "sha256": "def"}],
    "promotion": [{"id": number, "version_id": 6 + number, "at": 2.5, "by": "a", "why": "b"} for number in (1, 2)],
    "run": [
        RUN | {"id": 1, "state": "finished", "version_id": 7, "ended_at": 5.5},
        RUN | {"id": 2, "state": "queued", "version_id": None, "ended_at": None},
    ],
    "predictions": [{"version_id": 7, "updated_at": 2.5, "fraction": 1.0, "probabilities": b"\0\1"}],
    "administrator": [{"id": 1, "password_hash": HASHER.hash(PASSWORD)}],
    "admin_session": [{"token_sha256": "abc", "created_at": 1.0, "seen_at": 2.0}],
    "sign_in_attempt": [{"id": 3, "address": "192.0.2.1", "at": 1.0}],
    "strength": [{"version_id": 7, "updated_at": 2.5, "fraction": 1.0, "figures": {"accuracy": 0.9}}],
    "comparison": [{"version_id": 8, "champion_id": 7, "at": 3.0, "passed": True, "evidence": {"summary": "x"}}],
    "checkpoint": [{"run_id": 2, "at": 3.0, "data": b"\0\2"}],
    "correction": [
        CORRECTION | {"id": 3, "source": "s1", "receipt_sha256": "r3", "state": "approved", "twin_of": None},
        CORRECTION | {"id": 4, "source": "s2", "receipt_sha256": "r4", "state": "approved", "twin_of": 3},
        CORRECTION | {"id": 5, "source": "s3", "receipt_sha256": "r5", "state": "refused", "twin_of": None},
        CORRECTION | {"id": 9, "source": "s4", "receipt_sha256": "r9", "state": "received", "twin_of": None},
        # A twin of a later one, as a deleted first one leaves it.
        CORRECTION | {"id": 6, "source": "s5", "receipt_sha256": "r6", "state": "received", "twin_of": 9},
    ],
    "review": [
        REVIEW | {"id": 1, "at": 7.0, "correction_id": 3, "state": "approved"},
        REVIEW | {"id": 2, "at": 8.0, "correction_id": 5, "state": "approved"},
        REVIEW | {"id": 4, "at": 9.0, "correction_id": 5, "state": "refused", "reason": "A blot."},
    ],
    "run_correction": [{"run_id": 1, "correction_id": 3}, {"run_id": 1, "correction_id": 5}],
    "installation": [{"id": 1, "secret_key": "k" * 64}],
}
DECIDED_AT = {3: 7.0, 4: 0.0, 5: 9.0, 6: 0.0, 9: 0.0}


def contents(database):
    """All rows of all tables, by table."""
    tables = MetaData()
    tables.reflect(database.engine)
    with database.reading() as session:
        return {
            table.name: [dict(row) for row in session.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in tables.sorted_tables
            if table.name != "alembic_version"
        }


def fill(database):
    tables = MetaData()
    tables.reflect(database.engine)
    with database.writing() as session:
        for table in tables.sorted_tables:
            for row in ROWS.get(table.name, ()):
                session.execute(table.insert().values(row))
            if database.is_postgresql and "id" in table.c:
                last = f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM \"{table.name}\""
                session.execute(text(last))


def uses_numbers_once(database):
    if database.is_postgresql:
        return True
    with database.reading() as session:
        sql = "SELECT sql FROM sqlite_master WHERE name = 'correction'"
        return "AUTOINCREMENT" in session.execute(text(sql)).scalar_one()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(path.stem for path in way[2:]) or way[-1].stem)
def test_upgrade_of_any_earlier_database_keeps_all_rows(database, settings, way, tmp_path):
    migrate(database, way, tmp_path / "migrations")
    fill(database)
    before = contents(database)
    assert {name for name, rows in before.items() if not rows} == set()
    database.upgrade()

    after = contents(database)
    moved = {row.pop("kind"): row for row in after.pop("computation")}
    assert moved["predictions"] == encoded(before.pop("predictions"), "probabilities", bytes)
    if "strength" in before:
        assert moved["strength"] == encoded(before.pop("strength"), "figures", lambda found: json.dumps(found).encode())
    for name, rows in before.items():
        known = [{column: row[column] for column in rows[0]} for row in after[name]]
        assert known == rows, name
    if "correction" in before:
        assert {row["id"]: row["decided_at"] for row in after["correction"]} == decided_at(before)

    if len(way) == 1:  # which version answered before is told by the order alone
        assert [row["from_id"] for row in after["promotion"]] == [None, 7]

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    with own(tmp_path) as fresh:
        assert schema(database) == schema(fresh)
    assert uses_numbers_once(database)
    if "correction" in before:
        works(settings)


def encoded(rows, column, encode):
    """The only row of a table that is in `computation` now, as it is there."""
    (row,) = rows
    return row | {"result": encode(row.pop(column))}


def decided_at(before):
    """As the migration fills it in, or as it was."""
    return {row["id"]: row.get("decided_at", DECIDED_AT[row["id"]]) for row in before["correction"]}


def own(folder):
    """A database that today's migrations have made from nothing."""
    database = Database(f"sqlite:///{folder}/fresh.db")
    database.upgrade()
    return closing(database)


def works(settings):
    """The review, and numbers of corrections: both failed on databases of earlier forms."""
    set_up(settings, say=lambda line: None)
    app = create_app(settings_in(settings.data_dir, DATABASE_URL=settings.database_url))
    client, token = app.test_client(), {"Authorization": f"Bearer {TOKEN}"}
    with closing(services(app)) as found:
        for state, numbers in (("received", [9]), ("approved", [3]), ("refused", [5])):
            page = client.get(f"/admin/corrections?state={state}", headers=token).get_json()
            assert [row["id"] for row in page["corrections"]] == numbers
        decision = {"ids": [9], "action": "approve"}
        assert client.post("/admin/corrections/decide", json=decision, headers=token).get_json()["decided"] == [9]
        with found.database.reading() as session:
            states = dict(session.execute(select(Correction.id, Correction.state)).all())
            assert states == {3: "approved", 4: "approved", 5: "refused", 6: "approved", 9: "approved"}
        for number in (9, 5):
            found.corrections.delete(number)
        with found.database.reading() as session:
            assert session.scalars(select(Review.id).where(Review.correction_id == 5)).all() == []
            assert session.get(Correction, 6).duplicate_of is None
        new = Correction(**CORRECTION | {"version_id": None}, submitter="s6", receipt_sha256="new")
        with found.database.writing() as session:
            session.add(new)
        assert new.id == 10


def test_validation_accuracy_of_a_compared_version_is_that_of_its_weights_as_stored(database, tmp_path):
    """Card and row held the figure from before rounding, the comparison that from after."""
    migrate(database, sorted((MIGRATIONS / "versions").glob("000[1-8]_*.py")), tmp_path / "migrations")
    card = {"epochs": 2, "validation_accuracy": 0.97}
    criteria = [{"name": name, "challenger": found} for name, found in (("usable", None), ("validation", 0.9696))]
    older = {"name": "Validation digits", "challenger": 0.9}  # an earlier release's, without a name to go by
    tables = MetaData()
    tables.reflect(database.engine)
    with database.writing() as session:
        for number, found in enumerate((criteria, [older], criteria[:1]), 1):
            version = VERSION | {"id": number, "sha256": str(number), "card": card}
            session.execute(tables.tables["version"].insert().values(version))
            comparison = {"version_id": number, "champion_id": 1, "at": 3.0, "passed": True}
            comparison |= {"evidence": {"summary": "x", "criteria": found}}
            session.execute(tables.tables["comparison"].insert().values(comparison))
    database.upgrade()
    with database.reading() as session:
        columns = Version.validation_accuracy, Version.card, Version.weights
        rows = session.execute(select(*columns).order_by(Version.id)).all()
    kept = 0.97, card, VERSION["weights"]
    assert rows == [(0.9696, card | {"validation_accuracy": 0.9696}, VERSION["weights"]), kept, kept]


def test_hands_of_earlier_corrections_are_told_as_before(database, tmp_path):
    """By the browser, or the address where it is not known."""
    migrate(database, [path for path in (MIGRATIONS / "versions").glob("0*.py") if path.name < "0011"], tmp_path / "to")
    tables = MetaData()
    tables.reflect(database.engine)
    with database.writing() as session:
        for number, browser in enumerate(("browser", None), 1):
            row = CORRECTION | {"version_id": None, "state": "received", "source": "address", "browser": browser}
            session.execute(tables.tables["correction"].insert().values(row | {"receipt_sha256": str(number)}))
    database.upgrade()
    with database.reading() as session:
        assert session.scalars(select(Correction.hand).order_by(Correction.id)).all() == ["browser", "address"]
