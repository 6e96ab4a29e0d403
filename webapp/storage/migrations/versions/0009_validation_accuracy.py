"""The validation accuracy of a version's weights as stored, in its row and card.

Earlier releases measured the card's before rounding to half precision; the comparison measured it after. The weights
keep their own card: its digest is theirs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

VERSION = sa.table(
    "version", sa.column("id", sa.Integer), sa.column("card", sa.JSON), sa.column("validation_accuracy", sa.Double)
)
COMPARISON = sa.table("comparison", sa.column("version_id", sa.Integer), sa.column("evidence", sa.JSON))


def upgrade() -> None:
    connection = op.get_bind()
    criteria = COMPARISON.c.evidence["criteria"]  # without the pictures
    compared = sa.select(VERSION.c.id, VERSION.c.card, criteria).where(COMPARISON.c.version_id == VERSION.c.id)
    for version_id, card, found in connection.execute(compared).all():
        measured = next((one.get("challenger") for one in found or () if one.get("name") == "validation"), None)
        if measured is not None:
            row = sa.update(VERSION).where(VERSION.c.id == version_id)
            connection.execute(row.values(validation_accuracy=measured, card=card | {"validation_accuracy": measured}))


def downgrade() -> None:
    """The figures stay: earlier releases show them as they are."""
