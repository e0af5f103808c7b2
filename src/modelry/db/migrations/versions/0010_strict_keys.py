"""strict keys

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Should it be made anew: no number of a key is ever given twice.
_NUMBERED = {"sqlite_autoincrement": True}


def upgrade() -> None:
    with op.batch_alter_table("keys", schema=None, table_kwargs=_NUMBERED) as batch_op:
        batch_op.add_column(sa.Column("strict", sa.Boolean(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("keys", schema=None, table_kwargs=_NUMBERED) as batch_op:
        batch_op.drop_column("strict")
