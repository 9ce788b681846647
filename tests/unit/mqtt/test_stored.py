"""Sessions as they are stored, and as another server reads them."""

import msgspec
import pytest

from heliograph.model.mqtt_sessions import Found
from heliograph.model.principal import Principal
from heliograph.mqtt.codec.packets import Will
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.host import Outgoing
from heliograph.mqtt.session import Entry, LastWill, Session
from heliograph.mqtt.stored import pack_client, pack_owed, pack_subscriptions, unpack

DEVICE = Principal("device", "pump", sensor=7)


@pytest.fixture
def found():
    """A session with something of everything, as it is found."""
    session = Session(DEVICE, "reader", Counts(), expiry=60)
    sent, waiting = (Outgoing("a/b", text, 1, 7, "n", (3,)) for text in (b"1", b"2"))
    session.restore([(5, sent)], [waiting], 5)
    session.received.begin(9)
    session.received.commit(9)
    session.received.begin(10)
    will = LastWill(Will("status/pump", b"gone", 1, delay=2), "a route", DEVICE, b"key", b"name")
    return Found(
        *(b"k", 1, "", 60, None),
        pack_client(DEVICE, "reader", will, 11),
        pack_subscriptions([Entry(session, "a/#", 1, True, 3)]),
        pack_owed(session, is_given=True),
        None,
    )


def test_what_is_stored_is_found_again(found):
    stored = unpack(found)
    assert (stored.principal, stored.client_id, stored.will_at) == (DEVICE, "reader", 11)
    assert stored.will.message == Will("status/pump", b"gone", 1, delay=2)
    assert (stored.will.route, stored.will.credential, stored.will.name) == (None, b"key", b"name")
    [each] = stored.subscriptions
    assert (each.filter, each.qos, each.no_local, each.identifier) == ("a/#", 1, True, 3)
    [(packet_id, sent)], [waiting] = stored.unacknowledged, stored.queue
    assert (packet_id, sent.payload, waiting.payload, stored.last) == (5, b"1", b"2", 5)
    assert waiting.identifiers == (3,)
    # What is not committed comes again.
    assert stored.received == [9]


@pytest.mark.parametrize("part", ["client", "subscriptions", "owed"])
@pytest.mark.parametrize("content", [b"\xc1", msgspec.msgpack.encode([1, 2])], ids=["no", "other"])
def test_what_another_version_has_stored_is_as_if_there_was_none(found, part, content):
    assert unpack(found._replace(**{part: content})) is None
