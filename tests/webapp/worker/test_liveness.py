"""A child process that works beats, and one that hangs is killed by the worker, whatever it works at."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model.presets import Config
from tests.support.corrections import add_correction, digits
from tests.support.servers import wait_until
from tests.support.versions import computed
from webapp.services import Services
from webapp.settings import ROOT
from webapp.storage.schema import Artifact, Correction, Run, coded
from webapp.training import runs
from webapp.worker import liveness
from webapp.worker.artifacts import claim
from webapp.worker.executor import Executor


def started(script):
    return subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 3", 3),
        ("for i in 0 1 2 3 4 5 6 7 8 9; do echo; sleep 0.2; done", 0),
        ("kill -9 $$", -9),
        pytest.param("sleep 60", None, marks=pytest.mark.stress),
        ("echo; sleep 60", None),
        pytest.param("exec >&-; sleep 60", None, marks=pytest.mark.stress),
    ],
    ids=["ends", "beats for longer", "is killed", "hangs at once", "hangs later", "hangs at its end"],
)
def test_child_is_waited_for_as_long_as_it_beats(monkeypatch, script, code):
    monkeypatch.setattr(liveness, "SILENT_SECONDS", 1.5)
    child = started(script)
    try:
        assert liveness.wait_for(child) == code
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


@pytest.fixture
def services(settings):
    services = Services.open(settings)
    yield services
    services.close()


@pytest.fixture
def environ(settings):
    return os.environ | {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.mnist_dir)}


LONG = [pytest.param(what, marks=pytest.mark.stress) for what in ("suspicion", "run")]


@pytest.mark.stress
@pytest.mark.parametrize("what", ["predictions", "suspicion", "run"])
def test_child_at_work_beats_and_prints_nothing_else(services, settings, environ, what):
    if what == "suspicion":
        add_correction(settings, services.database, *digits(1)[0])
        numbers = []
    elif what == "predictions":
        assert claim(services.database) == ("predictions", 1)
        numbers = ["1"]
    else:
        number = runs.start(services.database, Config("basic", 1), "a test", corrections=False).id
        numbers = [str(number), str(runs.claim(services.database, number))]
    command = [sys.executable, "-m", "webapp.worker.child", what, *numbers]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        said = child.stdout.read()
        assert child.wait() == 0
    assert said and set(said) == set(b".")


def children():
    threads = Path("/proc/self/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


@pytest.mark.parametrize("what", ["predictions", *LONG])
def test_child_hanging_is_killed_and_logged(services, settings, environ, monkeypatch, caplog, what):
    executor, database = Executor(services.database, settings), services.database
    for name in ("DATA_DIR", "MNIST_DIR"):
        monkeypatch.setenv(name, environ[name])
    monkeypatch.setattr(liveness, "SILENT_SECONDS", 2.0)
    number = services.jobs.start(Config("basic", 1000), "a test").id
    waiting = add_correction(settings, database, *digits(1)[0])
    computed(database, but="predictions")
    before = set(children())
    do = {
        "suspicion": executor.check_labels,
        "predictions": executor.compute_artifacts,
        "run": lambda: executor.train(number),
    }[what]
    thread = threading.Thread(target=do)
    thread.start()
    (child,) = wait_until(lambda: set(children()) - before)
    # Stopped before it has become another program, it would hold up the thread that starts it.
    wait_until(lambda: b"webapp.worker.child" in Path(f"/proc/{child}/cmdline").read_bytes())
    os.kill(child, signal.SIGSTOP)
    thread.join(60)
    assert not thread.is_alive() and child not in children()
    assert what in caplog.text and "without progress" in caplog.text
    with database.reading() as session:
        assert session.get(Correction, waiting).suspicion is None
        if what == "predictions":
            error = session.get(Artifact, (1, "predictions")).error
            assert error == coded("crashed", last={"code": "killed", "signal": 9})
        if what == "run":
            run = session.get(Run, number)
            assert (run.state, run.failed_attempts) == ("queued", 1), "it waits for another trainer"
