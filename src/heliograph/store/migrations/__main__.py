"""`python -m heliograph.store.migrations upgrade head`: Alembic in a process of its own."""

import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from heliograph.store.migrations.running import BACKUPS_VARIABLE, DATABASE_URL_VARIABLE


def main(direction: str, revision: str) -> None:
    """Bring the database named in the environment up or down to the revision."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent))
    configuration.attributes["database_url"] = os.environ[DATABASE_URL_VARIABLE]
    configuration.attributes["backups"] = int(os.environ.get(BACKUPS_VARIABLE, "0"))
    configuration.attributes["direction"] = direction
    if direction == "downgrade":
        command.downgrade(configuration, revision)
    else:
        command.upgrade(configuration, revision)


main(*sys.argv[1:])
