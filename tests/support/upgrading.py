"""Two releases on one database: trial migrations of a later one, and the release before this one."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from webapp.settings import ROOT
from webapp.storage.compatibility import MIGRATIONS
from webapp.storage.engine import Database

FIRST_MIGRATION = "0012"  # of this release; the next release begins with another


def migrate_further(database: Database, change: Callable[[Operations], object], revision: str = "9999") -> None:
    """Carries out a trial migration, as a release does that this one knows nothing of."""
    with database.engine.begin() as connection:
        change(Operations(MigrationContext.configure(connection)))
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})


def unpack_release_before(folder: Path) -> None:
    """Unpacks the release before this one: what was committed before its first migration was.

    Without the history of git the test is skipped.
    """
    (first,) = (MIGRATIONS / "versions").glob(f"{FIRST_MIGRATION}_*.py")
    added = _git("log", "--follow", "--diff-filter=A", "--format=%H", "--", first.relative_to(ROOT))
    commit = f"{added.decode().split()[-1]}^" if added else "HEAD"
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
        archive.extractall(folder, filter="data")
    assert not (folder / first.relative_to(ROOT)).exists()


def upgrade_commands(release: str, ports: list[int]) -> str:
    """The commands of docs/upgrading.md for a release that is unpacked and has its packages."""
    (script,) = re.findall(r"^```sh\n(release=NEW.+?)^```", (ROOT / "docs" / "upgrading.md").read_text(), re.M | re.S)
    script = script.replace("release=NEW", f"release={release}").replace("8001 8002", " ".join(map(str, ports)))
    script, skipped = re.subn(r"^\(cd .+make \.venv/ready\)", "", script, flags=re.M)
    assert skipped == 1
    return script


def _git(*arguments: str | Path) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", b"").decode().strip() or error
        pytest.skip(f"the release before is taken from the history of git: {why}")
