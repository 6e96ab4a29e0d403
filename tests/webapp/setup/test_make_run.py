"""However `make run` is ended, nothing of it stays; and what dies while it goes on is started again."""

import fcntl
import os
import signal
import socket
from contextlib import closing

import pytest

from model.presets import Config
from tests.support.make_run import MAKE_RUN, SECONDS, Running
from tests.support.servers import wait_until
from webapp.services import Services
from webapp.setup.supervisor import STOP_SECONDS
from webapp.storage.installation_lock import InUse, exclusive
from webapp.storage.schema import Run

pytestmark = pytest.mark.timeout(3 * SECONDS)


@pytest.fixture
def running(settings, tmp_path):
    running = Running(settings.data_dir, tmp_path / "log")
    yield running
    running.end()


@pytest.fixture
def background(running):
    """Its process, started with its output in a file."""
    process = running.start()
    running.wait_until_ready()
    wait_until(lambda: "the worker is ready" in running.log.read_text())
    return process


def read_until(terminal, words):
    shown = b""
    while words not in shown:
        shown += os.read(terminal, 4096)
    return shown


def test_run_starts_again_what_is_killed_and_ends_with_ctrl_c(running, settings):
    terminal = running.start_in_terminal(f"{MAKE_RUN} 2>&1 | tee {running.log}")
    assert b"Last backup: none yet" in read_until(terminal, b"Ctrl-C ends it")
    running.wait_until_ready()
    for name in ("gunicorn", "webapp worker"):
        (pid, *_) = running.pids(name)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InUse), exclusive(settings):  # also while neither web nor worker runs
            pass
        wait_until(lambda pid=pid, name=name: pid not in running.pids(name) and running.is_ready())
    os.write(terminal, b"\x03")
    running.wait_until_gone()
    os.close(terminal)
    with exclusive(settings):
        pass


@pytest.mark.stress
@pytest.mark.parametrize("tee", [" 2>&1 | tee", ""])
def test_run_ended_in_a_terminal_leaves_no_process(running, tee):
    terminal = running.start_in_terminal(f"{MAKE_RUN}{tee and f'{tee} {running.log}'}")
    read_until(terminal, b"Ctrl-C ends it")
    running.wait_until_ready()
    os.close(terminal)
    running.wait_until_gone()


@pytest.mark.stress
@pytest.mark.parametrize("number", ["TERM", "HUP"])
def test_run_ended_by_a_signal_ends_in_order(running, background, number):
    background.send_signal(signal.Signals[f"SIG{number}"])
    assert background.wait(SECONDS) == 0
    assert running.processes() == []
    log = running.log.read_text()
    assert "the worker has ended" in log and "Traceback" not in log


@pytest.mark.stress
def test_run_under_nohup_outlives_its_terminal(running):
    terminal = running.start_in_terminal(f"nohup {MAKE_RUN} >{running.log} 2>&1")
    running.wait_until_ready()
    os.close(terminal)
    (shell, *_) = running.children
    os.waitpid(shell, 0)
    running.children.clear()
    (pid,) = running.pids("webapp/setup/supervisor")
    with pytest.raises(AssertionError):
        wait_until(lambda: not running.is_ready(), 3)
    os.kill(pid, signal.SIGTERM)
    running.wait_until_gone()


@pytest.mark.stress
def test_run_ends_with_the_reader_of_its_output(running):
    terminal = running.start_in_terminal(f"{MAKE_RUN} 2>&1 | head -n 3 >{running.log}")
    running.wait_until_gone()
    os.close(terminal)


@pytest.mark.stress
def test_run_with_a_socket_for_output_ends_with_it(running):
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = running.start(theirs)
        running.wait_until_ready()
        shown = b""
        while not (b"Ctrl-C ends it" in shown and b"the worker is ready" in shown):
            shown += ours.recv(4096)
    assert process.wait(SECONDS) == 0
    running.wait_until_gone()


@pytest.mark.stress
def test_run_with_unread_output_loses_nothing_and_ends(running):
    source, sink = os.pipe()
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 4096)
    process = running.start(sink)
    os.close(sink)
    running.wait_until_ready()
    shown = b""
    for _ in range(40):  # lines of more than a hundred bytes
        running.get("/healthz")
    while shown.count(b'"GET /healthz: 200"') < 40:
        shown += os.read(source, 65_536)
    for _ in range(40):
        running.get("/healthz")
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_SECONDS / 2) == 0
    running.wait_until_gone()
    os.close(source)


@pytest.mark.stress
def test_run_outlives_make_until_the_terminal_closes(running):
    terminal = running.start_in_terminal(f"{MAKE_RUN}; sleep 600")
    running.wait_until_ready()
    os.kill(*running.pids(f"{MAKE_RUN} "), signal.SIGKILL)
    wait_until(lambda: running.pids("sleep 600"))
    assert running.is_ready()
    os.close(terminal)
    running.wait_until_gone()


@pytest.mark.stress
def test_run_ends_with_the_shell_of_its_terminal(running):
    terminal = running.start_in_terminal(MAKE_RUN)
    running.wait_until_ready()
    os.kill(running.children[0], signal.SIGKILL)
    running.wait_until_gone()
    os.close(terminal)


@pytest.mark.stress
@pytest.mark.parametrize("folder", ["data", "other"], ids=["the same installation", "another"])
def test_run_started_twice_at_once_is_refused_once(running, tmp_path, folder):
    other = Running(tmp_path / folder, tmp_path / "other-log", running.port)
    both = {running.start(): running, other.start(): other}
    try:
        wait_until(lambda: any(process.poll() is not None for process in both))
        (refused,) = (process for process in both if process.poll() is not None)
        (accepted,) = (process for process in both if process.poll() is None)
        said = f"inkling: 127.0.0.1:{running.port} cannot be used (Address already in use); set PORT\n"
        assert (refused.returncode, both[refused].log.read_text()) == (2, said)
        both[accepted].wait_until_ready()
        accepted.terminate()
        assert accepted.wait(SECONDS) == 0
        assert running.processes() == other.processes() == []
    finally:
        other.end()


@pytest.mark.stress
@pytest.mark.parametrize("name", ["webapp/setup/supervisor", "supervisord"])
def test_run_killed_ends_the_training_which_waits(running, background, settings, database, name):
    with closing(Services.open(settings)) as services:
        run = services.jobs.start(Config("basic", 1000, processes=2), "a test")

    def now():
        with database.reading() as session:
            return session.get(Run, run.id)

    wait_until(lambda: now().progress.get("fraction"))
    assert len(running.pids("webapp.worker.child run")) == 2
    os.kill(*running.pids(name), signal.SIGKILL)
    running.wait_until_gone()
    assert (now().state, now().failed_attempts) == ("queued", 0)
    assert background.wait() == (2 if name == "supervisord" else -signal.SIGKILL)
