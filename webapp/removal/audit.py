"""The audit of removals: who removed what and when, and how much it was; nothing of what was in it."""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.orm import Session

from webapp.storage.schema import Removal, RemovalKind


class AuditEntry:
    """The audit's row of one removal, which may take several transactions: each adds what it has removed."""

    def __init__(self, by: str, kind: RemovalKind, number: int | None = None):
        self._by, self._kind, self._number = by, kind, number
        self._id: int | None = None
        self.counts: dict[str, int] = {}

    def add(self, session: Session, **counts: int) -> None:
        """Add numbers of removed rows, by their kind, in the transaction that removes them: once in each."""
        row = session.get(Removal, self._id or 0)
        if row is None:
            row = Removal(by=self._by, kind=self._kind, number=self._number, counts={})
            session.add(row)
        found = {kind: count for kind, count in counts.items() if count}
        row.counts = row.counts | {kind: row.counts.get(kind, 0) + count for kind, count in found.items()}
        # Not before: after a roll-back, another entry may get the same id.
        event.listen(session, "after_commit", lambda _: self._keep(row), once=True)

    def _keep(self, row: Removal) -> None:
        self._id, self.counts = row.id, row.counts
