"""What comes late or twice: every message once, and so many of them again."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.simulator.disorder import MOST_TURNS, Disorder

shares = st.sampled_from([0.0, 0.05, 0.5, 1.0])


def sent(count, **options):
    """Return what comes out after each of so many messages, and at the end."""
    disorder = Disorder(**{"seed": 1, "turn": 3, **options})
    return [list(disorder.take(number)) for number in range(count)] + [list(disorder.rest())]


@given(st.integers(0, 300), shares, shares, st.integers(1, 20), st.integers())
def test_nothing_is_lost_and_what_comes_again_says_so(count, late, repeated, turn, seed):
    after = sent(count, late=late, repeated=repeated, turn=turn, seed=seed)
    every = list(chain.from_iterable(after))
    originals = [sending.message for sending in every if not sending.is_repeat]
    repeats = [sending.message for sending in every if sending.is_repeat]
    assert sorted(originals) == list(range(count))
    assert max(Counter(repeats).values(), default=0) <= 1
    # A repeat comes after what it repeats.
    seen = set()
    for sending in every:
        assert sending.is_repeat == (sending.message in seen)
        seen.add(sending.message)


@given(st.integers(1, 10))
def test_what_is_late_is_so_by_turns(turn):
    after = sent(400, late=0.3, repeated=0.0, turn=turn)
    for number, sendings in enumerate(after[:-1]):
        for sending in sendings:
            behind = number - sending.message
            assert sending.is_late == (behind > 0)
            assert behind == 0 or turn <= behind <= MOST_TURNS * turn


def test_without_shares_the_order_is_kept():
    assert [len(sendings) for sendings in sent(50, late=0.0, repeated=0.0)] == [1] * 50 + [0]


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_shares_are_those_asked_for(share):
    every = list(chain.from_iterable(sent(20_000, late=share, repeated=share)))
    for kind in ("is_late", "is_repeat"):
        count = sum(getattr(sending, kind) for sending in every)
        assert 0.8 * share < count / 20_000 < 1.2 * share


def test_the_same_seed_brings_the_same():
    options = {"late": 0.2, "repeated": 0.2}
    assert sent(500, **options) == sent(500, **options)
    assert sent(500, **options) != sent(500, **options | {"seed": 2})
