"""The database: one async engine, one declarative base, migrations, and pages of rows.

It knows no table: each package declares its own in its `store.py`.
"""

from modelry.db.database import Base, Database, Numbered, Session, UtcDateTime

__all__ = ["Base", "Database", "Numbered", "Session", "UtcDateTime"]
