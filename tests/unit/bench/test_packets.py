import json

import pytest
from bench.packets import (
    PACKET_IDS,
    chunks,
    connect,
    heartbeat,
    identifier,
    payload,
    puback,
    publish,
    publishes,
    received,
    remaining_length,
    subscribe,
)
from hypothesis import given
from hypothesis import strategies as st


def decoded_length(data: bytes) -> int:
    return sum((byte & 127) << 7 * place for place, byte in enumerate(data))


def test_a_message_of_one_measurement_has_134_bytes_and_three_values():
    message = payload(1_763_684_625_123, 1)
    assert len(message) == 134
    (element,) = json.loads(message)["measurements"]
    assert element["timestamp"] == 1_763_684_625.123
    assert sorted(element["value"]) == ["humidity", "pressure", "temperature"]


def test_the_measurements_of_a_message_have_distinct_times():
    elements = json.loads(payload(1_763_684_625_120, 10))["measurements"]
    assert len({element["timestamp"] for element in elements}) == 10


@given(st.integers(0, 268_435_455))
def test_a_remaining_length_is_one_to_four_bytes_of_seven_bits(size):
    encoded = remaining_length(size)
    assert decoded_length(encoded) == size
    assert 1 <= len(encoded) <= 4
    assert all(byte & 128 for byte in encoded[:-1])
    assert not encoded[-1] & 128


def test_a_publish_carries_topic_packet_id_and_message():
    packet = publish(42, b"{}", 258)
    topic = b"measurements/" + identifier(42).encode()
    assert packet[0] == 0x32
    assert packet[1] == len(packet) - 2
    assert packet[2:] == len(topic).to_bytes(2, "big") + topic + b"\x01\x02{}"


def test_a_connect_is_the_one_of_the_specification():
    expected = b"\x10\x13\x00\x04MQTT\x04\xc2\x02\x58\x00\x01a\x00\x01b\x00\x01c"
    assert connect("a", "b", "c") == expected


def test_a_subscribe_is_the_one_of_the_specification():
    assert subscribe(1, "a/#", 1) == b"\x82\x08\x00\x01\x00\x03a/#\x01"


def test_publishes_go_over_the_sensors_in_turn_and_never_repeat_a_time():
    packets = list(publishes([3, 5], 6, 2, 1_763_684_625_000))
    assert [identifier(3).encode() in packet for packet, _ in packets] == [True, False] * 3
    bodies = [packet[packet.index(b"{") :] for packet, _ in packets]
    times = [m["timestamp"] for body in bodies for m in json.loads(body)["measurements"]]
    assert len(set(times)) == 12


def test_each_publish_comes_with_its_own_puback_and_packet_ids_are_used_again():
    packets = list(publishes([1], PACKET_IDS + 2, 1, 1_763_684_625_000))
    assert packets[0][1] == puback(1)
    assert packets[PACKET_IDS - 1][1] == puback(PACKET_IDS)
    assert packets[PACKET_IDS][1] == puback(1)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_chunks_keep_every_packet_in_order(size):
    packets = [bytes((number,)) for number in range(10)]
    made = chunks(packets, size)
    assert b"".join(data for data, _ in made) == bytes(range(10))
    assert sum(count for _, count in made) == 10
    assert all(len(data) == count <= size for data, count in made)


def test_a_heartbeat_says_that_a_revision_was_applied():
    packet = heartbeat(7, 3, 1_763_684_625.25, 258)
    topic = b"heartbeats/" + identifier(7).encode()
    assert packet[0] == 0x32
    packet_id, message = received(packet[3:])  # over 127 bytes: the length takes two
    assert decoded_length(packet[1:3]) == len(packet) - 3
    assert packet[3:].startswith(len(topic).to_bytes(2, "big") + topic)
    assert packet_id == b"\x01\x02"
    assert json.loads(message) == {
        "heartbeats": [{"revision": 3, "timestamp": 1_763_684_625.25, "success": True}]
    }
