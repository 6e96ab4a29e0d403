"""Whether a release can work with a schema that another one made.

Decided by looking: what a release reads and writes must be there as it knows it, and nothing may be asked of it that it
does not know. So a newer release's schema suits an older one as long as its migrations only add (docs/upgrading.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    ForeignKeyConstraint,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

MIGRATIONS = Path(__file__).parent / "migrations"
NAMED = 3  # misfits in a message


def known_revisions() -> set[str]:
    """Return the revisions that this release's migrations lead to; Alembic itself takes long to import."""
    return {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}


def revision_of(connection: Connection) -> str:
    """Return the revision of the database; raises a database error if it has none."""
    return connection.scalars(text("SELECT version_num FROM alembic_version")).one()


def describe_misfit(connection: Connection, revision: str, used: MetaData) -> str | None:
    """Return in one line why a release that uses these tables cannot work with the database; None if it can."""
    known = known_revisions()
    found = MetaData()
    # Tables that it does not use are another program's, or a newer release's: these must not hold its rows back.
    found.reflect(connection, only=lambda name, _: name in used.tables or revision not in known)
    reasons = misfits(found, used, connection.dialect)
    if not reasons:
        return None
    more = f" and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    if revision == max(known):
        made_by, way_out = "this release, and something else has changed it", "undo that, or restore a backup"
    elif revision in known:
        made_by, way_out = "an earlier release", "`python -m webapp setup` brings it up to date"
    else:
        made_by, way_out = "a newer release", "start that release, or restore a backup"
    return f"the database is of {made_by} (revision {revision}): {', '.join(reasons[:NAMED])}{more}; {way_out}"


def misfits(found: MetaData, used: MetaData, dialect: Dialect) -> list[str]:
    """Return what a program that was written for the tables `used` cannot work with in the tables `found`."""
    reasons: list[str] = []
    for name, table in used.tables.items():
        if name in found.tables:
            reasons += _table_misfits(found.tables[name], table, dialect)
        else:
            reasons.append(f"{name} is missing")
    for name in found.tables.keys() - used.tables.keys():
        reasons += _foreign_key_misfits(found.tables[name], None, used)
    return reasons


def _table_misfits(found: Table, used: Table, dialect: Dialect) -> Iterator[str]:
    for column in used.columns:
        yield from _column_misfits(found.columns.get(column.name), column, dialect)
    for column in found.columns:
        if column.name not in used.columns and not column.nullable and not _has_default(column):
            yield f"{column} must be given"
    if found.primary_key.columns.keys() != used.primary_key.columns.keys():
        yield f"{found.name} has another primary key"
    now, before = _unique(found, dialect), _unique(used, dialect)
    for columns, _ in sorted(now - before):
        # Rows of an older release have NULL in a column that it does not know, and NULLs are distinct.
        if not any(column not in used.columns and _stays_null(found.columns[column]) for column in columns):
            yield f"{found.name} ({', '.join(columns)}) must be unique"
    for columns, _ in sorted(before - now):
        yield f"{found.name} ({', '.join(columns)}) need not be unique"
    for check in _checks(found) - _checks(used):
        yield f"{found.name} is checked for {check}"
    yield from _foreign_key_misfits(found, used, used.metadata)


def _column_misfits(found: Column | None, used: Column, dialect: Dialect) -> Iterator[str]:
    if found is None:
        yield f"{used} is missing"
        return
    now, before = (column.type.compile(dialect) for column in (found, used))
    if now != before:
        yield f"{used} is of type {now}"
    if used.nullable and not found.nullable:
        yield f"{used} must not be empty"
    elif not found.nullable and _has_default(used) and not _has_default(found):
        yield f"{used} must be given"


def _foreign_key_misfits(found: Table, used: Table | None, tables: MetaData) -> Iterator[str]:
    """Yield the references that `used`, None if the table is unknown, does not have, and that refuse what it does."""
    known = _references(used) if used is not None else {}
    for reference, key in _references(found).items():
        columns, target, _ = reference
        if reference in known:
            continue
        if used is not None and all(name in used.columns for name in columns):
            yield f"{found.name} ({', '.join(columns)}) must be of {target}"
        elif target in tables.tables and key.ondelete not in ("CASCADE", "SET NULL"):
            yield f"rows of {target} cannot be deleted while {found.name} refers to them"


def _references(table: Table) -> dict[tuple, ForeignKeyConstraint]:
    return {
        (tuple(key.column_keys), key.referred_table.name, tuple(element.column.name for element in key.elements)): key
        for key in table.foreign_key_constraints
    }


def _unique(table: Table, dialect: Dialect) -> set[tuple[tuple[str, ...], bool]]:
    """Return the columns that are unique together, in order of their names, each with whether in some rows only."""
    constraints = [one for one in table.constraints if isinstance(one, UniqueConstraint)]
    found = {(tuple(sorted(one.columns.keys())), False) for one in constraints}
    for index in table.indexes:
        if index.unique:
            partial = index.dialect_options[dialect.name].get("where") is not None
            found.add((tuple(sorted(index.columns.keys())), partial))
    return found


def _checks(table: Table) -> set[str]:
    return {str(one.sqltext) for one in table.constraints if isinstance(one, CheckConstraint)}


def _has_default(column: Column) -> bool:
    return column.server_default is not None or column.computed is not None or column.identity is not None


def _stays_null(column: Column) -> bool:
    return bool(column.nullable) and not _has_default(column)
