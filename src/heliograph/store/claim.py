"""One server a SQLite file: two would hand out the same ingest ids."""

import fcntl
import os
from pathlib import Path

from heliograph.errors import StartError
from heliograph.store.url import parse_database_url


class Claim:
    """Holds a SQLite file for one server; the system lets go of it when the process ends.

    Commands that change the registry beside a running server need no claim.
    """

    def __init__(self, database_url: str) -> None:
        """Claim the file.

        Raises:
            StartError: another server has it, or it can't be claimed.
        """
        url = parse_database_url(database_url)
        self._descriptor: int | None = None
        if not url.is_sqlite:
            return
        path = Path(f"{url.path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise StartError(
                f"DATABASE_URL: another server uses {url.path}; SQLite takes one process, so use"
                " one worker, or PostgreSQL"
            ) from None
        except OSError as error:
            self.release()
            raise StartError(f"DATABASE_URL: can't lock {path}: {error.strerror}") from error

    def release(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
