"""The server's own schema, made by its own command."""

import os
import subprocess
import sys
from pathlib import Path

from bench.starting_line import LoadError

COMMAND = str(Path(sys.executable).with_name("heliograph"))
TIMEOUT = 120.0


def server_environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none of the caller's.

    Together with a working folder without `.env`, so that only the benchmark says what runs.
    """
    # PYTHONPATH: the sources that the benchmark itself runs on.
    names = ("PATH", "HOME", "LANG", "PYTHONPATH")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "APP_ENV": "development", "LOG_LEVEL": "warning", **settings}


def migrate(url: str, directory: Path) -> None:
    """Bring the database to the newest revision."""
    done = subprocess.run(
        [COMMAND, "migrate"],
        cwd=directory,
        env=server_environment(DATABASE_URL=url, DATA_DIRECTORY=str(directory)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise LoadError(f"heliograph migrate failed:\n{done.stdout}{done.stderr}")
