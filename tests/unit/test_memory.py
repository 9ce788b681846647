"""How much memory there is: the machine's, or what a cgroup leaves."""

import os

import pytest

from heliograph.memory import usable_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("own", "limits", "usable"),
    [
        ("0::/a/b\n", {"a": "max", "a/b": "1048576"}, 1 << 20),
        ("0::/a/b\n", {"a": "1048576", "a/b": "max"}, 1 << 20),
        ("0::/\n", {"": "1048576"}, 1 << 20),
        ("0::/a\n", {"a": "max"}, MACHINE),
        ("0::/a\n", {"a": str(MACHINE * 2)}, MACHINE),
        ("1:memory:/a\n", {"a": "1048576"}, MACHINE),
        (None, {}, MACHINE),
    ],
)
def test_the_least_limit_counts(tmp_path, own, limits, usable):
    cgroup = tmp_path / "cgroup"
    if own is not None:
        cgroup.write_text(own)
    for folder, text in limits.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "memory.max").write_text(text + "\n")
    assert usable_memory(cgroup, tmp_path) == usable
