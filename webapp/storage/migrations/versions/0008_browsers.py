"""The browser that sent a correction, so that only it gets the same receipt again and sees the list of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("correction", sa.Column("browser", sa.String))
    op.create_index("ix_correction_browser", "correction", ["browser"])


def downgrade() -> None:
    op.drop_index("ix_correction_browser", "correction")
    # Not by a batch, which makes the table anew: dropping the old one would take the rows that belong to it along.
    op.execute("ALTER TABLE correction DROP COLUMN browser")
