"""What devices are called, and ingest ids."""

import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.ingest.batch import IngestIds
from heliograph.model.identifiers import (
    GREATEST_INGEST_ID,
    INGEST_ID_STEP,
    MAXIMUM_INSTANCE,
    first_ingest_id,
    ingest_id_time,
    is_device_id,
    is_uuid,
)

UUID = "5e1f3b7a-0c2d-4e6f-8a9b-0123456789ab"
# Until 2109-05-15, when 63 bits are used up.
times = st.integers(0, 4_398_046_511_103_999)
instances = st.integers(0, MAXIMUM_INSTANCE)


class TestNames:
    @pytest.mark.parametrize("name", ["a", "A_b-9", "x" * 64, UUID[:-1], UUID.replace("-", "")])
    def test_slug_is_a_device_id(self, name):
        assert is_device_id(name)

    @pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "é", "a\n", "+", UUID, "٣"])
    def test_anything_else_is_none(self, name):
        assert not is_device_id(name)

    @pytest.mark.parametrize("text", [UUID, UUID.upper(), str(uuid.UUID(int=0))])
    def test_uuid_is_of_any_case(self, text):
        assert is_uuid(text)

    @pytest.mark.parametrize(
        "text",
        [
            "", UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID[:-1] + "g",
            UUID.replace("-", "_"), UUID + "\n", UUID.replace("-", "", 1) + "0",
            UUID.replace("5", "\N{ARABIC-INDIC DIGIT FIVE}"),
        ],
    )  # fmt: skip
    def test_only_the_canonical_form_is_a_uuid(self, text):
        assert not is_uuid(text)


class TestIngestIds:
    def test_times_without_ids_have_the_least_or_the_greatest(self):
        assert first_ingest_id(-1) == first_ingest_id(-(1 << 62)) == 0
        assert first_ingest_id(4_398_046_511_103_999) < GREATEST_INGEST_ID
        assert first_ingest_id(1 << 62) == GREATEST_INGEST_ID

    @given(st.lists(st.tuples(times, st.integers(0, 5_000)), max_size=30), instances, times)
    def test_ids_increase_whatever_the_clock_does(self, steps, instance, last_time):
        ids = IngestIds(instance, last=last_time // 1_000 << 21 | 77)
        newest = ids.last
        for now, count in steps:
            first = ids.take(now, count)
            assert first > newest
            if count:
                newest = first + (count - 1) * INGEST_ID_STEP
            assert newest & MAXIMUM_INSTANCE == instance or newest == last_time // 1_000 << 21 | 77
            assert newest < 2**63 + 2**40

    @given(times, instances)
    def test_id_tells_its_millisecond(self, now, instance):
        identifier = IngestIds(instance).take(now, 1) if now >= 1_000 else (now // 1_000) << 21
        assert 0 <= identifier < 2**63
        assert ingest_id_time(identifier) == now // 1_000 * 1_000

    def test_looking_takes_nothing(self):
        ids = IngestIds(3)
        last = ids.last
        assert ids.take(5_000_000, 0) == ids.take(5_000_000, 0) == 5_000 << 21 | 3
        assert ids.last == last

    def test_millisecond_has_many_ids(self):
        ids = IngestIds(3)
        first = ids.take(5_000_000, 1)
        assert ids.take(5_000_000, 1) == first + INGEST_ID_STEP

    def test_overflowing_sequence_borrows_from_the_next_millisecond(self):
        ids = IngestIds(3)
        ids.take(5_000_000, 4_096)
        after = ids.take(5_000_000, 1)
        assert after == 5_001 << 21 | 3
        assert after & MAXIMUM_INSTANCE == 3

    def test_instances_never_share_an_id(self):
        one, other = IngestIds(1), IngestIds(2)
        taken = set()
        for ids in (one, other):
            first = ids.take(5_000_000, 5_000)
            taken |= {first + number * INGEST_ID_STEP for number in range(5_000)}
        assert len(taken) == 10_000

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from(["take", "take", "take", "lose"]),
                st.integers(0, 40),
                st.integers(1, 5_000),
            ),
            max_size=40,
        ),
        st.lists(st.integers(-500_000, 500_000), min_size=4, max_size=4),
    )
    def test_servers_that_lease_their_numbers_never_make_the_same_id(self, steps, skews):
        # Each step is a server's, whose clock is off by up to half a second; one that loses its
        # number goes on with the least one that nobody has had for a while.
        numbers = itertools.count(4)
        servers = [IngestIds(number) for number in range(4)]
        made, newest, moment = set(), [0] * 4, 1_768_478_400_000_000
        for at, step, passed, count in steps:
            moment += passed * 100
            ids = servers[at]
            if step == "lose":
                ids.move(next(numbers), max(made, default=0))
                continue
            first = ids.take(moment + skews[at], count)
            given = range(first, first + count * INGEST_ID_STEP, INGEST_ID_STEP)
            assert given[0] > newest[at]
            newest[at] = given[-1]
            assert {row_id & MAXIMUM_INSTANCE for row_id in given} == {ids.instance}
            assert made.isdisjoint(given)
            made.update(given)
