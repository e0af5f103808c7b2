"""access tokens of users

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("access_tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column("origin", sa.String(length=16), server_default="user", nullable=False)
        )
    # Until now only starts made tokens, each under a name of its own.
    op.execute("UPDATE access_tokens SET origin = 'start' WHERE name = 'admin'")
    op.execute("UPDATE access_tokens SET origin = 'local' WHERE name = 'local command line'")


def downgrade() -> None:
    # Without its end an access token would be valid for ever, and a name of a start's would
    # be taken for that start's own.
    op.execute(
        "DELETE FROM access_tokens WHERE expires_at IS NOT NULL OR "
        "(origin = 'user' AND name IN ('admin', 'local command line'))"
    )
    with op.batch_alter_table("access_tokens", schema=None) as batch_op:
        batch_op.drop_column("origin")
        batch_op.drop_column("last_used_at")
        batch_op.drop_column("expires_at")
