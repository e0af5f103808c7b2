"""what calls use beyond tokens

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = ("usage_events", "usage_hours")
UNITS = {
    "images": sa.BigInteger(),
    "pixels": sa.BigInteger(),
    "audio_s": sa.Double(),
    "characters": sa.BigInteger(),
}


def upgrade() -> None:
    for table in TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            for unit, kind in UNITS.items():
                batch_op.add_column(sa.Column(unit, kind, server_default="0", nullable=False))


def downgrade() -> None:
    for table in reversed(TABLES):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for unit in reversed(UNITS):
                batch_op.drop_column(unit)
