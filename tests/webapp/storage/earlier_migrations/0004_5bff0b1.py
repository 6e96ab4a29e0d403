"""What several machines share: the secret key, and over how many processes a run trains."""

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
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("processes", sa.Integer, nullable=False, server_default="1"))
    op.create_index("ix_correction_review", "correction", ["state", "twin_of"])


def downgrade() -> None:
    op.drop_index("ix_correction_review", "correction")
    with op.batch_alter_table("run") as run:
        run.drop_column("processes")
    op.drop_table("installation")
