"""Files that are written whole or not at all, and are on the disk then."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def create_private_file(path: Path, text: str) -> bool:
    """Make a file that its owner alone may read; False: there is one already.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, text.encode()) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    return True


def replace_file(
    path: Path, data: bytes, *, mode: int = 0o600, owner: int = -1, group: int = -1
) -> None:
    """Put a file with these bytes in the path's place.

    It belongs to the owner and the group (-1: our own) as far as we may set them.

    Raises:
        OSError: it can't be; what was there is still there.
    """
    with _draft(path, data) as draft:
        # Not being root we may give it to a group that we are in, if at all. Not every file system
        # has owners, nor every container all of them.
        for user in (owner, -1):
            with contextlib.suppress(OSError):
                os.chown(draft, user, group)
                break
        draft.chmod(mode)
        draft.replace(path)
    # Some file systems (SMB, say) can't: then SQLite does without, too.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """Write a private file beside the path, which is gone at the end unless it was moved."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
