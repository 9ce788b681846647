"""What is published: order, window, packet ids, and what is sent again."""

import asyncio

import mqtt5
import pytest

from heliograph.errors import ErrorCode, HeliographError
from heliograph.mqtt import publications
from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.reasons import MQTT_5, Reason
from heliograph.mqtt.publications import PublicationRefusedError, Publications


class Broker:
    """Takes packets of one connection, and acknowledges what it is told to."""

    def __init__(self, outgoing, **options):
        self.outgoing = outgoing
        self.packets = []
        settings = {"session_present": True, "receive_maximum": 65_535, "largest": 0, **options}
        outgoing.connected(self, **settings)

    def write(self, data):
        self.packets.append(mqtt5.read(memoryview(data))[0])

    @property
    def payloads(self):
        return [int(packet.payload) for packet in self.packets]

    @property
    def ids(self):
        return [packet.packet_id for packet in self.packets]

    def acknowledge(self, packet_id, reason=0):
        self.outgoing.acknowledged(packet_id, Reason(int(reason)))


async def publish(outgoing, *numbers, **options):
    """Publish side by side, in this order; return the tasks."""
    tasks = [
        asyncio.create_task(outgoing.publish("t", b"%d" % n, **options), name=f"publish {n}")
        for n in numbers
    ]
    await asyncio.sleep(0)
    return tasks


async def done(*tasks):
    await asyncio.wait_for(asyncio.gather(*tasks), 60)


async def cancel(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def outgoing():
    return Publications()


async def test_what_is_published_is_sent_in_order_and_awaited(outgoing):
    broker = Broker(outgoing)
    tasks = await publish(outgoing, 1, 2, 3)
    assert broker.payloads == [1, 2, 3]
    assert not any(packet.duplicate for packet in broker.packets)
    broker.acknowledge(broker.ids[1])
    await done(tasks[1])
    assert not tasks[0].done()
    assert len(outgoing) == 2
    for packet_id in (broker.ids[0], broker.ids[2]):
        broker.acknowledge(packet_id)
    await done(*tasks)
    assert len(outgoing) == 0


async def test_what_waits_for_a_connection_is_sent_in_order(outgoing):
    tasks = await publish(outgoing, 1, 2, 3)
    assert len(outgoing) == 3
    broker = Broker(outgoing, session_present=False)
    assert broker.payloads == [1, 2, 3]
    for packet_id in broker.ids:
        broker.acknowledge(packet_id)
    await done(*tasks)


async def test_the_window(outgoing, monkeypatch):
    monkeypatch.setattr(publications, "MAXIMUM_WINDOW", 3)
    for receive_maximum, window in ((2, 2), (65_535, 3)):
        broker = Broker(outgoing, receive_maximum=receive_maximum)
        tasks = await publish(outgoing, *range(6))
        for at in range(6):
            assert len(broker.packets) == min(at + window, 6)
            broker.acknowledge(broker.ids[at])
        assert broker.payloads == list(range(6))
        await done(*tasks)
        outgoing.disconnected()


async def test_packet_ids_go_round_and_leave_out_those_in_use(outgoing):
    broker = Broker(outgoing)
    (first,) = await publish(outgoing, 0)
    used = broker.ids[0]
    outgoing._last_id = 65_534
    tasks = await publish(outgoing, 1, 2, 3)
    # 1 and 2 are those of SUBSCRIBE and UNSUBSCRIBE.
    assert used == 3
    assert broker.ids[1:] == [65_535, 4, 5]
    for packet_id in broker.ids:
        broker.acknowledge(packet_id)
    await done(first, *tasks)


async def test_a_broker_with_the_session_gets_it_again(outgoing):
    broker = Broker(outgoing)
    tasks = await publish(outgoing, 1, 2, 3)
    broker.acknowledge(broker.ids[1])
    outgoing.disconnected()
    tasks += await publish(outgoing, 4)
    second = Broker(outgoing, session_present=True)
    for at in range(3):
        second.acknowledge(second.ids[at])
    assert second.payloads == [1, 3, 4]
    assert second.ids[:2] == [broker.ids[0], broker.ids[2]]
    assert [packet.duplicate for packet in second.packets] == [True, True, False]
    await done(*tasks)
    assert len(broker.packets) == 3


async def test_to_a_broker_without_the_session_it_is_new(outgoing):
    Broker(outgoing)
    tasks = await publish(outgoing, 1, 2)
    outgoing.disconnected()
    tasks += await publish(outgoing, 3)
    broker = Broker(outgoing, session_present=False)
    assert len(outgoing) == 3
    for at in range(3):
        broker.acknowledge(broker.ids[at])
    assert broker.payloads == [1, 2, 3]
    assert not any(packet.duplicate for packet in broker.packets)
    await done(*tasks)


async def test_a_broker_that_takes_less_than_before_is_not_overrun(outgoing):
    broker = Broker(outgoing)
    tasks = await publish(outgoing, *range(5))
    outgoing.disconnected()
    second = Broker(outgoing, receive_maximum=2)
    second.acknowledge(second.ids[0])
    assert second.payloads == [0, 1, 2]
    assert second.ids[:2] == broker.ids[:2]
    assert second.ids[2] != broker.ids[2]
    for at in range(1, 5):
        second.acknowledge(second.ids[at])
    assert second.payloads == list(range(5))
    await done(*tasks)


async def test_what_the_next_broker_does_not_take_does_not_hold_up_the_rest(outgoing):
    Broker(outgoing)
    large = asyncio.create_task(outgoing.publish("t", b"1" * 100), name="large")
    kept = asyncio.create_task(outgoing.publish("t", b"2", retain=True), name="kept")
    (small,) = await publish(outgoing, 3)
    outgoing.disconnected()
    broker = Broker(outgoing, largest=50, retains=False)
    assert broker.payloads == [3]
    broker.acknowledge(broker.ids[0])
    await done(small)
    with pytest.raises(PublicationRefusedError, match="the broker takes 50 bytes at most"):
        await large
    with pytest.raises(PublicationRefusedError, match="the broker retains nothing"):
        await kept
    assert len(outgoing) == 0


async def test_a_packet_as_large_as_the_broker_takes(outgoing):
    broker = Broker(outgoing)
    await publish(outgoing, 1)
    size = len(packets.publish(MQTT_5, "t", b"1", 1, packet_id=3))
    broker.acknowledge(broker.ids[0])
    outgoing.disconnected()
    broker = Broker(outgoing, largest=size)
    fits, too_large = await publish(outgoing, 2, 10)
    assert broker.payloads == [2]
    with pytest.raises(PublicationRefusedError):
        await too_large
    broker.acknowledge(broker.ids[0])
    await done(fits)


async def test_a_refusal_is_raised(outgoing):
    broker = Broker(outgoing)
    tasks = await publish(outgoing, 1, 2, 3)
    broker.acknowledge(broker.ids[0], mqtt5.PubAckReasonCode.NOT_AUTHORIZED)
    broker.acknowledge(broker.ids[1], mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
    broker.acknowledge(broker.ids[2], mqtt5.PubAckReasonCode.QUOTA_EXCEEDED)
    with pytest.raises(PublicationRefusedError, match=r"^the broker refuses t: not authorized$"):
        await tasks[0]
    await done(tasks[1])
    with pytest.raises(PublicationRefusedError, match="quota exceeded"):
        await tasks[2]


async def test_who_does_not_wait_any_more(outgoing):
    unsent = await publish(outgoing, 1, 2)
    await cancel(unsent[0])
    assert len(outgoing) == 1
    broker = Broker(outgoing)
    assert broker.payloads == [2]
    # On its way: it stays the broker's to acknowledge, and its id in use.
    await cancel(unsent[1])
    assert len(outgoing) == 1
    outgoing.disconnected()
    second = Broker(outgoing)
    assert second.ids == broker.ids
    for _ in range(2):
        second.acknowledge(second.ids[0])
    assert len(outgoing) == 0


async def test_what_was_to_be_sent_anew_is_sent_though_nobody_waits(outgoing):
    Broker(outgoing, receive_maximum=1)
    tasks = await publish(outgoing, 1, 2)
    outgoing.disconnected()
    await cancel(tasks[1])
    await cancel(tasks[0])
    broker = Broker(outgoing, session_present=False)
    assert broker.payloads == [1]
    broker.acknowledge(broker.ids[0])
    assert broker.payloads == [1]


async def test_an_acknowledgment_that_nobody_asked_for(outgoing):
    broker = Broker(outgoing)
    broker.acknowledge(77)
    (task,) = await publish(outgoing, 1)
    broker.acknowledge(broker.ids[0])
    broker.acknowledge(broker.ids[0])
    await done(task)


async def test_no_more_than_so_many_wait(outgoing, monkeypatch):
    monkeypatch.setattr(publications, "MAXIMUM_WAITING", 3)
    tasks = await publish(outgoing, 1, 2, 3)
    with pytest.raises(HeliographError) as caught:
        await outgoing.publish("t", b"4")
    assert caught.value.code is ErrorCode.QUEUE_FULL
    assert caught.value.retry_after
    await cancel(tasks[0])
    (fourth,) = await publish(outgoing, 4)
    broker = Broker(outgoing)
    assert broker.payloads == [2, 3, 4]
    for packet_id in broker.ids:
        broker.acknowledge(packet_id)
    await done(fourth, *tasks[1:])


@pytest.mark.parametrize("topic", ["a" * 70_000, "a\ud800"])
async def test_a_topic_that_is_none_is_the_callers_to_know(outgoing, topic):
    """Later it would be the connection's, again and again."""
    with pytest.raises(ValueError, match="not a topic of MQTT"):
        await outgoing.publish(topic, b"1")
    broker = Broker(outgoing)
    assert (broker.packets, len(outgoing)) == ([], 0)


async def test_what_is_on_its_way_is_bounded_in_bytes(outgoing, monkeypatch):
    monkeypatch.setattr(publications, "MAXIMUM_WINDOW_BYTES", 2)
    broker = Broker(outgoing)
    tasks = await publish(outgoing, 1, 2, 3, 4)
    assert broker.payloads == [1, 2]
    broker.acknowledge(broker.ids[0])
    assert broker.payloads == [1, 2, 3]
    for number in range(1, 4):
        broker.acknowledge(broker.ids[number])
    await done(*tasks)


async def test_what_waits_is_bounded_in_bytes(outgoing, monkeypatch):
    monkeypatch.setattr(publications, "MAXIMUM_WAITING_BYTES", 2)
    first, second = await publish(outgoing, 1, 2)
    with pytest.raises(HeliographError) as caught:
        await outgoing.publish("t", b"3")
    assert caught.value.code is ErrorCode.QUEUE_FULL
    await cancel(second)
    (third,) = await publish(outgoing, 3)
    broker = Broker(outgoing)
    assert broker.payloads == [1, 3]
    for packet_id in broker.ids:
        broker.acknowledge(packet_id)
    await done(first, third)
