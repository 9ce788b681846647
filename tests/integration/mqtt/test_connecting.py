"""CONNECT and CONNACK (MQTT 5, 3.1 and 3.2), and who owns a client id."""

import io
import struct

import pytest

from heliograph import logs
from mqtt_client import Client, connect, kept, packet, publish, string, subscribe
from server import ADMIN_KEY, eventually


def head(name="MQTT", level=4, flags=0x02):
    return string(name) + bytes([level, flags]) + struct.pack(">H", 60)


async def refused(server, data, version=5):
    """Return the reason in the CONNACK that refuses a client; None if nothing is said."""
    client = await Client.open(server.port, version)
    client.send(data)
    answer = await client.packet()
    if not answer:
        return None
    assert answer[0] == 0x20
    assert answer[1] == 0, "a refusal says that a session is present [MQTT-3.2.2-6]"
    assert await client.packet() == b"", "the connection stays open [MQTT-3.2.2-7]"
    return answer[2]


async def test_connack_is_the_first_packet_and_says_what_is_there(server):
    """[MQTT-3.2.0-1]; 3.2.2.3."""
    client = await Client.open(server.port, 5)
    client.send(connect("c", "admin", ADMIN_KEY, version=5))
    answer = await client.parsed()
    assert answer.reason_code == 0
    assert not answer.session_present
    assert answer.receive_max == 65_535
    assert answer.topic_alias_max == 64
    assert answer.subscription_id_available
    assert not answer.shared_subscription_available
    assert answer.assigned_client_id is None


@pytest.mark.parametrize(
    "first",
    [
        publish("measurements/a", b"1"),
        b"\xc0\x00",
        subscribe("#"),
        publish("measurements/a", b"1" * 99)[:20],
        publish("measurements/a", b"1" * (3 << 20))[:20],
        subscribe("#" * 99)[:20],
    ],
    ids=["PUBLISH", "PINGREQ", "SUBSCRIBE", "half a PUBLISH", "a huge one", "half a SUBSCRIBE"],
)
async def test_the_first_packet_must_be_connect(server, first):
    """[MQTT-3.1.0-1]."""
    client = await Client.open(server.port)
    client.send(first)
    assert await client.packet() == b""
    # At once, not for being slow to connect.
    assert server.listener.counts.refusals == {"PROTOCOL_ERROR": 1}


async def test_a_second_connect_is_a_protocol_error(server, version):
    """[MQTT-3.1.0-2]."""
    client = await server.admin(version=version)
    client.send(connect("other", "admin", ADMIN_KEY, version=version))
    answer = await client.packet()
    assert answer == (b"" if version == 4 else b"\xe0\x82" + answer[2:])


async def test_another_protocol_or_version_is_refused(server):
    """[MQTT-3.1.2-1], [MQTT-3.1.2-2]."""
    rest = string("c")
    assert await refused(server, packet(0x10, head("MQIsdp", 3) + rest), 4) == 1
    assert await refused(server, packet(0x10, head("MQTT", 3) + rest), 4) == 1
    assert await refused(server, packet(0x10, head("MQTT", 6) + b"\0" + rest)) == 0x84
    assert await refused(server, packet(0x10, head("HTTP", 4) + rest)) is None
    assert await refused(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") is None


async def test_bad_connect_flags_are_malformed(server, version):
    for case, flags in {
        "3.1.2-3 reserved": 0x03,
        "3.1.2-12 QoS 3": 0x1E,
        "3.1.2-11 QoS without will": 0x0A,
        "3.1.2-13 retain": 0x22,
    }.items():
        data = packet(0x10, head(level=version, flags=flags) + b"\0" * (version == 5) + string("c"))
        assert await refused(server, data) == (None if version == 4 else 0x81), case


async def test_an_empty_client_id_gets_one_assigned(server, version):
    """[MQTT-3.1.3-6], [MQTT-3.2.2-16]."""
    first = await Client.open(server.port, version)
    first.send(connect("", "admin", ADMIN_KEY, version=version))
    if version == 5:
        second = await Client.open(server.port, 5)
        second.send(connect("", "admin", ADMIN_KEY, version=5))
        assigned = {(await c.parsed()).assigned_client_id for c in (first, second)}
        assert len(assigned) == 2
        assert None not in assigned
    else:
        assert await first.packet() == b"\x20\0\0"
    await first.quiet()


async def test_an_empty_client_id_can_not_keep_a_session_in_3_1_1(server):
    """MQTT 3.1.1's [MQTT-3.1.3-8]."""
    assert await refused(server, connect("", "admin", ADMIN_KEY, clean=False), 4) == 2


async def test_any_text_is_a_client_id(server, version):
    """[MQTT-3.1.3-4], [MQTT-3.1.3-5]."""
    clients = [
        await server.admin(client_id, version=version)
        for client_id in ("a" * 23, "x" * 8_000, "ünïcödé / 🌞", "#/+")
    ]
    for client in clients:
        await client.quiet()


async def test_a_client_id_that_is_no_text_is_malformed(server, version):
    """[MQTT-1.5.4-1], [MQTT-1.5.4-2]."""
    for client_id in (b"a\0b", b"\xed\xa0\x80", b"\xff"):
        data = connect(client_id, "admin", ADMIN_KEY, version=version)
        assert await refused(server, data) == (None if version == 4 else 0x81), client_id


async def test_enhanced_authentication_is_refused(server):
    """[MQTT-4.12.0-1]."""
    properties = b"\x15" + string("SCRAM-SHA-1")
    data = connect("c", "admin", ADMIN_KEY, version=5, properties=properties)
    assert await refused(server, data) == 0x8C


async def test_packets_sent_behind_connect_are_answered_after_it(server, version):
    """3.1.4: a client need not wait for CONNACK."""
    device = await server.device()
    client = await Client.open(server.port, version)
    client.send(
        connect("c", device.device_id, device.key, version=version)
        + publish(device.topic, b'{"value": 1}', version=version)
        + b"\xc0\0"
    )
    answers = [await client.packet() for _ in range(3)]
    assert [answer[0] for answer in answers if answer[0] != 0xD0] == [0x20, 0x40]
    assert await server.values(device) == ["1"]


async def test_the_same_client_id_takes_over(server, version):
    """[MQTT-3.1.4-3]."""
    first = await server.admin("same", version=version)
    second = await server.admin("same", version=version)
    answer = await first.packet()
    assert answer[:2] == (b"" if version == 4 else b"\xe0\x8e")
    assert answer == b"" or await first.packet() == b""
    await second.quiet()


async def test_another_principal_with_the_same_client_id_has_its_own_session(server, version):
    one, two = await server.device("one"), await server.device("two")
    first = await server.connect(one, "same", version=version, **kept(version))
    second = await server.connect(two, "same", version=version, **kept(version))
    await first.quiet()
    await second.quiet()
    await first.close()
    again = await server.connect(two, "same", version=version, **kept(version))
    assert again.session_present
    assert (await second.packet())[:1] in (b"", b"\xe0")


async def test_a_device_called_admin_gets_nothing_of_the_administrators(server, version):
    device, other = await server.device("admin"), await server.device("other")
    admin = await server.admin("same", version=version, **kept(version))
    admin.send(subscribe("#", version=version))
    assert (await admin.packet())[0] == 0x90
    client = await server.connect(device, "same", version=version, **kept(version))
    assert not client.session_present
    await admin.quiet()
    sender = await server.connect(other)
    sender.send(publish(other.topic, b'{"value": 1}'))
    assert await sender.packet() == b"\x40\0\x01"
    await client.quiet()


async def test_a_wrong_password_disturbs_nobody(server, version):
    device = await server.device()
    first = await server.connect(device, "same", version=version, **kept(version))
    first.send(subscribe(device.topic, version=version))
    await first.packet()
    data = connect("same", device.device_id, "wrong", version=version)
    assert await refused(server, data) == (4 if version == 4 else 0x86)
    await first.quiet()
    await first.close()
    assert await refused(server, data) == (4 if version == 4 else 0x86)
    again = await server.connect(device, "same", version=version, **kept(version))
    assert again.session_present


async def test_nobody_connects_without_a_user_name(server, version):
    assert await refused(server, connect("c", version=version)) == (5 if version == 4 else 0x87)


async def test_a_password_alone_may_be_enough_in_mqtt_5(server):
    """3.1.2.9: a password without a user name; here the admin key, under any name."""
    client = await Client.connected(server.port, "c", None, ADMIN_KEY, version=5)
    await client.quiet()


async def test_connections_are_counted_and_forgotten(server):
    clients = [await server.admin(f"client-{n}") for n in range(5)]
    assert server.listener.connections == 5
    for client in clients:
        await client.close()
    await eventually(lambda: server.listener.connections == 0)
    assert len(server.listener.sessions) == 0


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("form", ["console", "json"])
async def test_a_user_name_forges_no_line_of_the_log_and_commands_no_terminal(
    server, version, form
):
    """ESC, BEL, line separators, marks that turn the direction of writing."""
    stream = io.StringIO()
    logs.configure("warning", form, stream=stream)
    for name in ("ada\x1b[31m\x07\u202e\x9b", "ada\n2026-01-01 [info] forged\u2028"):
        assert await refused(server, connect("c", name, "wrong", version=version), version)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert all("log-in refused" in line and "ada" in line for line in lines[:2])
