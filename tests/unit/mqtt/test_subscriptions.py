"""Who is subscribed to what."""

import collections

from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.codec.topics import match
from heliograph.mqtt.fanout import SubscriptionTree
from unit.mqtt.test_topics import filters, topics

subscriptions = st.tuples(filters, st.integers(0, 3))


@given(st.lists(st.tuples(subscriptions, st.booleans())), st.lists(topics, max_size=5))
def test_the_tree_agrees_with_match(changes, published):
    tree = SubscriptionTree()
    for subscription, _ in changes:
        tree.add(*subscription)
    removed = {subscription for subscription, stays in changes if not stays}
    for subscription in removed:
        tree.remove(*subscription)
        tree.remove(*subscription)
    left = {subscription for subscription, _ in changes} - removed
    assert bool(tree) is bool(left)
    for topic in published:
        expected = collections.Counter(
            subscriber for topic_filter, subscriber in left if match(topic_filter, topic)
        )
        assert collections.Counter(tree.matches(topic)) == expected


def test_removing_a_filter_keeps_those_below_and_beside_it():
    tree = SubscriptionTree()
    for topic_filter in ("a/+", "a/+/b", "a/+/#", "a/+/+"):
        tree.add(topic_filter, topic_filter)
    tree.remove("a/+", "a/+")
    tree.remove("a/+/+", "a/+/+")
    assert sorted(tree.matches("a/x/b")) == ["a/+/#", "a/+/b"]
    assert list(tree.matches("a/x")) == ["a/+/#"]


def test_removing_what_was_never_added_changes_nothing():
    tree = SubscriptionTree()
    tree.add("a/+/b", 1)
    for topic_filter in ("a/+", "a/+/c/#", "x/+", "a/b"):
        tree.remove(topic_filter, 1)
    tree.remove("a/+/b", 2)
    assert list(tree.matches("a/x/b")) == [1]


@given(st.lists(subscriptions), st.randoms(use_true_random=False))
def test_nothing_is_left_of_what_is_removed(added, random):
    tree = SubscriptionTree()
    for subscription in added:
        tree.add(*subscription)
    random.shuffle(added)
    for subscription in added:
        tree.remove(*subscription)
    assert not tree._exact
    assert tree._root is None


def test_a_filter_as_deep_as_a_string_allows():
    tree = SubscriptionTree()
    deep = "a/" * 32_000
    tree.add(deep + "+", 1)
    tree.add(deep + "#", 2)
    assert sorted(tree.matches(deep + "b")) == [1, 2]
    tree.remove(deep + "+", 1)
    tree.remove(deep + "#", 2)
    assert not tree


def test_matches_may_change_the_tree_while_they_are_gone_through():
    tree = SubscriptionTree()
    for subscriber in range(3):
        tree.add("a", subscriber)
        tree.add("+", subscriber)
    for subscriber in tree.matches("a"):
        tree.remove("a", subscriber)
        tree.remove("+", subscriber)
    assert not tree
