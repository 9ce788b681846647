"""MQTT 5 there and back, with another implementation as the client: the codec `mqtt5`."""

import mqtt5
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import MQTT_3_1_1, MQTT_5, PacketType, Reason
from unit.mqtt import client_packets

pytestmark = pytest.mark.uncovered


def members_of(enumeration):
    """Any member of an enumeration of the codec, which are no Python enumerations."""
    named = (getattr(enumeration, name) for name in dir(enumeration) if name.isupper())
    return st.sampled_from(sorted(named, key=int))


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20
)
filters = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(names.filter(lambda name: not name.startswith("$")) | st.just("+"), min_size=1),
    st.sampled_from([[], ["#"]]),
)
binary = st.binary(max_size=30)
four_bytes = st.integers(0, 0xFFFF_FFFF)
two_bytes = st.integers(0, 0xFFFF)
positive = st.integers(1, 0xFFFF)
user_properties = st.lists(st.tuples(text, text), max_size=3)
qualities = members_of(mqtt5.QoS)

wills = st.builds(
    mqtt5.Will,
    names,
    payload=binary,
    qos=qualities,
    retain=st.booleans(),
    payload_format_indicator=st.integers(0, 1),
    message_expiry_interval=st.none() | four_bytes,
    content_type=st.none() | text,
    response_topic=st.none() | names,
    correlation_data=st.none() | binary,
    will_delay_interval=four_bytes,
    user_properties=user_properties,
)


def body_of(packet, number):
    """The body of a client's packet, after its first byte was checked."""
    written = packet.write()
    assert packets.check_flags(written[0]) is number
    start, stop = packets.frame(written, 0, MQTT_5)
    assert stop == len(written)
    return written[start:stop]


def read_back(written):
    packet, size = mqtt5.read(memoryview(written))
    assert size == len(written)
    return packet


def members(packet, *names):
    return [getattr(packet, name) for name in names]


def check_will(will, sent):
    names = ["topic", "payload", "qos", "retain"]
    assert members(will, *names) == members(sent, *names)
    assert will.delay == sent.will_delay_interval


@given(
    st.builds(
        mqtt5.ConnectPacket,
        text,
        username=st.none() | text,
        password=st.none() | binary,
        clean_start=st.booleans(),
        will=st.none() | wills,
        keep_alive=two_bytes,
        session_expiry_interval=four_bytes,
        authentication_method=text,
        authentication_data=st.none() | binary,
        request_problem_info=st.booleans(),
        request_response_info=st.booleans(),
        receive_max=positive,
        topic_alias_max=two_bytes,
        max_packet_size=st.none() | st.integers(1, 0xFFFF_FFFF),
        user_properties=user_properties,
    )
)
def test_connect(sent):
    connect = packets.read_connect(body_of(sent, PacketType.CONNECT))
    assert connect.version == MQTT_5
    names = ["client_id", "username", "password", "clean_start", "authentication_method"]
    assert members(connect, *names) == members(sent, *names)
    assert connect.keepalive == sent.keep_alive
    assert connect.session_expiry == sent.session_expiry_interval
    assert connect.request_problem_information == sent.request_problem_info
    assert connect.receive_maximum == sent.receive_max
    assert connect.maximum_packet_size == sent.max_packet_size
    if sent.will is None:
        assert connect.will is None
    else:
        check_will(connect.will, sent.will)


PUBLISHED = ["message_expiry_interval", "content_type", "response_topic", "correlation_data"]


@given(
    topic=names,
    payload=st.binary(max_size=300),
    qos=qualities,
    retain=st.booleans(),
    packet_id=positive,
    duplicate=st.booleans(),
    properties=st.fixed_dictionaries(
        {},
        optional={
            "payload_format_indicator": st.just(1),
            "message_expiry_interval": four_bytes,
            "content_type": text,
            "response_topic": names,
            "correlation_data": binary,
            "topic_alias": positive,
            "user_properties": user_properties,
        },
    ),
)
def test_publish_both_ways(topic, payload, qos, retain, packet_id, duplicate, properties):
    quality = qos
    qos = int(quality)
    packet_id = packet_id if qos else None
    duplicate = duplicate and qos > 0
    sent = mqtt5.PublishPacket(
        topic,
        payload,
        qos=quality,
        retain=retain,
        packet_id=packet_id,
        duplicate=duplicate,
        **properties,
    ).write()
    start, stop = packets.frame(sent, 0, MQTT_5)
    name, number, payload_start, found = packets.read_publish(sent, 0, start, stop, MQTT_5)
    assert packets.decode_topic(name) == topic
    assert (number, sent[payload_start:stop]) == (packet_id or 0, payload)
    expected = msgspec.convert(properties, Properties)
    assert (found or Properties()) == expected

    written = packets.publish(
        MQTT_5,
        topic,
        payload,
        qos,
        retain=retain,
        duplicate=duplicate,
        packet_id=packet_id or 0,
        properties=expected,
    )
    back = read_back(written)
    names = ["topic", "payload", "qos", "retain", "packet_id", "duplicate"]
    assert members(back, *names) == [topic, payload, qos, retain, packet_id, duplicate]
    assert members(back, *PUBLISHED) == members(expected, *PUBLISHED)
    assert back.topic_alias == expected.topic_alias
    assert tuple(back.user_properties) == expected.user_properties


@given(names, st.binary(max_size=300), st.integers(0, 2), st.booleans(), positive)
def test_publish_of_3_1_1(topic, payload, qos, retain, packet_id):
    packet_id = packet_id if qos else 0
    written = packets.publish(MQTT_3_1_1, topic, payload, qos, retain=retain, packet_id=packet_id)
    first = 0x30 | qos << 1 | retain
    assert written == client_packets.publish(topic, payload, first, packet_id)
    start, stop = packets.frame(written, 0)
    name, number, payload_start, _ = packets.read_publish(written, 0, start, stop, MQTT_3_1_1)
    assert (name.decode(), number, written[payload_start:stop]) == (topic, packet_id, payload)


@given(
    positive,
    st.lists(
        st.builds(
            mqtt5.TopicFilter,
            filters,
            max_qos=qualities,
            no_local=st.booleans(),
            retain_as_published=st.booleans(),
            retain_handling=members_of(mqtt5.RetainHandling),
        ),
        min_size=1,
        max_size=4,
    ),
    st.none() | st.integers(1, 268_435_455),
    user_properties,
)
def test_subscribe(packet_id, wanted, identifier, users):
    sent = mqtt5.SubscribePacket(
        packet_id, wanted, subscription_id=identifier, user_properties=users
    )
    subscribe = packets.read_subscribe(body_of(sent, PacketType.SUBSCRIBE), MQTT_5)
    assert (subscribe.packet_id, subscribe.identifier) == (packet_id, identifier)
    names = ["no_local", "retain_as_published", "retain_handling"]
    assert [[one.filter, one.qos, *members(one, *names)] for one in subscribe.filters] == [
        [one.pattern, one.max_qos, *members(one, *names)] for one in wanted
    ]


@given(positive, st.lists(filters, min_size=1, max_size=4), user_properties)
def test_unsubscribe(packet_id, wanted, users):
    sent = mqtt5.UnsubscribePacket(packet_id, wanted, user_properties=users)
    unsubscribe = packets.read_unsubscribe(body_of(sent, PacketType.UNSUBSCRIBE), MQTT_5)
    assert (unsubscribe.packet_id, unsubscribe.filters) == (packet_id, wanted)


ACKNOWLEDGMENTS = {
    PacketType.PUBACK: (mqtt5.PubAckPacket, mqtt5.PubAckReasonCode, packets.puback),
    PacketType.PUBREC: (mqtt5.PubRecPacket, mqtt5.PubRecReasonCode, packets.pubrec),
    PacketType.PUBREL: (mqtt5.PubRelPacket, mqtt5.PubRelReasonCode, packets.pubrel),
    PacketType.PUBCOMP: (mqtt5.PubCompPacket, mqtt5.PubCompReasonCode, packets.pubcomp),
}


@pytest.mark.parametrize("number", ACKNOWLEDGMENTS, ids=lambda number: number.name)
@given(data=st.data(), packet_id=positive, reason_string=st.none() | text, users=user_properties)
def test_acknowledgments_both_ways(number, data, packet_id, reason_string, users):
    packet, reasons, write = ACKNOWLEDGMENTS[number]
    reason = data.draw(members_of(reasons))
    sent = packet(packet_id, reason_code=reason, reason_str=reason_string, user_properties=users)
    assert packets.read_puback(body_of(sent, number), MQTT_5, number) == (packet_id, reason)
    back = read_back(write(MQTT_5, packet_id, Reason(int(reason)), reason_string))
    assert type(back) is packet
    assert members(back, "packet_id", "reason_code", "reason_str") == [
        packet_id,
        reason,
        reason_string,
    ]


CONNACK = {
    "session_expiry_interval": ("session_expiry_interval", four_bytes),
    "assigned_client_identifier": ("assigned_client_id", text),
    "server_keep_alive": ("server_keep_alive", two_bytes),
    "response_information": ("response_info", text),
    "server_reference": ("server_reference", text),
    "reason_string": ("reason_str", text),
    "receive_maximum": ("receive_max", positive),
    "topic_alias_maximum": ("topic_alias_max", two_bytes),
    "maximum_qos": ("max_qos", st.integers(0, 1)),
    "retain_available": ("retain_available", st.integers(0, 1)),
    "maximum_packet_size": ("max_packet_size", st.integers(1, 0xFFFF_FFFF)),
    "wildcard_subscription_available": ("wildcard_subscription_available", st.integers(0, 1)),
    "subscription_identifier_available": ("subscription_id_available", st.integers(0, 1)),
    "shared_subscription_available": ("shared_subscription_available", st.integers(0, 1)),
}


@given(
    members_of(mqtt5.ConnAckReasonCode),
    st.booleans(),
    st.fixed_dictionaries({}, optional={name: values for name, (_, values) in CONNACK.items()}),
    user_properties,
)
def test_connack(reason, present, given_properties, users):
    properties = Properties(**given_properties, user_properties=tuple(users))
    back = read_back(
        packets.connack(MQTT_5, Reason(int(reason)), session_present=present, properties=properties)
    )
    assert back.reason_code == reason
    assert back.session_present == (present and int(reason) == 0)
    assert back.user_properties == users
    for name, value in given_properties.items():
        assert getattr(back, CONNACK[name][0]) == value


@given(positive, st.lists(members_of(mqtt5.SubAckReasonCode), min_size=1, max_size=4))
def test_suback(packet_id, reasons):
    back = read_back(packets.suback(MQTT_5, packet_id, map(int, reasons)))
    assert (back.packet_id, back.reason_codes) == (packet_id, reasons)


@given(positive, st.lists(members_of(mqtt5.UnsubAckReasonCode), min_size=1, max_size=4))
def test_unsuback(packet_id, reasons):
    back = read_back(packets.unsuback(MQTT_5, packet_id, map(int, reasons)))
    assert (back.packet_id, back.reason_codes) == (packet_id, reasons)


@given(members_of(mqtt5.DisconnectReasonCode), st.none() | text)
def test_disconnect_to_the_client(reason, reason_string):
    back = read_back(packets.disconnect(MQTT_5, Reason(int(reason)), reason_string))
    assert (back.reason_code, back.reason_str) == (reason, reason_string)


@given(
    st.sampled_from([0x00, 0x04, 0x80, 0x95]).map(mqtt5.DisconnectReasonCode),
    st.none() | four_bytes,
    st.none() | text,
    user_properties,
)
def test_disconnect_from_the_client(reason, expiry, reason_string, users):
    sent = mqtt5.DisconnectPacket(
        reason_code=reason,
        session_expiry_interval=expiry,
        reason_str=reason_string,
        user_properties=users,
    )
    disconnect = packets.read_disconnect(body_of(sent, PacketType.DISCONNECT), MQTT_5)
    assert (disconnect.reason, disconnect.session_expiry) == (reason, expiry)


def test_pings():
    assert body_of(mqtt5.PingReqPacket(), PacketType.PINGREQ) == b""
    assert isinstance(read_back(packets.PINGRESP), mqtt5.PingRespPacket)
