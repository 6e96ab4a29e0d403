"""What several machines share: the secret key, over how many processes a run trains; the review of many corrections."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("secret_key", sa.String, nullable=False),
    )
    op.add_column("run", sa.Column("processes", sa.Integer, nullable=False, server_default="1"))
    op.add_column("correction", sa.Column("decided_at", sa.Double, nullable=False, server_default="0"))
    op.execute(
        "UPDATE correction SET decided_at = coalesce("
        "(SELECT max(review.at) FROM review WHERE review.correction_id = correction.id), 0)"
    )
    op.create_index("ix_correction_review", "correction", ["state", "twin_of", "decided_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_correction_review", "correction")
    # Not by a batch, which makes the table anew: dropping the old one would take the rows that belong to it along.
    op.execute("ALTER TABLE correction DROP COLUMN decided_at")
    op.execute("ALTER TABLE run DROP COLUMN processes")
    op.drop_table("installation")
