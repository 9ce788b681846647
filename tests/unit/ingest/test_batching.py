from heliograph.access.registry import KnownSensor
from heliograph.errors import RejectionReason
from heliograph.ingest.batch import (
    Message,
    build_batch,
    committed_events,
    corrected_answers,
)
from heliograph.ingest.identity import drop_repeats
from heliograph.ingest.strict_json import Fault
from heliograph.model.records import Kind
from heliograph.model.sensor import Sensor
from rows import heartbeat, log, measurement, rejected

PUMP = KnownSensor(Sensor(1, "uuid-1", "network", "pump"))
FAN = KnownSensor(Sensor(2, "uuid-2", "network", None))


class Ledger:
    def __init__(self, **known):
        self.known = {key.encode(): value for key, value in known.items()}
        self.asked = []

    async def find(self, keys):
        self.asked.append(list(keys))
        return {key: self.known[key] for key in keys if key in self.known}


def message(rows, kind=Kind.MEASUREMENT, sensor=PUMP, **members):
    made = Message(object(), [0], kind, sensor, rows, 100)
    for name, value in members.items():
        setattr(made, name, value)
    return made


async def test_the_ledger_is_asked_only_where_something_is_looked_for():
    ledger = Ledger()
    row = measurement(1)
    plain, first = message([row]), message([row], delivery=b"d", extras=True)
    assert await drop_repeats([plain, first], ledger) == {}
    assert ledger.asked == []


async def test_a_known_redelivery_is_dropped_whole():
    rows = [measurement(1), measurement(1, value=2)]
    again = message(rows, delivery=b"d", redelivered=True, extras=True)
    assert await drop_repeats([again], Ledger(d=(5, "answer"))) == {row[0]: 5 for row in rows}
    assert again.dropped == "answer"
    assert build_batch([again]).measurements == []
    assert build_batch([again]).deliveries == []


async def test_a_delivery_that_is_its_own_commit_is_no_repeat():
    row = measurement(1)
    again = message([row], delivery=b"d", redelivered=True, extras=True)
    assert await drop_repeats([again], Ledger(d=(row[0], None))) == {}
    assert build_batch([again]).measurements == [row]


async def test_of_elements_with_one_id_the_first_is_kept():
    rows = [measurement(1, value=value) for value in range(4)]
    one = message(rows[:2], identities=[(0, b"a"), (1, b"a")], extras=True)
    two = message(rows[2:], identities=[(0, b"a"), (1, b"b")], extras=True)
    repeats = await drop_repeats([one, two], Ledger(b=(7, None)))
    assert repeats == {rows[1][0]: rows[0][0], rows[2][0]: rows[0][0], rows[3][0]: 7}
    batch = build_batch([one, two])
    assert batch.measurements == [rows[0]]
    assert batch.claims == [(b"a", rows[0][0], None, None)]
    assert batch.deliveries == []


async def test_a_second_look_forgets_what_the_first_concluded():
    row = measurement(1)
    made = message([row], identities=[(0, b"a")], extras=True)
    await drop_repeats([made], Ledger(a=(7, None)))
    assert made.duplicates == {row[0]: 7}
    await drop_repeats([made], Ledger())
    assert made.duplicates is None


def test_every_kind_goes_to_its_table():
    rows = (measurement(1), log(1), heartbeat(1))
    PUMP.seen_at = 9
    messages = [
        message([rows[0]], attributes=[(1, "value")]),
        message([rows[1]], Kind.LOG),
        message([rows[2]], Kind.HEARTBEAT),
        message([], Kind.REJECTED, None, rejected=rejected(), extras=True),
        message([], Kind.STATUS, status=(1, 9, "online", False), extras=True),
    ]
    batch = build_batch(messages)
    assert (batch.measurements, batch.logs, batch.heartbeats) == ([rows[0]], [rows[1]], [rows[2]])
    assert len(batch.rejected) == 1
    assert batch.statuses == [(1, 9, "online", False)]
    assert batch.attributes == [(1, "value")]


def test_a_probe_has_rows_only():
    made = message(
        [measurement(1)],
        attributes=[(1, "value")],
        rejected=rejected(),
        delivery=b"d",
        extras=True,
    )
    batch = build_batch([made], probe=True)
    assert len(batch.measurements) == 1
    assert batch.logs == batch.heartbeats == batch.rejected == batch.statuses == []
    assert batch.attributes == batch.deliveries == []


def test_building_a_batch_changes_no_message():
    rows = [measurement(1), measurement(1, value=2)]
    made = message(rows, duplicates={rows[0][0]: 1})
    assert build_batch([made]).measurements == [rows[1]]
    assert made.rows == rows


def test_answers_are_corrected_where_rows_were_repeats():
    row = measurement(1)
    options = {
        "delivery": b"d",
        "delivery_expiry": 9,
        "answer": lambda duplicates: f"repeats {duplicates}",
    }
    repeated = message([row], **options)
    fresh = message([measurement(1)], **options)
    dropped = message([row], dropped="old", **options)
    without = message([row], delivery=b"d")
    messages = [repeated, fresh, dropped, without]
    expected = [(b"d", row[0], 9, f"repeats { ({row[0]: 1}) }")]
    assert corrected_answers(messages, {row[0]: 1}) == expected


def test_events_tell_what_was_inserted():
    rows = [measurement(1), measurement(1, value=2), measurement(2)]
    fault = Fault(1, RejectionReason.WRONG_TYPE, "")
    whole = message([rows[0]], payload=b"whole")
    partly = message(rows[:2], payload=b"x", duplicates={rows[0][0]: 1})
    faulty = message([rows[0]], payload=b"x", faults=[fault])
    none = message([rows[0]], payload=b"x", duplicates={rows[0][0]: 1})
    merged = message([*rows, rows[0]], merged=True, duplicates={rows[1][0]: 1})
    dropped = message([rows[0]], payload=b"x", dropped="")
    refused = message([], Kind.REJECTED, None)
    status = message([], Kind.STATUS, status="online", payload=b"online")
    many = message(rows, sensor=None, parts=[PUMP, PUMP, FAN], duplicates={rows[1][0]: 1})
    messages = [whole, partly, faulty, none, merged, dropped, refused, status, many]
    events = committed_events(messages, {1: PUMP, 2: FAN}.get)
    told = [(event.number, event.device_id, event.rows, event.payload) for event in events]
    assert told == [
        (1, "pump", [rows[0]], b"whole"),
        (1, "pump", [rows[1]], None),
        (1, "pump", [rows[0]], None),
        (1, "pump", [rows[0]], None),
        (2, None, [rows[2]], None),
        (1, "pump", [rows[0]], None),
        (1, "pump", [], b"online"),
        (1, "pump", [rows[0]], None),
        (2, None, [rows[2]], None),
    ]
    assert events[0].origin is whole.origin
