"""What is counted of log messages, on both engines."""

from heliograph.store.engine import Batch
from rows import NOON, log


async def test_log_messages_are_counted_by_severity_and_subject(store, sensor):
    def logged(at, severity, subject, revision):
        row = list(log(sensor, NOON + at, subject))
        row[5], row[7] = revision, severity
        return tuple(row)

    rows = [
        logged(0, "warning", "hot", 0),
        logged(1, "warning", "hot", None),
        logged(2, "error", "hot", 2),
        logged(3, "warning", "hot", 1),
        logged(4, "info", "hot", 1),
        logged(5, "debug", "hot", 1),
        logged(6, "error", "burning", None),
    ]
    await store.write(Batch(logs=[*rows, log(sensor + 1, NOON, "other")]))
    everything = {"start": 0, "end": NOON + 100}
    found = await store.logs.aggregates(sensor, **everything)
    assert [
        (
            each.severity,
            each.subject,
            each.minimum_revision,
            each.maximum_revision,
            each.minimum_timestamp - NOON,
            each.maximum_timestamp - NOON,
            each.count,
        )
        for each in found
    ] == [
        ("error", "hot", 2, 2, 2, 2, 1),
        ("warning", "hot", 0, 1, 0, 3, 3),
        ("error", "burning", None, None, 6, 6, 1),
    ]
    found = await store.logs.aggregates(sensor, start=NOON + 1, end=NOON + 3)
    assert [(each.severity, each.count) for each in found] == [("warning", 1), ("error", 1)]
    assert await store.logs.aggregates(sensor, start=NOON + 50, end=NOON + 60) == []
