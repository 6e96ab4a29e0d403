"""Administrators by name beside the first one, whose a session is, and at whose password an attempt was.

They have a table of their own, which the release before does not see: it takes any row of `administrator` for the only
one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "named_administrator",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("password_hash", sa.String, nullable=False),
    )
    # NULL, as the release before writes: the first one's session; an attempt that no success takes back
    op.add_column("admin_session", sa.Column("administrator", sa.String))
    op.add_column("sign_in_attempt", sa.Column("administrator", sa.String))


def downgrade() -> None:
    op.execute("DELETE FROM admin_session WHERE administrator <> 'administrator'")
    for table in ("sign_in_attempt", "admin_session"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN administrator")
    op.drop_table("named_administrator")
