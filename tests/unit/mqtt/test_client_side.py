"""The client's side of the codec: what it says is read by a server, and what a server says by it.

The package `mqtt5`, another implementation, reads along where it is of that version.
"""

import asyncio

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.packets import Connack, Connect, Subscribe, Subscription, Unsubscribe
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import MQTT_3_1_1, MQTT_5, PacketType, ProtocolError, Reason
from heliograph.mqtt.link import read_unreadable
from heliograph.mqtt.reading import PacketProtocol, ReadingTurns
from mqtt_client import packet, publish, string
from unit.mqtt.test_round_trips import filters, members_of, names, positive, text, two_bytes

pytestmark = pytest.mark.uncovered

versions = st.sampled_from([MQTT_3_1_1, MQTT_5])
reasons = st.sampled_from(sorted(set(Reason)))
binary = st.binary(max_size=30)
four_bytes = st.integers(0, 0xFFFF_FFFF)
user_properties = st.lists(st.tuples(text, text), max_size=3).map(tuple)


def body_of(written, kind, *, by_server=False):
    """The body of a packet, after its first byte was checked."""
    assert packets.check_flags(written[0], by_server=by_server) is kind
    start, stop = packets.frame(written, 0, MQTT_5)
    assert stop == len(written)
    return written[start:stop]


def read_by_another(written):
    found, size = mqtt5.read(memoryview(written))
    assert size == len(written)
    return found


@st.composite
def connects(draw):
    version = draw(versions)
    five = version == MQTT_5
    clean = draw(st.booleans())
    username = draw(st.none() | text)
    will = st.builds(
        packets.Will, names, binary, st.integers(0, 2), st.booleans(),
        four_bytes if five else st.just(0),
    )  # fmt: skip
    given_with_5 = {
        "session_expiry": draw(four_bytes),
        "receive_maximum": draw(positive),
        "maximum_packet_size": draw(st.none() | st.integers(1, 0xFFFF_FFFF)),
        "request_problem_information": draw(st.booleans()),
        "authentication_method": draw(st.none() | text),
    }
    kept = {"session_expiry": 0 if clean else packets.NEVER}
    return Connect(
        version=version,
        clean_start=clean,
        keepalive=draw(two_bytes),
        client_id=draw(text) if five or clean else draw(names),
        will=draw(st.none() | will),
        username=username,
        password=draw(st.none() | binary) if five or username is not None else None,
        **(given_with_5 if five else kept),
    )


@given(connects())
def test_connect(connect):
    written = packets.connect(connect)
    assert packets.read_connect(body_of(written, PacketType.CONNECT)) == connect
    if connect.version == MQTT_5:
        other = read_by_another(written)
        assert (other.client_id, other.username) == (connect.client_id, connect.username)
        assert (other.password, other.keep_alive) == (connect.password, connect.keepalive)
        assert other.session_expiry_interval == connect.session_expiry


@given(st.sampled_from([Reason.SUCCESS, Reason.NOT_AUTHORIZED]), st.booleans(), user_properties)
def test_connack(reason, present, users):
    properties = Properties(server_keep_alive=7, maximum_qos=1, user_properties=users)
    written = packets.connack(MQTT_5, reason, session_present=present, properties=properties)
    body = body_of(written, PacketType.CONNACK, by_server=True)
    expected = Connack(reason, present and not reason, properties)
    assert packets.read_connack(body, MQTT_5) == expected


@pytest.mark.parametrize("code", range(6))
def test_connack_of_3_1_1(code):
    found = packets.read_connack(bytes((0, code)), MQTT_3_1_1)
    assert packets.connect_return(found.reason) == code
    assert (found.reason == Reason.SUCCESS) is (code == 0)


@pytest.mark.parametrize("body", [b"\0\x06", b"\x02\0", b"\0", b"\0\0\0"])
def test_a_connack_that_is_none(body):
    with pytest.raises(ProtocolError):
        packets.read_connack(body, MQTT_3_1_1)


subscriptions = st.builds(
    Subscription, filters, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
)


@given(positive, st.lists(subscriptions, min_size=1, max_size=4), st.none() | positive)
def test_subscribe(packet_id, wanted, identifier):
    subscribe = Subscribe(packet_id, wanted, identifier)
    written = packets.subscribe(MQTT_5, subscribe)
    assert packets.read_subscribe(body_of(written, PacketType.SUBSCRIBE), MQTT_5) == subscribe
    found = read_by_another(written)
    assert (found.packet_id, found.subscription_id) == (packet_id, identifier)
    assert [(f.pattern, int(f.max_qos)) for f in found.topic_filters] == [
        (one.filter, one.qos) for one in wanted
    ]
    plain = [Subscription(one.filter, one.qos) for one in wanted]
    body = body_of(packets.subscribe(MQTT_3_1_1, subscribe), PacketType.SUBSCRIBE)
    assert packets.read_subscribe(body, MQTT_3_1_1) == Subscribe(packet_id, plain)


@given(positive, st.lists(filters, min_size=1, max_size=4), versions)
def test_unsubscribe(packet_id, wanted, version):
    unsubscribe = Unsubscribe(packet_id, wanted)
    written = packets.unsubscribe(version, unsubscribe)
    body = body_of(written, PacketType.UNSUBSCRIBE)
    assert packets.read_unsubscribe(body, version) == unsubscribe
    if version == MQTT_5:
        found = read_by_another(written)
        assert (found.packet_id, found.patterns) == (packet_id, wanted)


@given(positive, st.lists(reasons, min_size=1, max_size=4))
def test_answers_to_filters(packet_id, given_reasons):
    body = body_of(
        packets.suback(MQTT_5, packet_id, given_reasons), PacketType.SUBACK, by_server=True
    )
    assert packets.read_suback(body, MQTT_5) == packets.Suback(packet_id, given_reasons)
    body = body_of(
        packets.unsuback(MQTT_5, packet_id, given_reasons), PacketType.UNSUBACK, by_server=True
    )
    assert packets.read_unsuback(body, MQTT_5) == packets.Unsuback(packet_id, given_reasons)


def test_answers_to_filters_in_3_1_1():
    written = packets.suback(MQTT_3_1_1, 7, [Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED])
    body = body_of(written, PacketType.SUBACK, by_server=True)
    assert packets.read_suback(body, MQTT_3_1_1).reasons == [1, Reason.UNSPECIFIED_ERROR]
    body = body_of(packets.unsuback(MQTT_3_1_1, 7, [0]), PacketType.UNSUBACK, by_server=True)
    assert packets.read_unsuback(body, MQTT_3_1_1) == packets.Unsuback(7, [])


@given(members_of(mqtt5.DisconnectReasonCode), st.none() | text)
def test_disconnect(reason, reason_string):
    written = packets.disconnect(MQTT_5, Reason(int(reason)), reason_string)
    body = body_of(written, PacketType.DISCONNECT, by_server=True)
    assert packets.read_disconnect(body, MQTT_5, by_server=True).reason == int(reason)


def test_packets_without_a_body():
    assert isinstance(read_by_another(packets.PINGREQ), mqtt5.PingReqPacket)
    # Without an expiry of its own: that of CONNECT stays, and with it the session.
    assert read_by_another(packets.DISCONNECT).session_expiry_interval is None
    assert body_of(packets.PINGRESP, PacketType.PINGRESP, by_server=True) == b""


@given(names, binary, st.lists(positive, min_size=1, max_size=3).map(tuple))
def test_a_message_says_which_subscriptions_select_it(topic, payload, identifiers):
    """All that there are [MQTT-3.3.4-4]; a client may send none [MQTT-3.3.4-6]."""
    properties = Properties(subscription_identifiers=identifiers)
    data = packets.publish(MQTT_5, topic, payload, properties=properties)
    start, stop = packets.frame(data, 0, MQTT_5)
    name, _, at, found = packets.read_publish(data, 0, start, stop, MQTT_5, by_server=True)
    assert (name.decode(), data[at:stop], found) == (topic, payload, properties)
    with pytest.raises(ProtocolError):
        packets.read_publish(data, 0, start, stop, MQTT_5)


@pytest.mark.parametrize(
    ("first", "by_server"),
    [(0x10, True), (0x82, True), (0xA2, True), (0xC0, True), (0x20, False), (0x90, False)],
)
def test_what_only_the_other_side_sends(first, by_server):
    with pytest.raises(ProtocolError, match="to send"):
        packets.check_flags(first, by_server=by_server)


def test_every_reason_has_words():
    assert all(reason.words and "_" not in reason.words for reason in Reason)
    assert Reason.QUOTA_EXCEEDED.words == "quota exceeded"


class Recorded(PacketProtocol):
    """Records the packets that it is given."""

    def __init__(self, loop):
        super().__init__(loop, ReadingTurns(loop), MQTT_5)
        self.read = []

    def _publish(self, buffer, at, start, stop):
        self.read.append(buffer[at:stop])
        return True

    def _control(self, buffer, at, start, stop):
        self.read.append(buffer[at:stop])

    def _check_unfinished(self, kind, size, buffer, start):
        pass


SENT = [
    packets.connack(MQTT_5, properties=Properties(reason_string="x" * 200)),
    packets.PINGRESP,
    publish("a/b", b"1" * 300, version=5),
    publish("a/b", b"", version=5, qos=0, packet_id=0),
    packets.pubacks([1, 2]),
    publish("a/b", b"2" * 20_000, version=5),
    packets.suback(MQTT_5, 3, [0, 1]),
]


@given(st.lists(st.integers(1, len(b"".join(SENT)) - 1), max_size=20))
def test_packets_are_the_same_wherever_the_bytes_are_split(cuts):
    data, at = b"".join(SENT), 0
    protocol = Recorded(asyncio.new_event_loop())
    for stop in [*sorted(cuts), len(data)]:
        protocol.data_received(data[at:stop])
        at = stop
    protocol.loop.close()
    assert b"".join(protocol.read) == data
    assert len(protocol.read) == len(SENT) + 1
    assert protocol.rest == b""


def unread(data):
    start, stop = packets.frame(data, 0, MQTT_5)
    topic, packet_id, payload = read_unreadable(data, 0, start, stop)
    return topic, packet_id, data[payload:stop]


@given(st.binary(min_size=1, max_size=30), st.binary(max_size=50), positive)
def test_a_publish_that_cannot_be_taken(topic, payload, packet_id):
    data = publish(topic, payload, packet_id=packet_id, version=5)
    assert unread(data) == (topic.decode("utf-8", "backslashreplace"), packet_id, payload)


@pytest.mark.parametrize("properties", [b"\x02\x99\x01", b"\x7f", b"\xff\xff\xff\xff\xff", b""])
def test_properties_that_cannot_be_read_count_as_payload(properties):
    data = packet(0x32, string("a") + b"\0\x07" + properties + b"rest")
    assert unread(data) == ("a", 7, properties + b"rest")


def test_a_publish_that_ends_early():
    with pytest.raises(ProtocolError):
        unread(packet(0x32, b"\0\x50ab"))
