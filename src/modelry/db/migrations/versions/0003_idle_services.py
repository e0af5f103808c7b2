"""when services were last in use; numbers of keys are never given twice

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("services", schema=None) as batch_op:
        batch_op.add_column(sa.Column("active_at", sa.DateTime(timezone=True), nullable=True))

    if op.get_bind().dialect.name == "sqlite":
        _rebuild_keys(autoincrement=True)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_keys(autoincrement=False)

    # Not as a batch, which would rebuild the table and cascade into every other.
    op.drop_column("services", "active_at")


def _rebuild_keys(*, autoincrement: bool) -> None:
    # SQLite gives the number of a deleted last row again, unless the table is made so.
    options = {"sqlite_autoincrement": autoincrement}
    with op.batch_alter_table("keys", schema=None, recreate="always", table_kwargs=options):
        pass
