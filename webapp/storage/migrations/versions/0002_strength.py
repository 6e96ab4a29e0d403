"""A version's strength report."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "strength",
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id"), primary_key=True),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("fraction", sa.Double, nullable=False),
        sa.Column("figures", sa.JSON(none_as_null=True)),
        sa.Column("error", sa.String),
    )


def downgrade() -> None:
    op.drop_table("strength")
