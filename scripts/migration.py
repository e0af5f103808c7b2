"""Write the next migration: the difference between the tables declared in the code and
what the present migrations make. Usage: migration.py 0002 "what changes"."""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import modelry.access.key_names
import modelry.access.store
import modelry.catalog.store
import modelry.services.conformance.store
import modelry.services.store
import modelry.usage.series.store
import modelry.usage.store

MIGRATIONS = Path(modelry.access.store.__file__).parent.parent / "db" / "migrations"


def main(number: str, message: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        engine = create_engine(f"sqlite:///{scratch}/draft.db")
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            command.revision(config, message=message, autogenerate=True, rev_id=number)


if __name__ == "__main__":
    main(*sys.argv[1:])
