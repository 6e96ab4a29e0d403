"""When a worker has sent the webhook about a run's end."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("run", sa.Column("announced_at", sa.Double))


def downgrade() -> None:
    # Not by a batch: it makes the table anew, and dropping the old one would delete the rows that refer to it.
    op.execute("ALTER TABLE run DROP COLUMN announced_at")
