"""names of keys that are gone

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_names",
        sa.Column("key_id", sa.String(length=24), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("for_session", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_names")),
    )
    # Those of browsers' sessions end by themselves, and nobody is asked then.
    op.execute(
        "INSERT INTO key_names (key_id, name, for_session) "
        "SELECT id, name, true FROM keys WHERE session IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_table("key_names")
