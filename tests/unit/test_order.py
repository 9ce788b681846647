"""The order in which workers try the tests."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from order import spread

TESTS = Path("tests")


class Item:
    """A test of a module."""

    def __init__(self, module: str, number: int) -> None:
        self.path = TESTS / module
        self.nodeid = f"{module}::{number}"


def items() -> list[Any]:
    modules = {
        "acceptance/test_story.py": 4,
        "faults/test_kill.py": 4,
        "faults/test_stop.py": 4,
        "integration/cli/test_serve.py": 4,
        "integration/http/test_ingest.py": 20,
        "integration/http/test_live.py": 20,
        "integration/mqtt/test_will.py": 20,
        "integration/mqtt/test_session.py": 20,
        "unit/test_times.py": 10,
        "unit/test_topics.py": 10,
        "unit/test_urls.py": 10,
        "unit/test_pages.py": 10,
    }
    return [Item(module, number) for module, count in modules.items() for number in range(count)]


def test_each_worker_gets_its_share_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    given = items()
    order = spread(given, TESTS)
    assert Counter(item.nodeid for item in order) == Counter(item.nodeid for item in given)
    size = len(order) // 4
    for worker in range(4):
        part = [
            item.path.relative_to(TESTS).parts
            for item in order[worker * size : (worker + 1) * size]
        ]
        kinds = [
            "waiting" if p[0] in ("acceptance", "faults") or "cli" in p else p[0] for p in part
        ]
        assert Counter(kinds) == {"waiting": 4, "integration": 20, "unit": 10}
        assert kinds[-10:] == ["unit"] * 10


def test_a_module_stays_whole_and_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    order = [item.nodeid for item in spread(items(), TESTS)]
    for module in {nodeid.split("::")[0] for nodeid in order}:
        places = [at for at, nodeid in enumerate(order) if nodeid.startswith(module)]
        assert places == list(range(places[0], places[0] + len(places)))
        assert [order[at] for at in places] == [
            f"{module}::{number}" for number in range(len(places))
        ]


def test_without_workers_the_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    given = items()
    assert spread(given, TESTS) == given
