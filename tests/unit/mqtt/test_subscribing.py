"""SUBSCRIBE and UNSUBSCRIBE (MQTT 5, 3.8 and 3.10)."""

import pytest

from heliograph.mqtt.codec.packets import (
    MAXIMUM_SUBSCRIPTIONS,
    Subscribe,
    Subscription,
    Unsubscribe,
    read_subscribe,
    read_unsubscribe,
)
from heliograph.mqtt.codec.reasons import ProtocolError, Reason
from unit.mqtt.client_packets import numbered, text


def refused(read, body, version):
    with pytest.raises(ProtocolError) as caught:
        read(body, version)
    return caught.value.reason


@pytest.mark.parametrize("version", [4, 5])
def test_filters_keep_their_order(version):
    body = numbered(10, text("a/+"), b"\1", text("#"), b"\0", text("b"), b"\2", version=version)
    assert read_subscribe(body, version) == Subscribe(
        10, [Subscription("a/+", 1), Subscription("#", 0), Subscription("b", 2)]
    )


def test_options_of_mqtt_5():
    body = numbered(
        1, text("a"), b"\x04", text("b"), b"\x08", text("c"), b"\x10", text("d"), b"\x2d", version=5
    )
    assert read_subscribe(body, 5).filters == [
        Subscription("a", 0, no_local=True),
        Subscription("b", 0, retain_as_published=True),
        Subscription("c", 0, retain_handling=1),
        Subscription("d", 1, no_local=True, retain_as_published=True, retain_handling=2),
    ]


def test_the_subscription_identifier():
    body = numbered(1, text("a"), b"\1", version=5, given=b"\x0b\xff\xff\xff\x7f")
    assert read_subscribe(body, 5).identifier == 268_435_455


def test_shared_subscriptions_are_filters():
    body = numbered(1, text("$share/group/a/+"), b"\1", version=5)
    assert read_subscribe(body, 5).filters == [Subscription("$share/group/a/+", 1)]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("options", [0x40, 0x80, 0xC1])
def test_mqtt_3_8_3_5_reserved_bits_are_0(version, options):
    """[MQTT-3.8.3-5]; in 3.1.1 [MQTT-3-8.3-4]."""
    body = numbered(1, text("a"), bytes([options]), version=version)
    assert refused(read_subscribe, body, version) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("options", [0x04, 0x08, 0x10, 0x20])
def test_the_options_of_mqtt_5_are_reserved_in_3_1_1(options):
    body = numbered(1, text("a"), bytes([options]))
    assert refused(read_subscribe, body, 4) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize(("options", "version"), [(0x03, 4), (0x03, 5), (0x30, 5), (0x33, 5)])
def test_qos_3_and_retain_handling_3_do_not_exist(options, version):
    body = numbered(1, text("a"), bytes([options]), version=version)
    assert refused(read_subscribe, body, version) is Reason.PROTOCOL_ERROR


def test_mqtt_3_8_3_4_no_local_is_not_for_shared_subscriptions():
    """[MQTT-3.8.3-4]."""
    body = numbered(1, text("$share/group/a"), b"\x04", version=5)
    assert refused(read_subscribe, body, 5) is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("read", [read_subscribe, read_unsubscribe])
def test_mqtt_3_8_3_2_there_is_at_least_one_filter(read, version):
    """[MQTT-3.8.3-2] and [MQTT-3.10.3-2]."""
    assert refused(read, numbered(1, version=version), version) is Reason.PROTOCOL_ERROR


BAD_FILTERS = [
    pytest.param("", id="MQTT-4.7.3-1 empty"),
    pytest.param("a#", id="MQTT-4.7.1-1 hash within a level"),
    pytest.param("#/a", id="MQTT-4.7.1-1 hash not last"),
    pytest.param("a/b+", id="MQTT-4.7.1-2 plus within a level"),
    pytest.param(b"a\0", id="MQTT-4.7.3-2 NUL"),
    pytest.param(b"\xed\xa0\x80", id="MQTT-1.5.4-1 surrogate"),
    pytest.param(b"\xff", id="MQTT-3.8.3-1 not UTF-8"),
    pytest.param("$share//a", id="MQTT-4.8.2-1 no group"),
    pytest.param("$share/group", id="MQTT-4.8.2-2 no filter"),
]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("topic_filter", BAD_FILTERS)
def test_bad_filters(topic_filter, version):
    body = numbered(1, text(topic_filter), b"\0", version=version)
    assert refused(read_subscribe, body, version) is Reason.MALFORMED_PACKET
    body = numbered(1, text(topic_filter), version=version)
    assert refused(read_unsubscribe, body, version) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_2_2_1_3_a_packet_id_is_not_0(version):
    """[MQTT-2.2.1-3]; in 3.1.1 [MQTT-2.3.1-1]."""
    body = numbered(0, text("a"), b"\0", version=version)
    assert refused(read_subscribe, body, version) is Reason.PROTOCOL_ERROR
    body = numbered(0, text("a"), version=version)
    assert refused(read_unsubscribe, body, version) is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("version", [4, 5])
def test_unsubscribe(version):
    body = numbered(65_535, text("a/#"), text("b"), version=version)
    assert read_unsubscribe(body, version) == Unsubscribe(65_535, ["a/#", "b"])


@pytest.mark.parametrize("version", [4, 5])
def test_of_more_filters_than_a_session_may_have_only_the_number_is_read(version):
    one, bad = text("topic") + b"\0", text("a#") + b"\3"
    body = numbered(1, one * MAXIMUM_SUBSCRIPTIONS, bad * 30_000, version=version)
    found = read_subscribe(body, version)
    assert (len(found.filters), found.unread) == (MAXIMUM_SUBSCRIPTIONS, 30_000)
    assert read_subscribe(body[: -len(bad)], version).unread == 29_999
    for cut in range(1, len(bad)):
        assert refused(read_subscribe, body[:-cut], version) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("version", [4, 5])
def test_a_packet_that_ends_too_early_is_an_error(version):
    # Cut between two filters, what is left would be a packet.
    body = numbered(1, text("topic"), b"\0", version=version)
    for size in range(len(body)):
        refused(read_subscribe, body[:size], version)
    body = numbered(1, text("topic"), version=version)
    for size in range(len(body)):
        refused(read_unsubscribe, body[:size], version)
