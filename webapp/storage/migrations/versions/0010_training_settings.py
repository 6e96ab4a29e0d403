"""Batch size, learning rate and schedule of a run, where they are not the preset's."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("run", sa.Column("batch_size", sa.Integer))
    op.add_column("run", sa.Column("learning_rate", sa.Double))
    op.add_column("run", sa.Column("schedule", sa.String))


def downgrade() -> None:
    # Not by a batch, which makes the table anew: dropping the old one would take the rows that belong to it along.
    op.execute("ALTER TABLE run DROP COLUMN schedule")
    op.execute("ALTER TABLE run DROP COLUMN learning_rate")
    op.execute("ALTER TABLE run DROP COLUMN batch_size")
