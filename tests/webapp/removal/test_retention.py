"""What the retention removes and keeps, by the worker once a day and by hand."""

import logging
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select, update

from model.presets import Config
from tests.support.corrections import add_correction, digits
from tests.support.versions import add_version, promote, turned
from webapp import cli
from webapp.removal import retention
from webapp.removal.retention import DAY_SECONDS, find_old, remove_old
from webapp.setup.purge import PurgeRefused, purge
from webapp.storage.schema import Correction, Import, ImportFile, Promotion, Removal, Run, RunCorrection, Version
from webapp.training import runs
from webapp.worker.executor import Executor

DAYS = 30
OLD, NEW = 31 * DAY_SECONDS, 29 * DAY_SECONDS


def aged(database, table, seconds, *columns, **which):
    """Makes the rows of a table as old as so many seconds."""
    with database.writing() as session:
        ages = dict.fromkeys(columns, time.time() - seconds)
        session.execute(update(table).filter_by(**which).values(**ages))


def corrections(settings, database, count):
    return [add_correction(settings, database, image, digit) for image, digit in digits(count)]


def audit(database):
    with database.reading() as session:
        columns = Removal.by, Removal.kind, Removal.number, Removal.counts
        return [tuple(row) for row in session.execute(select(*columns))]


def left(database, table):
    with database.reading() as session:
        return session.scalars(select(table.id).order_by(table.id)).all()


@pytest.fixture
def filled(settings, database):
    """An installation with something old and something new of each kind."""
    old, new, used = corrections(settings, database, 3)
    versions = [add_version(database, turned(by)) for by in range(1, 6)]  # v2 to v6
    for version in versions[:3]:
        promote(database, version)  # v4 is in service and its own anchor, v3 can be rolled back to
    made = runs.start(database, Config("basic", 1), "test", False)
    with database.writing() as session:
        session.get(Run, made.id).state, session.get(Run, made.id).version_id = "finished", 5
    waits = runs.start(database, Config("basic", 1), "test", False)  # and uses an old correction
    with database.writing() as session:
        session.add(RunCorrection(run_id=waits.id, correction_id=used))
        for state in ("finished", "running"):
            row = Import(requested_by="test", state=state, name="x", sha256=state, digits=1)
            session.add(row)
            session.flush()
            session.add(ImportFile(import_id=row.id, data=b""))
    aged(database, Correction, OLD, "created_at")
    aged(database, Correction, NEW, "created_at", id=new)
    aged(database, Version, OLD, "created_at")
    aged(database, Version, NEW, "created_at", id=6)
    aged(database, Promotion, OLD, "at")
    aged(database, Run, OLD, "created_at", "ended_at")
    aged(database, Import, OLD, "updated_at")
    return old


@pytest.mark.both_databases
def test_retention_removes_what_is_old_and_keeps_what_is_new_needed_or_under_way(filled, database):
    found = find_old(database, DAYS)
    assert (found.corrections, found.versions, found.trainings, found.imports) == ([filled], [2, 5], [1], [1])
    counts = {"corrections": 1, "versions": 2, "trainings": 1, "imports": 1}
    assert remove_old(database, DAYS, "test") == counts == found.counts
    assert left(database, Correction) == [2, 3] and left(database, Import) == [2]
    with database.reading() as session:
        gone = [
            session.scalars(select(table.id).where(table.removed_at.is_not(None))).all() for table in (Version, Run)
        ]
    assert gone == [[2, 5], [1]]
    assert audit(database) == [("test", "old", DAYS, counts)], "one line for all of it"
    assert remove_old(database, DAYS, "test") == {} and len(audit(database)) == 1


def test_version_counts_from_when_it_went_out_of_service(filled, database):
    aged(database, Promotion, NEW, "at", from_id=2)
    assert find_old(database, DAYS).versions == [5]


def test_removal_that_is_killed_has_noted_what_it_has_removed(filled, database, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "remove_run", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_old(database, DAYS, "test")
    assert audit(database) == [("test", "old", DAYS, {"corrections": 1, "versions": 2})]
    monkeypatch.undo()
    assert remove_old(database, DAYS, "test") == {"trainings": 1, "imports": 1}


def test_version_promoted_meanwhile_stays(filled, database, monkeypatch):
    found = find_old(database, DAYS)
    monkeypatch.setattr(retention, "find_old", lambda *_: found)
    promote(database, 2)
    assert remove_old(database, DAYS, "test") == {"corrections": 1, "versions": 1, "trainings": 1, "imports": 1}
    with database.reading() as session:
        assert session.get(Version, 2).removed_at is None


@pytest.mark.both_databases
def test_correction_that_a_training_took_meanwhile_stays(filled, database, monkeypatch):
    found = find_old(database, DAYS)
    monkeypatch.setattr(retention, "find_old", lambda *_: found)
    with database.writing() as session:
        session.get(Correction, filled).state, session.get(Run, 2).corrections = "approved", True
    assert runs.claim(database, 2) == 1
    assert "corrections" not in remove_old(database, DAYS, "test")
    with database.reading() as session:
        assert filled in session.scalars(select(RunCorrection.correction_id).where(RunCorrection.run_id == 2)).all()


# The worker


@pytest.fixture
def executor(settings, database):
    executor = Executor(database, replace(settings, retention_days=DAYS))
    with closing(executor.jobs.huey.storage):
        yield executor


def test_worker_applies_the_retention_when_it_starts_and_once_a_day(filled, executor, database, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    executor.apply_retention()
    said = "removed, since older than 30 days: 1 correction, 2 versions, 1 training, 1 import"
    assert said in caplog.text and audit(database)[0][0] == "RETENTION_DAYS"
    aged(database, Correction, OLD, "created_at", id=2)
    executor.apply_retention()
    assert 2 in left(database, Correction), "not twice a day"
    now = time.monotonic()
    monkeypatch.setattr("webapp.worker.executor.time.monotonic", lambda: now + DAY_SECONDS + 1)
    executor.apply_retention()
    assert 2 not in left(database, Correction)


@pytest.mark.both_databases
def test_worker_whose_clock_is_ahead_removes_nothing_and_says_so_once(filled, executor, database, monkeypatch, caplog):
    now = time.time() + 2 * DAY_SECONDS  # all is older than 30 days by this clock
    monkeypatch.setattr("webapp.removal.retention.time.time", lambda: now)
    executor.apply_retention()
    executor.apply_retention()
    assert filled in left(database, Correction) and audit(database) == []
    (line,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert "is the clock ahead?" in line.message and "python -m webapp purge" in line.message
    assert remove_old(database, DAYS, "by hand")["corrections"] == 2


def test_worker_keeps_everything_by_default(filled, settings, database):
    executor = Executor(database, settings)
    with closing(executor.jobs.huey.storage):
        executor.apply_retention()
    assert filled in left(database, Correction) and audit(database) == []


# By hand


def test_purge_shows_before_it_removes(filled, settings, database):
    lines = []
    by_hand = partial(purge, settings, database, say=lines.append)
    with pytest.raises(PurgeRefused, match="RETENTION_DAYS is 0"):
        by_hand(None, dry_run=False)
    by_hand(DAYS, dry_run=True)
    by_hand(400, dry_run=True)
    assert filled in left(database, Correction) and audit(database) == []
    by_hand(DAYS, dry_run=False)
    assert lines == [
        "Older than 30 days: 1 correction, 2 versions, 1 training, 1 import. Nothing was removed.",
        "Older than 400 days: nothing. Nothing was removed.",
        "Removed, since older than 30 days: 1 correction, 2 versions, 1 training, 1 import.",
    ]
    assert audit(database)[0][0] == "python -m webapp purge"


def test_purge_goes_by_the_setting(filled, settings, database):
    lines = []
    purge(replace(settings, retention_days=DAYS), database, None, False, lines.append)
    assert "older than 30 days: 1 correction" in lines[0]


@pytest.mark.parametrize("days", ["0", "-1", "x", "1.5", "100000", ""])
def test_days_that_are_none_are_refused(days, capsys):
    with pytest.raises(SystemExit):
        cli.main(["purge", "--before", days])
    assert "whole number from 1 to 99999" in capsys.readouterr().err


def test_purge_without_an_installation_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    assert cli.main(["purge", "--before", "30"]) == 2
    assert "there is no installation in" in capsys.readouterr().err
