"""Kills a process at each step of a write: python -m tests.support.killing WHAT. Prints what each kill has left.

Each attempt works on a fresh copy of DATA_DIR's database, in a process forked from this one, which has started no
thread. It ends by SIGKILL before its n-th statement, or before or after its commit: n grows until it lives to the end.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event, func, select

from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Comparison, Promotion, Run, Version, champion_id
from webapp.training import runs
from webapp.training.runs import Lease
from webapp.versions.promotions import record_promotion


def finish(database: Database) -> None:
    """A run's end: its version, its comparison and its promotion."""
    version = Version(
        source="run", preset="basic", sha256="0", weights=bytes(100_000), card={}, validation_accuracy=1.0
    )
    comparison = Comparison(champion_id=1, passed=True, evidence={"summary": {"code": "better"}, "gained": True})
    Lease(database, 1, 1).finish(version, bytes(200_000), comparison)


def roll_back(database: Database) -> None:
    with database.writing() as session:
        record_promotion(session, 2, by="a test", why="rolled back")


def keep(database: Database) -> None:
    """A checkpoint in place of an older one."""
    Lease(database, 1, 1).save_checkpoint(b"new" * 100_000)


def lose(database: Database) -> None:
    runs.fail_attempt(database, 1, 1, "it died")


def state(database: Database) -> list:
    """All that these change."""
    with database.reading() as session:
        counts = [
            session.scalar(select(func.count()).select_from(table))
            for table in (Version, Promotion, Comparison, Artifact)
        ]
        run = session.get(Run, 1)
        checkpoint = Lease(database, 1, 1).load_checkpoint()
        whole = session.connection().exec_driver_sql("PRAGMA integrity_check").scalar()
        of_run = run.state, run.failed_attempts, run.version_id, checkpoint[:3].decode()
        return [whole, counts, champion_id(session), *of_run]


def kill_at(step: int, database: Database) -> None:
    passed = 0

    def count(*_) -> None:
        nonlocal passed
        passed += 1
        if passed == step:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(database.engine, name, count)


def attempt(what: Callable[[Database], None], path: Path, step: int) -> bool:
    """Whether the process was killed before it came to its end."""
    child = os.fork()
    if child == 0:
        database = Database(f"sqlite:///{path}")
        kill_at(step, database)
        what(database)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert status == 0, f"the process failed: {status}"
    return os.WIFSIGNALED(status)


def states(name: str, folder: Path) -> list:
    """The states after a write that is killed at its first step, at its second one, and so on until it is not."""
    found, step, killed = [], 0, True
    while killed:
        step += 1
        path = folder / f"{name}-{step}.db"
        shutil.copyfile(folder / "inkling.db", path)
        killed = attempt(globals()[name], path, step)
        found.append(state(Database(f"sqlite:///{path}")))
        path.unlink()
    return found


def main(folder: Path) -> None:
    writes = {write.__name__: states(write.__name__, folder) for write in (finish, roll_back, keep, lose)}
    print(json.dumps({"before": state(Database(f"sqlite:///{folder / 'inkling.db'}")), "writes": writes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
