"""What was removed: its audit, and versions and runs of which only the row is left, since others refer to it."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("version", sa.Column("removed_at", sa.Double))
    op.add_column("run", sa.Column("removed_at", sa.Double))
    op.create_table(
        "removal",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("number", sa.Integer),
        sa.Column("counts", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    # Not by a batch: it makes the table anew, and dropping the old one would take the rows that refer to it along.
    op.drop_table("removal")
    op.execute("ALTER TABLE run DROP COLUMN removed_at")
    op.execute("ALTER TABLE version DROP COLUMN removed_at")
