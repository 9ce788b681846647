"""`python confined.py UNIT COMMAND…`: a command that may call of the system what a unit allows.

As systemd does it by seccomp, without systemd. As the unit's user is not root, the command is not:
where the tests are it takes itself for user 1000.
"""

import ctypes
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | 1  # EPERM
UNKNOWN = -1
PR_SET_MDWE = 65


def command(unit: Path, *arguments: str) -> list[str]:
    """Return what runs this confined as the unit's service is."""
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    prefix = as_user if os.geteuid() == 0 else []
    return [*prefix, sys.executable, __file__, str(unit), *arguments]


def allowed(unit: str) -> set[str]:
    """Return the names of the system calls that a unit's text allows."""
    names = set(members("@default"))
    for sign, words in re.findall(r"^SystemCallFilter=(~?)(.*)$", unit, re.MULTILINE):
        told = {name for word in words.split() for name in members(word)}
        names = names - told if sign else names | told
    return names


@functools.cache
def members(word: str) -> frozenset[str]:
    """Return the system calls of a group, or the one that is named."""
    if not word.startswith("@"):
        return frozenset({word})
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", word],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    inner = re.findall(r"^ +([@\w-]+)$", listed.stdout, re.MULTILINE)
    return frozenset().union(*map(members, inner))


def confine(unit: str) -> None:
    """Allow this process, and what it becomes, no more than the unit does."""
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(REFUSE))
    for name in sorted(allowed(unit)):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN:
            # Some are of other machines alone.
            seccomp.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), number, 0)
    if "MemoryDenyWriteExecute=yes" in unit:
        # Linux before 6.3 has it not.
        ctypes.CDLL(None).prctl(PR_SET_MDWE, 1, 0, 0, 0)
    if seccomp.seccomp_load(context):
        raise OSError(ctypes.get_errno(), "seccomp_load")


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - its own words
