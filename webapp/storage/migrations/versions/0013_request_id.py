"""The workers that are alive, and the request that started a run or an import."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "worker",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("stopped", sa.Boolean, nullable=False),
    )
    op.add_column("run", sa.Column("request_id", sa.String))
    op.add_column("import", sa.Column("request_id", sa.String))


def downgrade() -> None:
    # Not by a batch: it makes the table anew, and dropping the old one would take the rows that refer to it along.
    op.execute('ALTER TABLE "import" DROP COLUMN request_id')
    op.execute("ALTER TABLE run DROP COLUMN request_id")
    op.drop_table("worker")
