"""What is published to a broker, over connections that are lost."""

import asyncio

import mqtt5
import pytest

from heliograph.mqtt.codec.reasons import Reason
from heliograph.mqtt.publications import (
    PublicationRefusedError,
    Publications,
    PublicationUnsettledError,
)

TAKEN, REFUSED = 0, 0x87


class Connection:
    """Keeps what is written; the publications' packets only."""

    def __init__(self):
        self.packets = []

    def write(self, data):
        self.packets.append(mqtt5.read(data)[0])

    @property
    def topics(self):
        return [packet.topic for packet in self.packets]


def connect(publications, *, session_present=True):
    connection = Connection()
    publications.connected(
        connection, session_present=session_present, receive_maximum=100, largest=0
    )
    return connection


def answer(publications, connection, topic, reason=TAKEN):
    packet_id = next(p.packet_id for p in connection.packets if p.topic == topic)
    publications.acknowledged(packet_id, Reason(int(reason)))


async def published(publications, *topics):
    tasks = [
        asyncio.create_task(publications.publish(topic, b"x", retain=True), name=topic)
        for topic in topics
    ]
    await asyncio.sleep(0)
    return tasks


async def test_a_connection_after_a_lost_one_begins_with_a_single_message():
    publications = Publications()
    first = connect(publications)
    tasks = await published(publications, "a", "b", "c", "d")
    assert first.topics == ["a", "b", "c", "d"]
    publications.disconnected()
    second = connect(publications)
    assert second.topics == ["a"]
    answer(publications, second, "a")
    assert second.topics == ["a", "b", "c"]
    answer(publications, second, "b")
    assert second.topics == ["a", "b", "c", "d"]
    answer(publications, second, "c")
    answer(publications, second, "d")
    await asyncio.gather(*tasks)
    assert len(publications) == 0


async def test_a_message_that_ends_each_connection_is_given_up():
    publications = Publications()
    connect(publications)
    bad, good = await published(publications, "bad", "good")
    for _ in range(4):
        publications.disconnected()
        connection = connect(publications)
    assert connection.topics == ["good"]
    with pytest.raises(PublicationUnsettledError):
        await bad
    answer(publications, connection, "good")
    await good


@pytest.mark.parametrize("session_present", [True, False])
async def test_a_connection_lost_after_a_refusal_settles_what_was_under_way(session_present):
    publications = Publications()
    connection = connect(publications)
    bad, beside = await published(publications, "bad", "beside")
    answer(publications, connection, "bad", REFUSED)
    publications.disconnected()
    with pytest.raises(PublicationRefusedError):
        await bad
    with pytest.raises(PublicationUnsettledError):
        await beside
    (later,) = await published(publications, "later")
    connection = connect(publications, session_present=session_present)
    assert connection.topics == ["later"]
    answer(publications, connection, "later")
    await later


async def test_a_connection_lost_while_nothing_was_under_way_changes_nothing():
    publications = Publications()
    connect(publications)
    publications.disconnected()
    publications.disconnected()
    tasks = await published(publications, "a", "b", "c")
    connection = connect(publications)
    assert connection.topics == ["a", "b", "c"]
    for topic in connection.topics:
        answer(publications, connection, topic)
    await asyncio.gather(*tasks)


async def test_a_broker_that_has_lost_the_session_gets_it_in_its_order():
    publications = Publications()
    connect(publications)
    tasks = await published(publications, "a", "b")
    publications.disconnected()
    connection = connect(publications, session_present=False)
    for topic in ("a", "b"):
        answer(publications, connection, topic)
    assert connection.topics == ["a", "b"]
    await asyncio.gather(*tasks)
