import pytest

from heliograph.ingest import rejections
from heliograph.ingest.rejections import RejectionBudget
from heliograph.model.time import HOUR

NOON = 491_244 * HOUR


@pytest.fixture
def budget():
    return RejectionBudget(per_source_per_hour=2, maximum_bytes=100)


def test_a_source_has_so_many_an_hour(budget):
    assert [budget.admit("a", 1, NOON) for _ in range(4)] == [True, True, False, False]
    assert budget.admit("b", 1, NOON)
    assert not budget.admit("a", 1, NOON + HOUR - 1)
    assert budget.admit("a", 1, NOON + HOUR)


def test_all_sources_share_so_many_bytes(budget):
    assert budget.admit("a", 60, NOON)
    assert not budget.admit("b", 41, NOON)
    assert budget.admit("b", 40, NOON)
    assert budget.kept_bytes == 100
    # An hour frees no bytes: only what is pruned does.
    assert not budget.admit("c", 1, NOON + HOUR)
    budget.kept_bytes = 0
    assert budget.admit("c", 1, NOON + HOUR)


def test_what_is_refused_does_not_count(budget):
    assert not budget.admit("a", 101, NOON)
    assert [budget.admit("a", 1, NOON) for _ in range(3)] == [True, True, False]
    assert budget.kept_bytes == 2


def test_sources_are_bounded(budget, monkeypatch):
    monkeypatch.setattr(rejections, "MAXIMUM_SOURCES", 2)
    assert budget.admit("a", 1, NOON)
    assert budget.admit("b", 1, NOON)
    assert not budget.admit("c", 1, NOON)
    assert budget.admit("a", 1, NOON)
    assert budget.admit("c", 1, NOON + HOUR)


def test_none_at_all():
    assert not RejectionBudget(per_source_per_hour=0, maximum_bytes=100).admit("a", 1, NOON)
