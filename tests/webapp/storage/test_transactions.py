"""What two do at the same moment, on both databases: while one has not committed yet, the other begins."""

import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import select, text

from model.presets import Config
from tests.conftest import ON_POSTGRESQL_UNDER_STRESS, PASSWORD, TOKEN
from tests.support import processes
from tests.support.corrections import add_correction, digits
from tests.support.requests import assert_error
from tests.support.servers import wait_until
from tests.support.versions import add_version, promote, turned
from webapp.auth import SEEN_STEP_SECONDS, Authenticator
from webapp.corrections.deletion import delete_corrections
from webapp.corrections.review import DecisionRequest, decide
from webapp.removal.audit import AuditEntry
from webapp.removal.versions import StillNeeded, remove_run, remove_version
from webapp.storage.engine import insert_if_absent, lock_table
from webapp.storage.schema import AdminSession, Artifact, Comparison, Correction, Promotion, Run, RunCorrection, Version
from webapp.training import runs
from webapp.training.runs import ChampionChanged, Lease
from webapp.versions.promotions import record_promotion

pytestmark = pytest.mark.both_databases

CONFIG = Config("basic", 1)


class Beside(threading.Thread):
    """Does something in a thread, and keeps what came of it."""

    def __init__(self, do):
        super().__init__(daemon=True)
        self.do, self.result, self.error = do, None, None
        self.start()

    def run(self):
        try:
            self.result = self.do()
        except Exception as error:
            self.error = error

    def outcome(self):
        self.join(30)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.result


@contextmanager
def uncommitted(database):
    """A session of somebody who takes a while to commit; in it, `beside` does something and has to wait for that."""

    def beside(do):
        started.append(Beside(do))
        if database.is_postgresql:  # SQLite does not tell who waits
            wait_until(lambda: waits(database) or not started[0].is_alive())
        return started[0]

    started = []
    with database.writing() as session:
        yield session, beside
    started[0].join(30)


def waits(database):
    """Whether somebody waits for a lock."""
    with database.reading() as session:
        return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def promotion_chain(database):
    with database.reading() as session:
        return session.execute(select(Promotion.from_id, Promotion.version_id).order_by(Promotion.id)).all()


def test_promotions_at_once_follow_one_another(database):
    two, three = add_version(database, turned(1)), add_version(database, turned(2))
    with uncommitted(database) as (session, beside):
        record_promotion(session, two, "one", "why not")
        other = beside(lambda: promote(database, three))
    other.outcome()
    assert promotion_chain(database) == [(None, 1), (1, two), (two, three)]


def test_version_that_is_being_promoted_is_not_removed(database):
    two = add_version(database, turned(1))
    with uncommitted(database) as (session, beside):
        record_promotion(session, two, "one", "why not")
        other = beside(lambda: remove_version(database, two, AuditEntry("another", "version")))
    with pytest.raises(StillNeeded):
        other.outcome()
    assert promotion_chain(database) == [(None, 1), (1, two)]


@pytest.mark.parametrize("what", ["remove_version", "remove_run", "drop", "drop_refused"])
def test_what_removes_rows_that_corrections_take_with_them_waits_for_their_deletion(database, what):
    """Or one of the two finds its rows gone, or both wait for each other."""
    two, run = add_version(database, turned(1)), runs.start(database, CONFIG, "test", False)
    lease = Lease(database, run.id, runs.claim(database, run.id))
    if what == "remove_run":
        lease.end("cancelled")
    do = {
        "remove_version": lambda: remove_version(database, two, AuditEntry("another", "version")),
        "remove_run": lambda: remove_run(database, run.id, AuditEntry("another", "run")),
        "drop": lambda: lease.drop([1]),
        "drop_refused": lease.drop_refused,
    }
    with uncommitted(database) as (session, beside):
        delete_corrections(session, [1])
        other = beside(do[what])
        assert other.is_alive()
    other.outcome()


def test_run_that_begins_during_a_promotion_goes_on_from_the_new_version(database):
    """The one before may be removed as soon as that is committed."""
    two = add_version(database, turned(1))
    run = runs.start(database, Config("fine-tune", 1), "test", False)
    with uncommitted(database) as (session, beside):
        record_promotion(session, two, "one", "why not")
        other = beside(lambda: runs.claim(database, run.id))
    assert other.outcome() == 1
    with database.reading() as session:
        assert session.get(Run, run.id).parent_id == two


def test_comparison_with_a_changing_champion_is_repeated(database):
    run = runs.start(database, CONFIG, "test", False)
    hold = Lease(database, run.id, runs.claim(database, run.id))
    two = add_version(database, turned(1))
    mine = Version(source="run", preset="basic", sha256="0", weights=b"", card={}, validation_accuracy=1)
    with uncommitted(database) as (session, beside):
        record_promotion(session, two, "one", "why not")
        better = Comparison(champion_id=1, passed=True, evidence={"summary": {"code": "better"}})
        other = beside(lambda: hold.finish(mine, b"", better))
    with pytest.raises(ChampionChanged):
        other.outcome()
    assert promotion_chain(database) == [(None, 1), (1, two)]


def test_run_cancelled_while_it_begins_gets_to_know(database):
    run = runs.start(database, CONFIG, "test", False)
    with uncommitted(database) as (session, beside):
        session.get(Run, run.id).state = "running"
        session.flush()
        other = beside(lambda: runs.cancel(database, run.id))
    other.outcome()
    with database.reading() as session:
        row = session.get(Run, run.id)
        assert (row.state, row.cancel_requested) == ("running", True)


def test_run_begun_during_a_deletion_goes_without_the_drawing(settings, database):
    gone, stays = (add_correction(settings, database, *digit) for digit in digits(2))
    with database.writing() as session:
        decide(session, DecisionRequest((gone, stays), "approved", None, None, None), "a test")
    run = runs.start(database, CONFIG, "test", True)
    with uncommitted(database) as (session, beside):
        lock_table(session, Correction)
        session.delete(session.get(Correction, gone))
        session.flush()
        other = beside(lambda: runs.claim(database, run.id))
    assert other.outcome() == 1
    with database.reading() as session:
        assert session.scalars(select(RunCorrection.correction_id)).all() == [stays]


def test_session_signed_out_while_it_is_seen_is_over(database):
    door = Authenticator(database)
    token = door.sign_in(PASSWORD, "here")
    with database.writing() as session:
        session.scalars(select(AdminSession)).one().seen_at -= 2 * SEEN_STEP_SECONDS
    with uncommitted(database) as (session, beside):
        session.delete(session.scalars(select(AdminSession)).one())
        session.flush()
        other = beside(lambda: door.holder(token))
    other.outcome()
    assert not door.holder(token)


def test_row_added_twice_at_once_is_there_once(database):
    add = {"version_id": 1, "kind": "strength"}

    def other_adds():
        with database.writing() as session:
            return insert_if_absent(session, Artifact, **add)

    with uncommitted(database) as (session, beside):
        assert insert_if_absent(session, Artifact, **add)
        other = beside(other_adds)
    assert other.outcome() is False


def test_number_that_is_none_is_stored_as_null(database):
    run = runs.start(database, CONFIG, "test", False)
    hold = Lease(database, run.id, runs.claim(database, run.id))
    history = [{"epoch": 1, "train_loss": float("nan"), "losses": (1.5, float("-inf"))}]
    hold.renew(history=history, progress={"train_loss": float("inf"), "epoch": 1})
    with database.reading() as session:
        row = session.get(Run, run.id)
        assert row.history == [{"epoch": 1, "train_loss": None, "losses": [1.5, None]}]
        assert row.progress == {"train_loss": None, "epoch": 1}


HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def test_number_without_a_row_is_not_found(app, client, database):
    for number in (0, 7, 2**31 - 1, 2**31, 2**63, 10**40):
        version, run = f"/admin/versions/{number}", f"/admin/runs/{number}"
        for path in (version, f"{version}/weights", f"{version}/card", run, f"/admin/corrections/{number}/picture.png"):
            assert_error(client.get(path, headers=HEADERS), 404, "not_found")
        for path in (f"{run}/cancel", f"{version}/promote", f"{version}/roll-back"):
            assert_error(client.post(path, headers=HEADERS), 404, "not_found")
    for number in (2**31, 2**63, 10**30):
        for path in (f"/admin/versions?before={number}", f"/admin/promotions?before={number}"):
            assert client.get(path, headers=HEADERS).status_code == 400
        sent = {"action": "approve", "ids": [number]}
        assert_error(client.post("/admin/corrections/decide", json=sent, headers=HEADERS), 400, "bad_decision")
    assert promotion_chain(database) == [(None, 1)]


def test_text_that_a_database_refuses_is_stopped_before(client, database):
    """PostgreSQL has no NUL in texts, and neither database half a pair of surrogates."""
    two = add_version(database, turned(1))
    for words in ("a\0b", "a\ud800b"):
        answer = client.post(f"/admin/versions/{two}/promote", json={"reason": words}, headers=HEADERS)
        assert answer.status_code == 200
        client.post("/admin/versions/1/roll-back", headers=HEADERS)
        sent = {"action": "refuse", "ids": [1], "reason": words}
        assert client.post("/admin/corrections/decide", json=sent, headers=HEADERS).status_code == 400
        assert client.post("/admin/corrections/undo", json={"batch": words}, headers=HEADERS).status_code == 400
        assert client.get("/receipts/a%00b").status_code == 404
    with database.reading() as session:
        assert "a b" in session.scalars(select(Promotion.why)).all()


@ON_POSTGRESQL_UNDER_STRESS
def test_processes_reading_and_writing_lose_nothing(settings, database):
    run = runs.start(database, CONFIG, "test", False)
    url = settings.database_url
    assert processes.in_processes(processes.count_up, 4, settings.data_dir, DATABASE_URL=url) == [50] * 4
    with database.reading() as session:
        assert session.get(Run, run.id).seed == 200
