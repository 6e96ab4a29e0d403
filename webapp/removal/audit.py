"""The audit of removals: who removed what and when, and how much it was; nothing of what was in it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from webapp.storage.schema import Removal, RemovalKind


class AuditEntry:
    """The audit's row of one removal, which may take several transactions: each adds what it has removed."""

    def __init__(self, by: str, kind: RemovalKind, number: int | None = None):
        self._by, self._kind, self._number = by, kind, number
        self._id: int | None = None
        self.counts: dict[str, int] = {}

    def add(self, session: Session, **counts: int) -> None:
        """Add numbers of removed rows, by their kind, in the transaction that removes them."""
        row = session.get(Removal, self._id or 0)
        if row is None:  # none yet, or the transaction that wrote it was rolled back
            row = Removal(by=self._by, kind=self._kind, number=self._number, counts={})
            session.add(row)
        found = {kind: count for kind, count in counts.items() if count}
        row.counts = row.counts | {kind: row.counts.get(kind, 0) + count for kind, count in found.items()}
        session.flush()
        self._id, self.counts = row.id, row.counts
