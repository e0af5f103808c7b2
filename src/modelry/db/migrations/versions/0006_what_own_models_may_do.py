"""what own models may do

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FLAGS = ("allow_pickles", "allow_remote_code", "copied")


def upgrade() -> None:
    with op.batch_alter_table("models", schema=None) as batch_op:
        for flag in FLAGS:
            batch_op.add_column(
                sa.Column(flag, sa.Boolean(), server_default=sa.false(), nullable=False)
            )


def downgrade() -> None:
    with op.batch_alter_table("models", schema=None) as batch_op:
        for flag in reversed(FLAGS):
            batch_op.drop_column(flag)
