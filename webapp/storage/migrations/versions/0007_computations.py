"""One table for all that is computed about a version, in place of one for each kind; corrections found unjudged."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "computation",
        sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id"), primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("fraction", sa.Double, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Column("error", sa.String),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    figures = "CAST(figures AS BLOB)" if is_sqlite else "convert_to(CAST(figures AS TEXT), 'UTF8')"
    for kind, result in (("predictions", "probabilities"), ("strength", figures)):
        op.execute(
            "INSERT INTO computation (version_id, kind, updated_at, fraction, result, error) "
            f"SELECT version_id, '{kind}', updated_at, fraction, {result}, error FROM {kind}"
        )
        op.drop_table(kind)
    op.create_index("ix_correction_unjudged", "correction", ["state", "suspicion"])


def downgrade() -> None:
    """The old tables come back empty: all of it can be computed again."""
    op.drop_index("ix_correction_unjudged", "correction")
    op.drop_table("computation")
    for kind, result in (
        ("predictions", sa.Column("probabilities", sa.LargeBinary)),
        ("strength", sa.Column("figures", sa.JSON(none_as_null=True))),
    ):
        op.create_table(
            kind,
            sa.Column("version_id", sa.Integer, sa.ForeignKey("version.id"), primary_key=True),
            sa.Column("updated_at", sa.Double, nullable=False),
            sa.Column("fraction", sa.Double, nullable=False),
            result,
            sa.Column("error", sa.String),
        )
