"""The audit's row of a removal that takes several transactions, one of which fails."""

import pytest
from sqlalchemy import select

from webapp.removal.audit import AuditEntry
from webapp.storage.schema import Removal

pytestmark = pytest.mark.both_databases


def add(database, entry, error=None):
    with database.writing() as session:
        entry.add(session, versions=1)
        if error:
            raise error


def test_entry_rolled_back_is_not_continued_in_that_of_another(database):
    one, other = AuditEntry("one", "old"), AuditEntry("other", "old")
    with pytest.raises(OSError):
        add(database, one, OSError())
    assert one.counts == {}
    for entry in (other, one, one):
        add(database, entry)
    with database.reading() as session:
        rows = session.scalars(select(Removal).order_by(Removal.id)).all()
    assert [(row.by, row.counts) for row in rows] == [("other", {"versions": 1}), ("one", {"versions": 2})]
    assert one.counts == {"versions": 2}
