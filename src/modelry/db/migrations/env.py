"""Alembic's environment: migrates over the connection it is handed.

For a developer: `just migration "what changes"` compares the models of every
package with a freshly migrated database and writes the next version file.
"""

from typing import Any, Literal

from alembic import context

from modelry.db import Base, UtcDateTime


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Migrations name the database's own types: they outlive the code's."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run() -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        render_as_batch=True,
        render_item=render_item,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
