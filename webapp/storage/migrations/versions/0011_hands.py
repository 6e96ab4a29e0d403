"""The hand of a correction: its browser's pseudonym if the request brought the cookie, else its submitter's."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("correction", sa.Column("hand", sa.String))
    op.execute("UPDATE correction SET hand = coalesce(browser, source)")
    op.create_index("ix_correction_hand", "correction", ["hand"])


def downgrade() -> None:
    op.drop_index("ix_correction_hand", "correction")
    # Not by a batch: it makes the table anew, and dropping the old one would delete the rows that refer to it.
    op.execute("ALTER TABLE correction DROP COLUMN hand")
