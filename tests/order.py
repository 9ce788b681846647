"""The order in which a run tries its tests, so that several workers are busy until its end."""

import os
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest

# What starts, kills and waits for servers: it leaves the processors idle for most of its time.
_WAITING = (("acceptance",), ("faults",), ("integration", "cli"))


def spread(items: list[pytest.Item], tests: Path) -> list[pytest.Item]:
    """Return the items so that each worker's share waits and computes in turn, and ends quickly.

    pytest-xdist hands each worker an equal part of the list. In the order of folders one worker
    would get all that waits, and the run would end with it. Here each part has its modules of
    waiting tests between those of the others, and unit tests at its end. A module stays whole.
    Without workers the order is kept.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return items
    modules: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        modules[item.path].append(item)
    kinds: dict[str, list[list[pytest.Item]]] = {"waiting": [], "computing": [], "unit": []}
    for path, module in modules.items():
        folders = path.relative_to(tests).parts
        waiting = any(folders[: len(prefix)] == prefix for prefix in _WAITING)
        kinds["waiting" if waiting else "unit" if folders[0] == "unit" else "computing"].append(
            module
        )
    parts = (_dealt(kind, workers) for kind in kinds.values())
    return [
        item
        for waiting, computing, unit in zip(*parts, strict=True)
        for module in chain(_interleaved(waiting, computing), unit)
        for item in module
    ]


def _dealt(modules: list[list[pytest.Item]], workers: int) -> list[list[list[pytest.Item]]]:
    """Deal modules to workers, the largest first, each to who has the fewest tests so far."""
    hands: list[list[list[pytest.Item]]] = [[] for _ in range(workers)]
    for module in sorted(modules, key=len, reverse=True):
        min(hands, key=lambda hand: sum(map(len, hand))).append(module)
    return hands


def _interleaved(
    some: list[list[pytest.Item]], others: list[list[pytest.Item]]
) -> Iterable[list[pytest.Item]]:
    """Return both lists as one, in which each is spread evenly."""
    placed = [
        ((at + 0.5) / len(hand), module)
        for hand in (some, others)
        for at, module in enumerate(hand)
    ]
    return [module for _, module in sorted(placed, key=lambda place: place[0])]
