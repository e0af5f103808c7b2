"""metrics over time

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COUNTS = (
    "requests",
    "errors",
    "cancelled",
    "prompt_tokens",
    "completion_tokens",
    "streamed_tokens",
)
BUCKETS = 19
GAUGES = ("inflight", "waiting", "memory_bytes", "replicas")


def keys() -> list[sa.Column]:
    return [
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.String(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
    ]


def create(table: str, *columns: sa.Column) -> None:
    op.create_table(
        table,
        *keys(),
        *columns,
        sa.PrimaryKeyConstraint("step", "service_id", "start", name=op.f(f"pk_{table}")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f(f"ix_{table}_step_{table}_start"), table, ["step", "start"])


def upgrade() -> None:
    create(
        "metric_counts",
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.Column("generation_s", sa.Double(), nullable=False),
        sa.Column("queue_s", sa.Double(), nullable=False),
        *(
            sa.Column(f"first_token_{bucket}", sa.Integer(), nullable=False)
            for bucket in range(BUCKETS)
        ),
    )
    create("metric_gauges", *(sa.Column(name, sa.BigInteger(), nullable=True) for name in GAUGES))


def downgrade() -> None:
    op.drop_table("metric_gauges")
    op.drop_table("metric_counts")
