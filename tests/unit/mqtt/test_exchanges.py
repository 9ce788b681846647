"""QoS 2 exchanges by their packet ids."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.session import Exchanges

ids = st.one_of(st.integers(1, 65_535), st.sampled_from([1, 255, 256, 257, 65_535]))


@given(st.lists(st.tuples(st.sampled_from(["begin", "commit", "end"]), ids)))
def test_they_are_as_a_dictionary_would_have_them(steps):
    exchanges, expected = Exchanges(), {}
    for step, packet_id in steps:
        assert exchanges.is_committed(packet_id) is expected.get(packet_id)
        if step == "end":
            assert exchanges.end(packet_id) is (expected.pop(packet_id, None) is not None)
        elif step == "begin" and packet_id not in expected:
            exchanges.begin(packet_id)
            expected[packet_id] = False
        elif step == "commit" and packet_id in expected:
            exchanges.commit(packet_id)
            expected[packet_id] = True
        assert exchanges.is_committed(packet_id) is expected.get(packet_id)
        assert len(exchanges) == len(expected)
    for packet_id in expected:
        assert exchanges.end(packet_id)
    assert not exchanges._pages


def test_all_that_there_can_be_take_little():
    """In a dictionary 10 MiB, for each of a user's 100 sessions."""
    exchanges = Exchanges()
    for packet_id in range(1, 65_536):
        exchanges.begin(packet_id)
        exchanges.commit(packet_id)
    assert len(exchanges) == 65_535
    held = sys.getsizeof(exchanges._pages) + sum(map(sys.getsizeof, exchanges._pages.values()))
    assert held < 100 << 10
