"""Imports that a worker takes in: their rows, and their files until they have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "import",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("digits", sa.Integer, nullable=False),
        sa.Column("fraction", sa.Double, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("error", sa.String),
    )
    op.create_table(
        "import_file",
        sa.Column("import_id", sa.Integer, sa.ForeignKey("import.id"), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("import_file")
    op.drop_table("import")
