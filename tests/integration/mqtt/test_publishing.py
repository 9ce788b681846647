"""PUBLISH in all three qualities (MQTT 5, 3.3, 4.3, 4.6): acknowledged after the commit."""

import struct

import pytest

from mqtt_client import (
    PINGREQ,
    PUBREC,
    PUBREL,
    Client,
    connect,
    kept,
    numbered,
    packet,
    publish,
    string,
    subscribe,
    variable,
)
from server import eventually, running


def value(number):
    return b'{"value": %d, "timestamp": 1700000000.%06d}' % (number, number)


async def test_qos_0_is_stored_and_not_answered(server, version):
    """[MQTT-4.3.1-1]."""
    device = await server.device()
    client = await server.connect(device, version=version)
    client.send(publish(device.topic, value(1), qos=0, version=version))
    await eventually(lambda: server.values(device))
    await client.quiet()


async def test_qos_1_is_acknowledged_with_its_id(server, version):
    """[MQTT-4.3.2-4]."""
    device = await server.device()
    client = await server.connect(device, version=version)
    client.send(publish(device.topic, value(1), packet_id=65_535, version=version))
    assert await client.packet() == b"\x40\xff\xff"
    assert await server.values(device) == ["1"]


async def test_qos_1_is_acknowledged_in_the_order_of_receipt(server, version):
    """[MQTT-4.6.0-2]."""
    device = await server.device()
    client = await server.connect(device, version=version)
    bad = b"{"
    ids = [*range(1, 40), *range(900, 800, -3)]
    payloads = [bad if number % 7 == 0 else value(number) for number in ids]
    for packet_id, payload in zip(ids, payloads, strict=True):
        client.send(publish(device.topic, payload, packet_id=packet_id, version=version))
    answers = [await client.packet() for _ in ids]
    assert [answer[1] << 8 | answer[2] for answer in answers] == ids
    reasons = [answer[3] if len(answer) > 3 else 0 for answer in answers]
    assert reasons == [0x99 if payload is bad and version == 5 else 0 for payload in payloads]


async def test_qos_2_is_taken_exactly_once(server, version):
    """[MQTT-4.3.3-8] to [MQTT-4.3.3-12]; the payload has no time: nothing else would notice."""
    device = await server.device()
    client = await server.connect(device, version=version)
    send = publish(device.topic, b'{"value": 1}', qos=2, packet_id=5, version=version)
    again = publish(device.topic, b'{"value": 1}', qos=2, packet_id=5, dup=True, version=version)
    client.send(send)
    assert await client.packet() == b"\x50\0\x05"
    client.send(again)
    assert await client.packet() == b"\x50\0\x05"
    client.send(numbered(PUBREL, 5))
    assert await client.packet() == b"\x70\0\x05"
    assert await server.values(device) == ["1"]
    client.send(send)
    assert await client.packet() == b"\x50\0\x05"
    assert await server.values(device) == ["1", "1"]


async def test_qos_2_is_taken_exactly_once_over_connections(server, version):
    """[MQTT-4.4.0-1]; 4.1: the ids of unfinished exchanges belong to the session."""
    device = await server.device()
    again = publish(device.topic, b'{"value": 1}', qos=2, dup=True, version=version)
    client = await server.connect(device, version=version, **kept(version))
    client.send(publish(device.topic, b'{"value": 1}', qos=2, version=version))
    assert await client.packet() == b"\x50\0\x01"
    for _ in range(2):
        await client.close()
        client = await server.connect(device, version=version, **kept(version))
        assert client.session_present
        client.send(again)
        assert await client.packet() == b"\x50\0\x01"
    client.send(numbered(PUBREL, 1))
    assert await client.packet() == b"\x70\0\x01"
    assert await server.values(device) == ["1"]


async def test_qos_2_committed_while_the_client_was_away(server, version, blocked):
    device = await server.device()
    client = await server.connect(device, version=version, **kept(version))
    async with blocked(server) as started:
        client.send(publish(device.topic, b'{"value": 1}', qos=2, version=version))
        await started.wait()
        await client.close()
        client = await server.connect(device, version=version, **kept(version))
        again = publish(device.topic, b'{"value": 1}', qos=2, dup=True, version=version)
        client.send(again)
        await client.quiet()
    assert await client.packet() == b"\x50\0\x01"
    assert await server.values(device) == ["1"]


async def test_a_clean_session_forgets_unfinished_exchanges(server, version):
    """[MQTT-3.1.2-4]; and PUBREL for what is not known is answered 0x92 (3.7.2.1)."""
    device = await server.device()
    client = await server.connect(device, version=version)
    client.send(publish(device.topic, b'{"value": 1}', qos=2, version=version))
    assert await client.packet() == b"\x50\0\x01"
    await client.close()
    client = await server.connect(device, version=version)
    client.send(numbered(PUBREL, 1))
    assert await client.packet() == b"\x70\0\x01" + (b"\x92" if version == 5 else b"")


async def test_a_refused_qos_2_message_ends_its_exchange(server):
    """[MQTT-4.3.3-4]: after a PUBREC with an error its packet id is free."""
    device = await server.device()
    client = await server.connect(device, version=5)
    for reason, payload in ((0x99, b"{"), (0x99, b"{"), (0, value(1))):
        client.send(publish(device.topic, payload, qos=2, version=5))
        answer = await client.packet()
        assert answer[:3] == b"\x50\0\x01"
        assert (answer[3] if len(answer) > 3 else 0) == reason
    assert len(await server.rejected()) == 2


async def test_nothing_is_sent_at_qos_2_so_nothing_is_released(server, version):
    """[MQTT-4.3.3-5]; 3.6.2.1."""
    client = await server.admin(version=version)
    client.send(numbered(PUBREC, 9))
    assert await client.packet() == b"\x62\0\x09" + (b"\x92" if version == 5 else b"")


async def test_a_pubrec_with_an_error_is_answered_by_nothing(server):
    """[MQTT-4.3.3-4]: whatever its packet id, nothing is left to release."""
    client = await server.admin(version=5)
    for reason in (b"\x80", b"\x97", b"\x83\0"):
        client.send(numbered(PUBREC, 9, reason))
    await client.quiet()


@pytest.mark.parametrize("qos", [1, 2])
async def test_nothing_is_acknowledged_before_its_commit(server, version, blocked, qos):
    device = await server.device()
    client = await server.connect(device, version=version)
    other = await server.admin(version=version)
    async with blocked(server) as started:
        client.send(publish(device.topic, value(1), qos=qos, version=version))
        await started.wait()
        await client.quiet()
        other.send(subscribe("measurements/#", version=version))
        assert (await other.packet())[0] == 0x90
        await other.quiet()
        assert await server.values(device) == []
    assert await client.packet() == bytes([0x40 if qos == 1 else 0x50, 0, 1])
    assert await server.values(device) == ["1"]


async def test_an_acknowledgment_does_not_cross_to_another_connection(server, version, blocked):
    """A packet id means something else there; the client repeats what was not acknowledged."""
    device = await server.device()
    client = await server.connect(device, version=version, **kept(version))
    async with blocked(server) as started:
        client.send(publish(device.topic, value(1), version=version))
        await started.wait()
        await client.close()
        client = await server.connect(device, version=version, **kept(version))
    await eventually(lambda: server.state.depth == 0)
    await client.quiet()
    client.send(publish(device.topic, value(1), dup=True, version=version))
    assert await client.packet() == b"\x40\0\x01"
    assert await server.values(device) == ["1"]


async def test_a_redelivery_without_a_time_is_stored_once(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    for dup in (False, True, True):
        client.send(publish(device.topic, b'{"value": 1}', dup=dup, version=version))
        assert await client.packet() == b"\x40\0\x01"
    assert await server.values(device) == ["1"]
    client.send(publish(device.topic, b'{"value": 1}', version=version))
    assert await client.packet() == b"\x40\0\x01"
    assert await server.values(device) == ["1", "1"]


async def test_a_redelivery_in_one_write_is_stored_once(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    first = publish(device.topic, b'{"value": 1}', version=version)
    again = publish(device.topic, b'{"value": 1}', dup=True, version=version)
    client.send(first + again + again)
    assert [await client.packet() for _ in range(3)] == [b"\x40\0\x01"] * 3
    assert await server.values(device) == ["1"]


async def test_a_redelivery_is_known_after_a_restart(tmp_path, version):
    """The ledger of deliveries is written in the transaction of what it speaks of."""
    topic = "measurements/device-1"
    async with running(tmp_path) as server:
        device = await server.device()
        client = await server.connect(device, version=version, **kept(version))
        for packet_id, payload in ((1, b'{"value": 1}'), (2, b"{")):
            client.send(publish(topic, payload, packet_id=packet_id, version=version))
            await client.packet()
    async with running(tmp_path) as server:
        client = await server.connect(device, version=version, **kept(version))
        assert not client.session_present
        for packet_id, payload in ((1, b'{"value": 1}'), (2, b"{")):
            again = publish(topic, payload, packet_id=packet_id, dup=True, version=version)
            client.send(again)
            assert (await client.packet())[:3] == bytes([0x40, 0, packet_id])
        assert await server.values(device) == ["1"]
        assert len(await server.rejected()) == 1


async def test_retain_on_a_measurement_is_accepted_and_ignored(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    client.send(publish(device.topic, value(1), retain=True, version=version))
    assert await client.packet() == b"\x40\0\x01"
    client.send(subscribe(device.topic, version=version))
    assert (await client.packet())[0] == 0x90
    await client.quiet()


async def test_aliases_stand_for_topics(server):
    """[MQTT-3.3.2-12]; an alias may be set anew."""
    one = await server.device("one")
    client = await server.connect(one, version=5)

    def aliased(alias, topic, payload):
        properties = b"\x23" + struct.pack(">H", alias)
        return publish(topic, payload, version=5, properties=properties)

    logs = f"logs/{one.device_id}"
    client.send(
        aliased(1, one.topic, value(1))
        + aliased(64, logs, b'{"severity": "info", "subject": "a"}')
        + aliased(1, "", value(2))
        + aliased(64, one.topic, value(3))
        + aliased(64, "", value(4))
    )
    assert [await client.packet() for _ in range(5)] == [b"\x40\0\x01"] * 5
    assert await server.values(one) == ["1", "2", "3", "4"]


async def test_no_alias_is_for_a_topic_longer_than_any(server):
    """[MQTT-3.3.2-12]: 64 of 65,535 bytes would be 4 MiB for a connection."""
    client = await server.admin(version=5)
    long = "measurements/" + "x" * 300
    client.send(publish(long, b"", version=5))
    assert (await client.packet())[3] == 0x87
    client.send(publish(long, b"", packet_id=2, version=5, properties=b"\x23\0\1"))
    assert (await client.packet())[:2] == b"\xe0\x90"


async def test_aliases_end_with_their_connection(server):
    """[MQTT-3.3.2-7]."""
    device = await server.device()
    client = await server.connect(device, version=5, **kept(5))
    client.send(publish(device.topic, value(1), version=5, properties=b"\x23\0\x01"))
    assert await client.packet() == b"\x40\0\x01"
    await client.close()
    client = await server.connect(device, version=5, **kept(5))
    client.send(publish("", value(2), version=5, properties=b"\x23\0\x01"))
    assert (await client.packet())[:2] == b"\xe0\x82"


async def test_properties_of_a_message_are_accepted(server):
    device = await server.device()
    client = await server.connect(device, version=5)
    properties = (
        b"\x01\x01\x02\0\0\0\x09\x03"
        + string("application/json")
        + b"\x08"
        + string("answers")
        + b"\x09"
        + string(b"\0\1")
        + (b"\x26" + string("a") + string("b")) * 2
    )
    client.send(publish(device.topic, value(1), version=5, properties=properties))
    assert await client.packet() == b"\x40\0\x01"


async def test_more_in_flight_than_the_receive_maximum(tmp_path, blocked):
    """[MQTT-3.3.4-7], [MQTT-3.3.4-8]; what was over it is taken when it comes again."""
    async with running(tmp_path, mqtt_receive_maximum=3) as server:
        device = await server.device()
        client = await Client.open(server.port, 5)
        client.send(connect("c", device.device_id, device.key, version=5, **kept(5)))
        assert (await client.parsed()).receive_max == 3
        async with blocked(server) as started:
            for packet_id in range(1, 5):
                client.send(
                    publish(device.topic, value(packet_id), qos=2, packet_id=packet_id, version=5)
                )
            await started.wait()
            assert (await client.packet())[:2] == b"\xe0\x93"
        await eventually(lambda: server.state.depth == 0)
        client = await server.connect(device, "c", version=5, **kept(5))
        for packet_id in range(1, 5):
            again = publish(
                device.topic, value(packet_id), qos=2, packet_id=packet_id, dup=True, version=5
            )
            client.send(again)
            assert await client.packet() == bytes([0x50, 0, packet_id])
            client.send(numbered(PUBREL, packet_id))
            assert await client.packet() == bytes([0x70, 0, packet_id])
        assert await server.values(device) == ["1", "2", "3", "4"]


async def test_pubrel_before_the_commit_is_a_protocol_error(server, version, blocked):
    """There was no PUBREC, and a PUBCOMP would say that the message is safe."""
    device = await server.device()
    client = await server.connect(device, version=version)
    async with blocked(server) as started:
        client.send(publish(device.topic, value(1), qos=2, packet_id=1, version=version))
        await started.wait()
        client.send(numbered(PUBREL, 1))
        assert (await client.packet())[:2] == (b"\xe0\x82" if version == 5 else b"")


async def test_the_receive_maximum_counts_only_what_is_not_acknowledged(tmp_path):
    async with running(tmp_path, mqtt_receive_maximum=2) as server:
        device = await server.device()
        client = await server.connect(device, version=5)
        for number in range(1, 20):
            qos = 1 + number % 2
            client.send(publish(device.topic, value(number), qos=qos, version=5))
            assert (await client.packet())[0] == 0x30 + 0x10 * qos
            if qos == 2:
                client.send(numbered(PUBREL, 1))
                assert await client.packet() == b"\x70\0\x01"
        assert len(await server.values(device)) == 19


@pytest.mark.parametrize("size", [1_200_000, 20 << 20])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_oversize_payload_is_streamed_past(server, version, size, qos):
    device = await server.device()
    client = await server.connect(device, version=version)
    payload = b'{"value": "' + b"x" * size
    client.send(publish(device.topic, payload, qos=qos, packet_id=7, version=version))
    client.send(publish(device.topic, value(1), packet_id=8, version=version))
    if qos:
        answer = await client.packet()
        assert answer[:3] == bytes([0x30 + 0x10 * qos, 0, 7])
        assert (answer[3] if len(answer) > 3 else 0) == (0x99 if version == 5 else 0)
    assert await client.packet() == b"\x40\0\x08"
    (rejected,) = await server.rejected()
    assert rejected.reason == "TOO_LARGE"
    assert rejected.size == len(payload)
    assert rejected.payload == payload[: 64 << 10]
    assert await server.values(device) == ["1"]


async def test_a_payload_of_exactly_one_mebibyte_is_taken(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    payload = b'{"value": "' + b"x" * ((1 << 20) - 13) + b'"}'
    assert len(payload) == 1 << 20
    client.send(publish(device.topic, payload, version=version))
    assert await client.packet() == b"\x40\0\x01"
    client.send(publish(device.topic, payload + b" ", version=version))
    assert (await client.packet())[:3] == b"\x40\0\x01"
    assert len(await server.values(device)) == 1
    (rejected,) = await server.rejected()
    assert (rejected.reason, rejected.size) == ("TOO_LARGE", (1 << 20) + 1)


async def test_a_packet_may_come_byte_by_byte(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    data = publish(device.topic, value(1), version=version) + PINGREQ
    for at in range(len(data)):
        client.send(data[at : at + 1])
        await client.writer.drain()
    assert {(await client.packet())[0] for _ in range(2)} == {0x40, 0xD0}


async def test_an_unfinished_oversize_packet_leaves_nothing(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    client.send(b"\x32" + variable(50 << 20) + string(device.topic) + b"\0\1" + b"x" * (2 << 20))
    await client.writer.drain()
    await client.close()
    await eventually(lambda: server.listener.connections == 0)
    assert await server.rejected() == []


def test_packet_of_the_specification():
    """The client that these tests trust writes what the specification prints."""
    assert publish("a/b", b"", packet_id=10) == b"\x32\x07\x00\x03a/b\x00\x0a"
    assert packet(0x30, b"x" * 321)[:3] == b"\x30\xc1\x02"
