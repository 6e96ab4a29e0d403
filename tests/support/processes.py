"""Runs a function in several processes that begin at the same moment: python -m tests.support.processes FUNCTION COUNT.

The processes are forked from this one, which has imported everything and started no thread.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import traceback
from contextlib import closing

from sqlalchemy import event, select

from model.data import mnist
from webapp.settings import ROOT, Settings
from webapp.setup.install import set_up
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import Run
from webapp.storage.secret_key import with_secret_key
from webapp.training.jobs import Jobs


def in_processes(function, count: int, data_dir, **environ: str) -> list:
    """What `function`, one of this module's, returned in each of `count` processes with this DATA_DIR."""
    command = [sys.executable, "-m", "tests.support.processes", function.__name__, str(count)]
    own = {"DATA_DIR": str(data_dir), "MNIST_DIR": str(mnist.default_folder()), "SECRET_KEY": "", "ADMIN_PASSWORD": ""}
    own |= environ
    done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def install() -> list[str]:
    """The secret key, and what set-up said."""
    settings, lines = Settings.read(), []
    set_up(settings, lines.append)
    return [with_secret_key(settings).secret_key, *lines]


MESSAGES = 5


def send_messages() -> None:
    settings = Settings.read()
    with closing(Database(settings.database_url)) as database:
        for _ in range(MESSAGES):
            Jobs(database, settings).import_file("digits.npz", b"", "0" * 64, 1, "a test")


def count_up(times=50) -> int:
    """Reads the seed of the only run and writes it back plus one, again and again."""
    database = Database(Settings.read().database_url)
    if not database.is_postgresql:
        # The locks are what this is about; waiting for the disk would only take long.
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    for _ in range(times):
        with database.writing() as session:
            lock_table(session, Run)
            run = session.scalars(select(Run)).one()
            run.seed += 1
    database.close()
    return times


def _main(name: str, count: int) -> None:
    fork = multiprocessing.get_context("fork")
    gate, answers = fork.Barrier(count), fork.Queue()

    def work():
        gate.wait()
        try:
            answers.put((globals()[name](), None))
        except Exception:
            answers.put((None, traceback.format_exc()))

    processes = [fork.Process(target=work) for _ in range(count)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    failures = [failure for _, failure in found if failure]
    if failures:
        sys.exit("\n".join(failures))
    print(json.dumps([answer for answer, _ in found]))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
