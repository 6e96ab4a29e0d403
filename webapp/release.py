"""What is running here: the release, and the commit of a checkout."""

from __future__ import annotations

import re
from pathlib import Path

RELEASE = "1.1.dev0"
"""The release, as in CHANGELOG.md; one with "dev" is on the way to it."""

MIGRATIONS = Path(__file__).parent / "storage" / "migrations" / "versions"


def _commit(git: Path) -> str:
    """Return the commit that is checked out, without the program `git`; "" if Git's files do not tell."""
    try:
        head = (git / "HEAD").read_text("ascii").strip()
        branch = head.removeprefix("ref: ")
        if branch != head and (git / branch).exists():
            head = (git / branch).read_text("ascii").strip()
        elif branch != head:
            packed = (git / "packed-refs").read_text("ascii")
            found = re.search(rf"^(\w+) {re.escape(branch)}$", packed, re.M)
            head = found[1] if found else ""
    except (OSError, ValueError):
        return ""
    return head if re.fullmatch("[0-9a-f]{40,64}", head) else ""


# Read at import: the checkout may change under a running process.
COMMIT = _commit(Path(__file__).parent.parent / ".git")
SCHEMA = max(path.name.partition("_")[0] for path in MIGRATIONS.glob("[0-9]*.py"))
"""The revision of the database's schema that this release migrates to."""
