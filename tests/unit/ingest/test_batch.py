"""What a message gets beside its rows."""

from types import SimpleNamespace

import pytest

from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.batch import Message
from heliograph.ingest.identity import identify
from heliograph.ingest.routes import DECODERS
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.records import Kind

NOW = 1_790_000_000_000_000


@pytest.fixture
def complete():
    """Return a function that decodes measurements and returns their message and sensor."""
    attributes = NewAttributes(lambda _number: None, lambda: NOW)

    def complete(payload):
        sensor = SimpleNamespace(
            number=1, newest_assigned=5, attributes={"t"}, names=("uuid", "pump")
        )
        decoded = DECODERS[Kind.MEASUREMENT](payload, 1, INGEST_ID_STEP, NOW, NOW + 7)
        message = Message(None, [0], Kind.MEASUREMENT, sensor, decoded.rows, 0)
        message.complete(sensor, decoded, NOW + 7, attributes)
        if decoded.identities:
            identify(message, sensor, decoded.identities)
        return message, sensor

    return complete


def test_the_newest_timestamp_given_is_remembered(complete):
    message, sensor = complete(b'{"measurements": [{"value": 1}, {"value": 2}, {"value": 3}]}')
    assert sensor.newest_assigned == message.rows[-1][2] == NOW + 9
    # None was given: the device's own is no bound for those to come.
    _, sensor = complete(b'{"value": 1, "timestamp": 1700000000}')
    assert sensor.newest_assigned == 5


def test_attributes_ids_and_faults_go_with_the_message(complete):
    message, sensor = complete(
        b'{"measurements": [{"value": {"t": 1, "u": 2}, "id": "a"}, {"value": 1, "id": 2}]}'
    )
    assert message.attributes == ((1, "u"),)
    assert sensor.attributes == {"t", "u"}
    assert [position for position, _ in message.identities] == [0]
    assert [fault.index for fault in message.faults] == [1]
    # Who signs each element with its own name would be heard once.
    signed, _ = complete(b'{"value": {"t": 1}, "id": "pump"}')
    assert signed.identities == []
    plain, _ = complete(b'{"value": {"t": 1}, "timestamp": 1700000000}')
    assert (plain.attributes, plain.identities, plain.faults) == ((), None, ())
