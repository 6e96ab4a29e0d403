"""Kills a backup or a restore at each step that it takes with files: python -m tests.support.killing_files WHAT FOLDER.

FOLDER holds what is worked on: `old/` a DATA_DIR, `new.zip` a backup of another one. Each attempt works on a fresh copy
of the former, in a process forked from this one, and ends by SIGKILL at its n-th opening, linking, renaming or removing
of a file, or where it tells its progress; n grows until it lives to its end. Prints a JSON list of what each has left.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.support.small import marks
from webapp.settings import Settings
from webapp.setup.backup import TEMPORARY, back_up
from webapp.setup.backup_file import BackupFile
from webapp.setup.restore import restore
from webapp.storage.installation_lock import share

EVENTS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "sqlite3.connect", "shutil.copyfile"}


def settings_of(data_dir: Path) -> Settings:
    os.environ["DATA_DIR"], os.environ["SECRET_KEY"] = str(data_dir), ""
    return Settings.read()


def in_child(work: Callable[[], object], folder: Path = Path("/"), step: int = 0) -> bool:
    """Do work in a process of its own; return whether that was killed at its n-th step with files in a folder."""
    child = os.fork()
    if child == 0:
        passed = 0

        def count(event: str, arguments: tuple) -> None:
            nonlocal passed
            if event in EVENTS and any(str(folder) in str(one) for one in arguments):
                passed += 1
                if passed == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        if step:
            sys.addaudithook(count)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0, f"the process failed: {status}"
    return os.WIFSIGNALED(status)


def killed_restore(folder: Path, step: int) -> tuple[bool, object]:
    """Restore, use the installation as the next process does, and restore again."""
    data_dir, backup = folder / "data", folder / "new.zip"
    killed = in_child(lambda: restore(settings_of(data_dir), backup), folder, step)
    in_child(lambda: share(settings_of(data_dir), print))
    left = marks(data_dir)
    in_child(lambda: restore(settings_of(data_dir), backup))
    kept = [marks(path) for path in sorted(data_dir.glob("inkling-before-restore-*"))]
    unfinished = [path.name for path in data_dir.glob("inkling.db-restore*")]
    return killed, [left, marks(data_dir), kept, unfinished]


def killed_backup(folder: Path, step: int) -> tuple[bool, object]:
    """Back up, look whether there is a file, and back up again."""
    file, again = folder / "backups" / "backup.zip", folder / "backups" / "again.zip"
    file.parent.mkdir()
    killed = in_child(lambda: back_up(settings_of(folder / "data"), file), folder, step)
    if was_there := file.exists():
        with BackupFile.open(file) as backup:
            backup.verify(lambda done: None)
    in_child(lambda: back_up(settings_of(folder / "data"), again))
    left = [path.name for path in file.parent.glob(f"{TEMPORARY}*")]
    shutil.rmtree(file.parent)
    return killed, [was_there, left, marks(folder / "data")]


def main(what: str, folder: Path) -> None:
    os.fsync = lambda descriptor: None  # only tells when the whole machine fails, and takes longest
    attempt = {"restore": killed_restore, "backup": killed_backup}[what]
    shutil.copytree(folder / "old", folder / "warm")  # once in this process, so that no child has to import
    back_up(settings_of(folder / "warm"), folder / "warm.zip")
    restore(settings_of(folder / "warm"), folder / "warm.zip")
    found, step, killed = [], 0, True
    while killed:
        step += 1
        shutil.rmtree(folder / "data", ignore_errors=True)
        shutil.copytree(folder / "old", folder / "data")
        killed, left = attempt(folder, step)
        found.append(left)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
