"""Which versions and runs can be removed, what goes with them, and what others do at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from model.presets import Config
from tests.support.administrator import BROWSER, SCRIPT, csrf_token
from tests.support.requests import ONE, assert_error
from tests.support.versions import add_version, compared, computed, evidence, measured, promote, turned
from webapp.cli import Refused, replay_version
from webapp.removal.audit import AuditEntry
from webapp.removal.versions import StillNeeded, remove_run, remove_version
from webapp.services import services
from webapp.setup.install import set_up
from webapp.storage.schema import (
    Artifact,
    Comparison,
    Promotion,
    Removal,
    Run,
    RunCorrection,
    Version,
    champion_id,
    coded,
)
from webapp.training import runs
from webapp.versions.promotions import record_promotion
from webapp.worker import artifacts

FINE_TUNE = Config("fine-tune", 1)
EPOCH = {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.5, "validation_accuracy": 0.9, "seconds": 1.0}


@pytest.fixture
def database(app):
    return services(app).database


def add(database, count):
    return [add_version(database, turned(by)) for by in range(1, count + 1)]


def entry(kind="version"):
    return AuditEntry("a test", kind)


def ended_run(database, version=None, parent=None, state="finished"):
    run = runs.start(database, Config("basic", 1), "test", False)
    with database.writing() as session:
        row = session.get(Run, run.id)
        row.state, row.version_id, row.parent_id, row.ended_at = state, version, parent, 1.0
        row.history, row.progress = [EPOCH], {"epoch": 1}
    return run.id


def removed(database):
    with database.reading() as session:
        return session.scalars(select(Version.id).where(Version.removed_at.is_not(None)).order_by(Version.id)).all()


def champion(database):
    with database.reading() as session:
        return champion_id(session)


@pytest.mark.both_databases
def test_removal_of_a_version_leaves_its_row_alone(database):
    two, three = add(database, 2)
    computed(database)
    measured(database, two)
    compared(database, two, evidence())
    promote(database, two)
    promote(database, three)
    promote(database, 1)
    assert remove_version(database, two, entry()) and not remove_version(database, two, entry())
    with database.reading() as session:
        row = session.get(Version, two)
        assert (row.weights, row.card) == (b"", {}) and row.sha256
        for table in (Artifact, Comparison):
            assert two not in session.scalars(select(table.version_id)).all()
        assert session.scalars(select(Promotion.version_id).order_by(Promotion.id)).all() == [1, two, three, 1]
        (noted,) = session.scalars(select(Removal))
    assert (noted.by, noted.kind, noted.counts) == ("a test", "version", {"versions": 1})


def hand(session, version):
    record_promotion(session, version, "administrator", "because")


def by_run(session, version):
    record_promotion(session, version, "run 3", "{}")


def back(session, version):
    record_promotion(session, version, "administrator", coded("rolled_back", **{"from": champion_id(session)}))


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ([], [1]),
        ([(2, by_run)], [1, 2]),
        # in service, its anchor, what a roll-back leads to; the shipped one always
        ([(2, hand), (3, by_run), (4, by_run)], [1, 2, 3, 4]),
        ([(2, hand), (3, hand), (4, hand)], [1, 3, 4]),
        # the anchor after a roll-back
        ([(2, hand), (3, by_run), (4, hand), (5, hand)], [1, 4, 5]),
        ([(2, hand), (3, by_run), (5, hand)], [1, 2, 3, 5]),
        ([(2, hand), (3, hand), (2, back)], [1, 2]),
    ],
)
def test_versions_that_the_installation_needs_stay(database, changes, stay):
    add(database, 4)
    with database.writing() as session:
        for version, how in changes:
            how(session, version)
    for version in (1, 2, 3, 4, 5):
        try:
            assert remove_version(database, version, entry()) and version not in stay
        except StillNeeded as error:
            assert version in stay and str(error)
    assert champion(database) == (changes[-1][0] if changes else 1)


def test_champion_stays_after_set_up_and_a_removed_one_is_not_brought_back(app, database):
    (two,) = add(database, 1)
    promote(database, two)
    promote(database, 1)
    promote(database, add_version(database, turned(5)))
    remove_version(database, two, entry())
    set_up(services(app).settings, say=lambda line: None)
    assert removed(database) == [two] and champion(database) == 3


def test_version_is_needed_by_a_run_that_goes_on_from_it(database):
    (two,) = add(database, 1)
    promote(database, two)
    run = runs.start(database, FINE_TUNE, "test", False)
    runs.claim(database, run.id)
    promote(database, 1)
    promote(database, add_version(database, turned(4)))
    with pytest.raises(StillNeeded, match=f"Training {run.id} goes on from it"):
        remove_version(database, two, entry())
    runs.cancel(database, run.id)
    with database.writing() as session:
        session.get(Run, run.id).state = "cancelled"
    assert remove_version(database, two, entry())


@pytest.mark.both_databases
def test_run_goes_after_its_version(database):
    (two,) = add(database, 1)
    run = ended_run(database, two)
    with pytest.raises(StillNeeded, match="It made v2"):
        remove_run(database, run, entry("run"))
    remove_version(database, two, entry())
    assert remove_run(database, run, entry("run")) and not remove_run(database, run, entry("run"))
    with database.reading() as session:
        row = session.get(Run, run)
        assert (row.history, row.progress, row.error) == ([], {}, None)
        assert session.scalars(select(RunCorrection)).all() == []
    assert runs.start(database, Config("basic", 1), "test", False).id == run + 1, "its number is not used again"


def test_run_under_way_stays(database):
    run = runs.start(database, Config("basic", 1), "test", False)
    with pytest.raises(StillNeeded, match="still going"):
        remove_run(database, run.id, entry("run"))


def test_nothing_is_computed_about_a_removed_version(database):
    (two,) = add(database, 1)
    computed(database)
    remove_version(database, two, entry())
    assert artifacts.claim(database) is None


def test_replay_says_what_was_removed(app, database):
    two, three = add(database, 2)
    run = ended_run(database, three, parent=two)
    with database.writing() as session:
        session.get(Version, three).run_id = run
    remove_version(database, two, entry())
    with pytest.raises(Refused, match="v3 cannot be made again: v2, which it was trained from, was removed"):
        replay_version(services(app).settings, three)
    with pytest.raises(Refused, match="v2 was removed"):
        replay_version(services(app).settings, two)


# By HTTP


def test_pages_do_not_show_what_was_removed(admin, client, database):
    (two,) = add(database, 1)
    run = ended_run(database, two)
    ask = admin.get(f"/admin/versions/{two}/removal", headers=BROWSER).text
    assert "Remove version v2?" in ask and "predictions of the test digits" in ask
    form = {"csrf_token": csrf_token(admin)}
    answer = admin.post(f"/admin/versions/{two}/remove", data=form, headers=BROWSER)
    assert answer.status_code == 303 and answer.location == "/admin/versions"
    assert "version-2" not in admin.get("/admin/versions", headers=BROWSER).text
    for path in ("", "/weights", "/card", "/card.md", "/removal"):
        assert "was removed on" in assert_error(admin.get(f"/admin/versions/{two}{path}"), 404, "not_found")
    assert_error(admin.get(f"/gallery/progress?version={two}"), 404, "not_found")
    assert_error(admin.post(f"/admin/versions/{two}/promote", json={"reason": "x"}, headers=SCRIPT), 404, "not_found")
    assert "made v2, which was removed" in admin.get("/admin/runs", headers=BROWSER).text
    page = admin.get(f"/admin/runs/{run}", headers=BROWSER).text
    assert "It made v2, which was removed." in page and f"/admin/runs/{run}/removal" in page
    assert f"Remove training {run}?" in admin.get(f"/admin/runs/{run}/removal", headers=BROWSER).text
    answer = admin.post(f"/admin/runs/{run}/remove", data=form, headers=BROWSER)
    assert answer.status_code == 303 and answer.location == "/admin/runs"
    assert f"run-{run}" not in admin.get("/admin/runs", headers=BROWSER).text
    assert_error(admin.get(f"/admin/runs/{run}"), 404, "not_found")
    listed = client.get("/admin/removals", headers=SCRIPT).get_json()["removals"]
    assert [(one["by"], one["kind"], one["number"], one["counts"]) for one in listed] == [
        ("administrator", "run", run, {"trainings": 1}),
        ("administrator", "version", two, {"versions": 1}),
    ]
    page = admin.get("/admin/removals", headers=BROWSER).text
    assert "version v2" in page and f"training {run}" in page and "1 training" in page


def test_refusal_is_told_before_and_after(admin, client, database):
    page = admin.get("/admin/versions/1/removal", headers=BROWSER).text
    assert "cannot be removed" in page and "It is in service." in page and 'id="remove"' not in page
    answer = admin.post("/admin/versions/1/remove", data={"csrf_token": csrf_token(admin)}, headers=BROWSER)
    assert answer.status_code == 409 and "It is in service." in answer.text
    assert "in service" in assert_error(client.post("/admin/versions/1/remove", headers=SCRIPT), 409, "still_needed")
    run = runs.start(database, Config("basic", 1), "test", False).id
    assert_error(client.post(f"/admin/runs/{run}/remove", headers=SCRIPT), 409, "still_needed")
    found = client.get("/admin/versions/1/removal", headers=SCRIPT).get_json()
    assert found == {"version": "v1", "refused": "It is in service.", "descendants": []}
    for path in ("versions/9", f"versions/{2**31}", "runs/9"):
        assert_error(client.post(f"/admin/{path}/remove", headers=SCRIPT), 404, "not_found")


# At the same moment


def at_once(*ways):
    """What each of these functions returns, all begun at the same moment."""
    barrier = Barrier(len(ways))

    def begin(do):
        barrier.wait()
        return do()

    with ThreadPoolExecutor(len(ways)) as threads:
        return [each.result() for each in [threads.submit(begin, do) for do in ways]]


@pytest.mark.both_databases
def test_promotion_and_removal_at_once_end_in_one_of_the_two(app, database):
    outcomes = set()
    for by in (1, 2, 3, 4, 5, 6):
        version = add_version(database, turned(by))

        def post(what, version=version, **json):
            return lambda: app.test_client().post(f"/admin/versions/{version}/{what}", json=json, headers=SCRIPT)

        put, gone, again = at_once(post("promote", reason="why not"), post("remove"), post("remove"))
        assert put.status_code in (200, 404, 409) and {gone.status_code, again.status_code} <= {200, 404, 409}
        is_champion, is_removed = champion(database) == version, version in removed(database)
        assert is_champion == (put.status_code == 200) and is_champion != is_removed
        outcomes.add(is_champion)
        answer = app.test_client().post("/predict", json=ONE)
        assert answer.status_code == 200
    assert outcomes


@pytest.mark.both_databases
def test_run_and_removal_at_once_end_in_one_of_the_two(database):
    """The run takes the version in service to go on from, while that is replaced, twice, and removed."""
    for by in range(1, 9, 2):
        version = add_version(database, turned(by))
        others = [add_version(database, turned(by + 1)), add_version(database, turned(9))]
        promote(database, version)
        run = runs.start(database, FINE_TUNE, "test", False)

        def replace_and_remove(version=version, others=others):
            for other in others:
                promote(database, other)
            try:
                return remove_version(database, version, entry())
            except StillNeeded:
                return False

        attempt, is_removed = at_once(lambda run=run: runs.claim(database, run.id), replace_and_remove)
        assert attempt == 1
        with database.reading() as session:
            parent = session.get(Run, run.id).parent_id
            assert session.get(Version, parent).removed_at is None
            assert is_removed == (parent != version)
        runs.fail_attempt(database, run.id, 1, {"code": "silent"})
        runs.cancel(database, run.id)


@pytest.mark.both_databases
def test_only_one_of_many_removals_stands_in_the_audit(database):
    (two,) = add(database, 1)
    done = at_once(*[lambda: remove_version(database, two, entry())] * 4)
    assert sorted(done) == [False, False, False, True]
    with database.reading() as session:
        assert len(session.scalars(select(Removal.id)).all()) == 1
