"""Versions of an installation, made again by a command."""

import threading
from dataclasses import replace

import pytest

from model.data import splits
from model.evaluation import robustness, suite
from model.presets import PRESETS, Config
from tests.webapp.training.test_runs import keep_correction
from webapp import cli as command
from webapp.storage.schema import Correction, Version
from webapp.training import runs
from webapp.training.runs import Lease
from webapp.worker.training_run import train_run


@pytest.fixture(autouse=True)
def few(monkeypatch, settings):
    for name, count in {"CURVE_DIGITS": 5, "OTHERS": 20}.items():
        monkeypatch.setattr(robustness, name, count)
    for name, count in {"HANDS_EACH": 1, "CHANGED": 20, "LETTERS_EACH": 1}.items():
        monkeypatch.setattr(suite, name, count)
    some = splits.load(settings.mnist_dir).subset(300)
    monkeypatch.setattr(splits, "load", lambda folder=None: some)
    monkeypatch.setitem(PRESETS, "fine-tune", replace(PRESETS["fine-tune"], batch_size=100))


def trained(settings, database):
    """A version fine-tuned on two corrections; its number."""
    run = runs.start(database, Config("fine-tune", 1), "a test", corrections=True)
    hold = Lease(database, run.id, runs.claim(database, run.id))
    train_run(settings, hold, threading.Event())
    with database.reading() as session:
        return session.get(Version, 2).id


def replayed(settings, monkeypatch, capsys, name):
    monkeypatch.setattr(command.Settings, "read", lambda: settings)
    code = command.main(["replay", name])
    out, err = capsys.readouterr()
    return code, out, err


def test_replay_comes_out_the_same_from_what_is_stored(settings, database, monkeypatch, capsys):
    correction = keep_correction(database)
    keep_correction(database, held_out=True, label=3)
    number = trained(settings, database)
    with database.reading() as session:
        version = session.get(Version, number)
        assert version.card["corrections"]["learnt"] == 1 and version.card["corrections"]["held_out"] == 1
    code, out, err = replayed(settings, monkeypatch, capsys, f"v{number}")
    assert code == 0 and f"v{number} came out the same: SHA-256 {version.sha256}" in out

    with database.writing() as session:
        session.delete(session.get(Correction, correction))
    code, out, err = replayed(settings, monkeypatch, capsys, f"v{number}")
    assert code == 2 and "its 2 corrections are no longer what they were; 1 are there" in err


@pytest.mark.parametrize("name, message", [("v99", "no version v99"), ("99", "no version v99")])
def test_replay_unknown_version_is_refused(settings, monkeypatch, capsys, name, message):
    code, _, err = replayed(settings, monkeypatch, capsys, name)
    assert code == 2 and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["seven", "v-1", "v" + "9" * 30])
def test_replay_name_that_is_none_is_refused(settings, monkeypatch, capsys, name):
    with pytest.raises(SystemExit):
        replayed(settings, monkeypatch, capsys, name)
    assert "no version's name" in capsys.readouterr().err
