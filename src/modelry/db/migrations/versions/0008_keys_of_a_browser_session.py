"""keys of a browser session

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("session", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_keys_session"), ["session"], unique=False)


def downgrade() -> None:
    # The table is made anew: no number of a key is ever given twice.
    numbered = {"sqlite_autoincrement": True}
    with op.batch_alter_table("keys", schema=None, table_kwargs=numbered) as batch_op:
        batch_op.drop_index(batch_op.f("ix_keys_session"))
        batch_op.drop_column("session")
