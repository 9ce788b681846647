"""Passwords that somebody who guesses tries first, and names that are not given to everybody."""

import functools
import runpy
from importlib import metadata

from heliograph.model.lookalikes import looks

# What zxcvbn, which brings the list, estimates besides is not asked for: only what can be told
# plainly is refused.
_PACKAGE, _LISTS = "zxcvbn", "zxcvbn/frequency_lists.py"
_OWN = "heliograph"

# Nobody may sign up in production as who would be taken for the server's administrator.
_RESERVED = ("admin", "administrator", "root")


@functools.cache
def _commonest() -> frozenset[str]:
    # Run for itself: imported, all its lists would stay in memory, 14 MiB instead of 3.
    path = metadata.distribution(_PACKAGE).locate_file(_LISTS)
    lists: dict[str, list[str]] = runpy.run_path(str(path))["FREQUENCY_LISTS"]
    return frozenset(lists["passwords"])


def weakness(password: str, username: str) -> str | None:
    """Return what makes the password easy to guess; None: nothing that is known.

    The first call takes a tenth of a second.
    """
    folded = password.casefold()
    if folded == _OWN:
        return "is the program's name"
    if folded == username.casefold():
        return "is the user name"
    return "is one of the commonest passwords" if folded in _commonest() else None


def looks_reserved(username: str) -> bool:
    """Return whether the name looks like an administrator's, `Admin` say."""
    own = looks(username)
    return any(own & looks(name) for name in _RESERVED)
