"""Several administrators by name, and whose a session is. The release before goes on with the first one alone."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("administrator", sa.Column("name", sa.String, nullable=False, server_default="administrator"))
    op.add_column("admin_session", sa.Column("administrator_id", sa.Integer))  # NULL, as the release before writes: 1


def downgrade() -> None:
    op.execute("DELETE FROM admin_session WHERE administrator_id <> 1")
    op.execute("ALTER TABLE admin_session DROP COLUMN administrator_id")
    op.execute("DELETE FROM administrator WHERE id <> 1")
    op.execute("ALTER TABLE administrator DROP COLUMN name")
