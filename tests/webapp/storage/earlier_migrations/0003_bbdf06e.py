"""Corrections and their review; evidence for promotions; runs that survive their worker."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "comparison",
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id"), primary_key=True),
        sa.Column("champion_id", sa.Integer, sa.ForeignKey("version.id"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
    )
    with op.batch_alter_table("promotion") as promotion:
        promotion.add_column(sa.Column("from_id", sa.Integer))
        promotion.create_foreign_key("promotion_from", "version", ["from_id"], ["id"])
    # until now each promotion followed upon the one before it
    op.execute(
        "UPDATE promotion SET from_id = (SELECT before.version_id FROM promotion AS before "
        "WHERE before.id < promotion.id ORDER BY before.id DESC LIMIT 1)"
    )
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("corrections", sa.Boolean, nullable=False, server_default=sa.false()))
        run.add_column(sa.Column("parent_id", sa.Integer))
        run.add_column(sa.Column("losses", sa.Integer, nullable=False, server_default="0"))
        run.create_foreign_key("run_parent", "version", ["parent_id"], ["id"])
    op.create_table(
        "checkpoint",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.id"), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "correction",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False, index=True),
        sa.Column("source", sa.String, nullable=False, index=True),
        sa.Column("receipt_sha256", sa.String, nullable=False, unique=True),
        sa.Column("meant", sa.Integer, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("digit_image", sa.LargeBinary, nullable=False),
        sa.Column("picture", sa.LargeBinary, nullable=False),
        sa.Column("answered", sa.JSON, nullable=False),
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id")),
        sa.Column("held_out", sa.Boolean, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String),
        sa.Column("twin_of", sa.Integer, sa.ForeignKey("correction.id"), index=True),
        sa.Column("suspicion", sa.Double),
        sa.Column("doubt", sa.JSON(none_as_null=True)),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("batch", sa.String, nullable=False, index=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column(
            "correction_id",
            sa.Integer,
            sa.ForeignKey("correction.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("state_before", sa.String, nullable=False),
        sa.Column("label_before", sa.Integer, nullable=False),
        sa.Column("reason_before", sa.String),
    )
    op.create_table(
        "run_correction",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.id"), primary_key=True),
        sa.Column(
            "correction_id",
            sa.Integer,
            sa.ForeignKey("correction.id", ondelete="CASCADE"),
            primary_key=True,
            index=True,
        ),
    )


def downgrade() -> None:
    for table in ("run_correction", "review", "correction", "checkpoint", "comparison"):
        op.drop_table(table)
    with op.batch_alter_table("run") as run:
        for column in ("corrections", "parent_id", "losses"):
            run.drop_column(column)
    with op.batch_alter_table("promotion") as promotion:
        promotion.drop_column("from_id")
