"""How much memory there is for this process.

It knows of Linux and of nothing of the server's, and is tested with other files in place of those
of the system: so it is a file of its own.
"""

import os
from pathlib import Path

_CGROUP = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")


def usable_memory(cgroup: Path = _CGROUP, mounted: Path = _MOUNTED) -> int:
    """Return the bytes of memory that this process may use: the machine's, or less by a cgroup's.

    Only cgroups of version 2 are looked at, this one and those above it.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        if not line.startswith("0::/"):
            continue
        own = Path(line.removeprefix("0::/"))
        for folder in (own, *own.parents):
            try:
                found = min(found, int((mounted / folder / "memory.max").read_text()))
            except (OSError, ValueError):  # there is none, or it says "max"
                continue
    return found
