"""Corrections as the models have them, also where an early form of 0003 or 0004 has made them.

Both files were changed after some databases had been migrated by them. Those lack AUTOINCREMENT, `decided_at` or the
right indexes, though their revision says that all is there. A right one is left as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

REVIEW = ["state", "twin_of", "decided_at", "id"]
# Dropping `correction` takes their rows along: foreign keys cannot be switched off within a transaction.
DEPENDENT = ("review", "run_correction")


def upgrade() -> None:
    look = sa.inspect(op.get_bind())
    columns = [column["name"] for column in look.get_columns("correction")]
    indexes = {index["name"]: index["column_names"] for index in look.get_indexes("correction")}
    if "decided_at" not in columns:
        _add_decided_at()
        columns.append("decided_at")
    if _reuses_numbers():
        _make_anew(columns)
        return
    if "ix_correction_state" in indexes:
        op.drop_index("ix_correction_state", "correction")
    if indexes.get("ix_correction_review") != REVIEW:
        op.execute("DROP INDEX IF EXISTS ix_correction_review")
        op.create_index("ix_correction_review", "correction", REVIEW)


def downgrade() -> None:
    pass


def _add_decided_at() -> None:
    op.add_column("correction", sa.Column("decided_at", sa.Double, nullable=False, server_default="0"))
    op.execute(
        "UPDATE correction SET decided_at = coalesce("
        "(SELECT max(review.at) FROM review WHERE review.correction_id = correction.id), 0)"
    )


def _reuses_numbers() -> bool:
    """Whether this is SQLite, and a number of a deleted correction may be given to the next one."""
    if op.get_bind().dialect.name != "sqlite":
        return False
    made_by = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'correction'")
    return "AUTOINCREMENT" not in op.get_bind().scalar(made_by).upper()


def _make_anew(columns: list[str]) -> None:
    for table in ("correction", *DEPENDENT):
        op.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    op.drop_table("correction")
    _create()
    names = ", ".join(columns)
    op.execute(f"INSERT INTO correction ({names}) SELECT {names} FROM kept_correction ORDER BY id")
    for table in DEPENDENT:
        op.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
    for table in ("correction", *DEPENDENT):
        op.drop_table(f"kept_{table}")


def _create() -> None:
    op.create_table(
        "correction",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False, index=True),
        sa.Column("source", sa.String, nullable=False, index=True),
        sa.Column("receipt_sha256", sa.String, nullable=False, unique=True),
        sa.Column("meant", sa.Integer, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("digit_image", sa.LargeBinary, nullable=False),
        sa.Column("picture", sa.LargeBinary, nullable=False),
        sa.Column("answered", sa.JSON, nullable=False),
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id")),
        sa.Column("held_out", sa.Boolean, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("twin_of", sa.Integer, sa.ForeignKey("correction.id"), index=True),
        sa.Column("suspicion", sa.Double),
        sa.Column("doubt", sa.JSON(none_as_null=True)),
        sa.Column("decided_at", sa.Double, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_correction_review", "correction", REVIEW)
