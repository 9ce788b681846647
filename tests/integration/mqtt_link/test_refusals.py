"""Brokers that do not want the link, that can't carry it, or that are none."""

import asyncio

import mqtt5
import pytest

from heliograph.settings import load_settings
from ports import free_port
from scripted_broker import GRANTED, message
from server import eventually, running

Connack = mqtt5.ConnAckReasonCode
SILENCE = 0.5


@pytest.fixture
def impatient(monkeypatch):
    """Wait for answers no longer than a moment."""
    monkeypatch.setattr("heliograph.mqtt.link.CONNECT_SECONDS", SILENCE)


async def refuse(conversation, code, **options):
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket(reason_code=code, **options).write())
    await conversation.end()


async def goes_on(broker, server):
    """Check that the link tries again, and that all is well then."""
    conversation = await broker.up()
    device = await server.device()
    conversation.send(message(device.topic, b'{"value": 1}', 1))
    assert await conversation.acknowledged(1) == [1]
    await eventually(lambda: server.services.link.connected)
    ready = await server.http.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (200, [])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Connack.BAD_USER_NAME_OR_PASSWORD, "refused: wrong user name or password"),
        (
            Connack.NOT_AUTHORIZED,
            "refused: not authorized: wrong user name or password, or not allowed",
        ),
        (Connack.CLIENT_ID_NOT_VALID, "refused: the broker does not take MQTT_CLIENT_ID"),
        (Connack.UNSUPPORTED_PROTOCOL_VERSION, "refused: the broker does not speak MQTT 5"),
        (Connack.SERVER_BUSY, "refused: the broker is busy"),
        (Connack.SERVER_UNAVAILABLE, "refused: the broker is not available"),
        (Connack.BANNED, "refused: banned"),
        (Connack.USE_ANOTHER_SERVER, "refused: use another server"),
    ],
)
async def test_a_refusal_is_told_in_plain_words(broker, server, problem, code, words):
    await refuse(await broker.accept(), code)
    assert await problem(server) == words
    assert (await server.http.get("/readyz")).status_code == 503
    await goes_on(broker, server)


async def test_what_the_broker_says_itself_is_told_too(broker, server, problem, caplog):
    await refuse(await broker.accept(), Connack.QUOTA_EXCEEDED, reason_str="come back tomorrow")
    words = "refused: quota exceeded (come back tomorrow)"
    assert await problem(server) == words
    # Once, however often it is refused.
    for _ in range(3):
        await refuse(await broker.accept(), Connack.QUOTA_EXCEEDED, reason_str="come back tomorrow")
    assert caplog.text.count(words) == 1


NO_MQTT_5 = {
    "3.1.1, refusing": b"\x20\x02\x00\x01",
    "3.1.1, accepting": b"\x20\x02\x00\x00",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    + b" " * 99,
    "TLS": b"\x15\x03\x03\x00\x02\x02\x46",
}


@pytest.mark.parametrize("name", NO_MQTT_5)
async def test_who_does_not_speak_mqtt_5(broker, server, problem, name):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(NO_MQTT_5[name])
    await conversation.end()
    assert (await problem(server)).startswith("what answers there does not speak MQTT 5")
    await goes_on(broker, server)


async def test_who_hangs_up_instead_of_answering(broker, server, problem):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.writer.close()
    assert await problem(server) == (
        "the connection was lost: closed by the broker instead of an answer to CONNECT;"
        " is it MQTT 5 there, without TLS?"
    )
    await goes_on(broker, server)


async def test_who_never_answers(broker, server, problem, impatient):
    assert await problem(server) == "no answer to CONNECT within 0 s; is it MQTT 5?"
    await (await broker.accept()).end()


async def test_who_answers_with_something_else(broker, server, problem):
    conversation = await broker.accept()
    conversation.send(mqtt5.SubAckPacket(1, [GRANTED]).write())
    assert await problem(server) == "the broker answers CONNECT with SUBACK"
    await conversation.end()


@pytest.mark.parametrize("session_present", [True, False])
async def test_who_never_answers_a_subscription(
    broker, server, problem, impatient, session_present
):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket(session_present=session_present).write())
    question = "UNSUBSCRIBE" if session_present else "SUBSCRIBE"
    assert await problem(server, question) == f"no answer to {question} within 0 s; is it MQTT 5?"


async def test_what_waits_at_the_broker_may_come_before_the_answers(broker, server, impatient):
    """However long it takes: it is not the broker that keeps us waiting."""
    device = await server.device()
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket(session_present=True).write())
    unsubscribe = await conversation.read(mqtt5.UnsubscribePacket)
    for number in range(1, 21):
        await asyncio.sleep(SILENCE / 5)
        conversation.send(message(device.topic, b'{"value": %d}' % number, number))
    assert await conversation.acknowledged(20) == list(range(1, 21))
    codes = [mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED] * 5
    conversation.send(mqtt5.UnsubAckPacket(unsubscribe.packet_id, codes).write())
    await conversation.subscribed()
    await eventually(lambda: server.services.link.connected)
    assert len(broker.conversations) == 1


async def test_answers_that_wait_for_the_database_do_not_end_the_connection(
    broker, tmp_path, blocked, impatient
):
    settings = {"mqtt_url": broker.url, "mqtt_listen": (), "max_in_flight_bytes": 1 << 20}
    async with running(tmp_path, **settings) as server:
        device = await server.device()
        conversation = await broker.accept()
        await conversation.read(mqtt5.ConnectPacket)
        async with blocked(server) as started:
            conversation.send(mqtt5.ConnAckPacket().write())
            subscribe = await conversation.read(mqtt5.SubscribePacket)
            connection = server.services.link._connection
            for number in range(1, 200):
                payload = b'{"value": "%b"}' % (b"x" * 20_000)
                conversation.send(message(device.topic, payload, number))
            codes = [GRANTED] * len(subscribe.topic_filters)
            conversation.send(mqtt5.SubAckPacket(subscribe.packet_id, codes).write())
            await started.wait()
            await eventually(lambda: connection.pauses)
            await asyncio.sleep(SILENCE * 3)
            assert connection.pauses
            assert not server.services.link.connected
        await eventually(lambda: server.services.link.connected)
        assert len(broker.conversations) == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            mqtt5.SubAckReasonCode.NOT_AUTHORIZED,
            "the broker refuses the subscription logs/+: not authorized",
        ),
        (
            mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE,
            "the broker grants only QoS 0 to the subscription logs/+",
        ),
    ],
)
async def test_a_subscription_that_is_not_granted(broker, server, problem, code, words):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket().write())
    subscribe = await conversation.read(mqtt5.SubscribePacket)
    codes = [code if f.pattern == "logs/+" else GRANTED for f in subscribe.topic_filters]
    conversation.send(mqtt5.SubAckPacket(subscribe.packet_id, codes).write())
    assert await problem(server) == words
    await goes_on(broker, server)


async def test_a_broker_without_figures_of_its_own_will_do(broker, server):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket().write())
    subscribe = await conversation.read(mqtt5.SubscribePacket)
    codes = [
        mqtt5.SubAckReasonCode.NOT_AUTHORIZED if f.pattern.startswith("$SYS") else GRANTED
        for f in subscribe.topic_filters
    ]
    conversation.send(mqtt5.SubAckPacket(subscribe.packet_id, codes).write())
    await eventually(lambda: server.services.link.connected)


async def test_a_broker_with_qos_0_only(broker, server, problem):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_MOST_ONCE).write())
    assert await problem(server) == "the broker has QoS 0 only: nothing would be safe"


async def test_nothing_that_listens(tmp_path, problem):
    port = free_port()
    async with running(tmp_path, mqtt_url=f"mqtt://127.0.0.1:{port}", mqtt_listen=()) as server:
        assert await problem(server) == f"nothing listens at mqtt://127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "a..b"])
async def test_a_host_that_does_not_exist(tmp_path, problem, host):
    async with running(tmp_path, mqtt_url=f"mqtt://{host}", mqtt_listen=()) as server:
        assert await problem(server) == f"there is no host {host!r}"
        await asyncio.sleep(0)
        assert not server.application.server.failed.is_set()


async def test_a_host_that_takes_connections_and_says_nothing(tmp_path, problem, impatient):
    ended = asyncio.Event()

    async def say_nothing(_reader, writer):
        await ended.wait()
        writer.close()

    listening = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"mqtts://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with running(tmp_path, mqtt_url=url, mqtt_listen=()) as server:
        assert await problem(server) == f"{url} does not answer within 0 s"
    ended.set()
    listening.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER, "session taken over"),
        (mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN, "server shutting down"),
        (mqtt5.DisconnectReasonCode.ADMINISTRATIVE_ACTION, "administrative action"),
    ],
)
async def test_why_the_broker_ends_the_connection_is_told(broker, server, problem, code, words):
    conversation = await broker.up()
    conversation.send(mqtt5.DisconnectPacket(reason_code=code).write())
    assert await problem(server) == f"the broker ended the connection: {words}"
    await goes_on(broker, server)


async def test_silence_beyond_the_keepalive_ends_the_connection(broker, server, problem):
    conversation = await broker.up(server_keep_alive=1)
    conversation.answers_pings = False
    await conversation.end()
    assert await problem(server) == "the broker has fallen silent"
    assert conversation.pings >= 1
    await goes_on(broker, server)


async def test_who_answers_pings_is_not_silent(broker, server):
    conversation = await broker.up(server_keep_alive=1)
    await eventually(lambda: conversation.pings >= 2)
    assert server.services.link.connected
    assert len(broker.conversations) == 1


async def test_what_connect_says(broker, tmp_path):
    settings = {
        "mqtt_url": broker.url.replace("mqtt://", "mqtt://url-name:url-password@"),
        "mqtt_client_id": "north-1",
        "mqtt_receive_maximum": 500,
        "mqtt_keepalive": 77,
        "mqtt_listen": (),
    }
    async with running(tmp_path, **settings):
        conversation = await broker.accept()
        connect = await conversation.up()
        assert (connect.client_id, connect.receive_max) == ("north-1", 500)
        assert (connect.username, connect.password) == ("url-name", b"url-password")
        assert (connect.clean_start, connect.session_expiry_interval) == (False, 0xFFFF_FFFF)
        assert connect.keep_alive == 77
        assert connect.will is None
    await conversation.end()
    settings |= {
        "mqtt_username": "name",
        "mqtt_password": load_settings(mqtt_password="p").mqtt_password,
    }
    async with running(tmp_path, **settings):
        connect = await (await broker.accept()).up()
        assert (connect.username, connect.password) == ("name", b"p")


async def test_what_subscribe_says(broker, server):
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    conversation.send(mqtt5.ConnAckPacket().write())
    subscribe = await conversation.subscribed()
    handling = {
        f.pattern: (int(f.max_qos), int(f.retain_handling)) for f in subscribe.topic_filters
    }
    assert handling == {
        "measurements/+": (1, 2),
        "log-messages/+": (1, 2),
        "logs/+": (1, 2),
        "heartbeats/+": (1, 2),
        "acknowledgments/+": (1, 2),
        "packets/+": (1, 2),
        "status/+": (1, 0),
        "$SYS/broker/publish/messages/dropped": (0, 0),
        "$SYS/broker/uptime": (0, 0),
    }
    assert not any(f.retain_as_published for f in subscribe.topic_filters)


async def test_a_link_does_not_disturb_a_listener(broker, tmp_path):
    async with running(tmp_path, mqtt_url=broker.url) as server:
        await broker.up()
        device = await server.device()
        client = await server.connect(device)
        await client.quiet()
        status = (await server.http.get("/status")).json()
        assert status["mqtt_port"] == server.port
        await client.close()
