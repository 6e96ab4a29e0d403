"""First schema: versions, promotions, runs, predictions, the administrator's door."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ACTIVE = sa.text("state IN ('queued', 'running')")


def upgrade() -> None:
    op.create_table(
        "version",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("run_id", sa.Integer),
        sa.Column("preset", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("weights", sa.LargeBinary, nullable=False),
        sa.Column("card", sa.JSON, nullable=False),
        sa.Column("validation_accuracy", sa.Double, nullable=False),
        sa.Column("test_accuracy", sa.Double),
    )
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("preset", sa.String, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("history", sa.JSON, nullable=False),
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id")),
        sa.Column("error", sa.String),
    )
    op.create_index("one_active_run", "run", ["kind"], unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE)
    op.create_table(
        "predictions",
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id"), primary_key=True),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("fraction", sa.Double, nullable=False),
        sa.Column("probabilities", sa.LargeBinary),
        sa.Column("error", sa.String),
    )
    op.create_table(
        "administrator",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("password_hash", sa.String, nullable=False),
    )
    op.create_table(
        "admin_session",
        sa.Column("token_sha256", sa.String, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )
    op.create_table(
        "sign_in_attempt",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("ix_sign_in_attempt_address", "sign_in_attempt", ["address"])


def downgrade() -> None:
    for table in ("sign_in_attempt", "admin_session", "administrator", "predictions", "run", "promotion", "version"):
        op.drop_table(table)
