"""One server a SQLite file: two would hand out the same ingest ids."""

import os
from pathlib import Path

import structlog

from heliograph.database_url import parse_database_url
from heliograph.errors import StartError
from heliograph.store.sqlite_generation import Identity, admit, identity_of, is_open_here, lock_soon

log = structlog.get_logger()

_claimed_here: set[Identity] = set()


class InUseError(StartError):
    """Another server has the file."""


class Claim:
    """Holds a SQLite file for one server; the system lets go of it when the process ends.

    It holds device and inode, so that no second server gets at the file by another name. It
    lets nothing but the file itself be opened: not one beside another's write-ahead log.
    Commands that change the registry beside a running server need no claim.
    """

    def __init__(self, database_url: str, *, accept_empty: bool = False) -> None:
        """Claim the file, which is made where there is none.

        Raises:
            StartError: another server has it, it can't be claimed, or it does not belong to the
                write-ahead log beside it.
        """
        url = parse_database_url(database_url)
        # Closing one would drop SQLite's locks: all are kept until the store is closed.
        self._descriptors: dict[Identity, int] = {}
        self._generations: dict[Identity, int | None] = {}
        # What was claimed last.
        self.newest: Identity | None = None
        if not url.is_sqlite:
            return
        try:
            url.path.parent.mkdir(parents=True, exist_ok=True)
            self.take(url.path, accept_empty=accept_empty, create=True)
        except OSError as error:
            self.release()
            raise StartError(f"DATABASE_URL: can't claim {url.path}: {error.strerror}") from error
        except StartError:
            self.release()
            raise

    def take(self, path: Path, *, accept_empty: bool = False, create: bool = False) -> Identity:
        """Claim what is at the path now: another file, if one was put there.

        Raises:
            StartError: another server has it, or it does not belong to the log beside it.
            OSError: it can't be opened or locked.
        """
        if create and not path.exists():
            admit(path)
            # It holds what devices said, and hashes of their keys: nobody else's to read.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        identity = identity_of(path)
        if identity == self.newest:
            return identity
        if identity in self._descriptors:
            # There may be readers of it, so that its header can't be looked at.
            raise StartError(f"{path} was put in place again: restart the server to use it")
        if identity in _claimed_here:
            raise _in_use(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if not lock_soon(descriptor):
            os.close(descriptor)
            raise _in_use(path)
        status = os.fstat(descriptor)
        identity = status.st_dev, status.st_ino
        self._descriptors[identity] = descriptor
        _claimed_here.add(identity)
        if status.st_nlink > 1:
            log.warning("database file with several names", file=str(path))
        if not is_open_here(identity):
            try:
                self._generations[identity] = admit(
                    path, accept_empty=accept_empty, for_server=True
                )
            except BaseException:
                _claimed_here.discard(identity)
                os.close(self._descriptors.pop(identity))
                raise
        self.newest = identity
        return identity

    def generation(self, identity: Identity) -> int | None:
        """Return what a claimed file's header said, the first time that it is asked for."""
        return self._generations.pop(identity, None)

    def release(self) -> None:
        """Let go of the file."""
        for identity, descriptor in self._descriptors.items():
            _claimed_here.discard(identity)
            os.close(descriptor)
        self._descriptors.clear()
        self.newest = None


def _in_use(path: Path) -> InUseError:
    return InUseError(
        f"DATABASE_URL: another server uses {path}; SQLite takes one process, so use one worker,"
        " or PostgreSQL"
    )
