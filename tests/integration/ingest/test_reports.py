"""What the log tells of devices that go wrong: rejected messages, and numbers sent as texts."""

import asyncio
import contextlib
import shlex

import pytest
from structlog.testing import capture_logs

from heliograph.access.authenticator import ADMIN
from heliograph.errors import RejectionReason
from heliograph.hourly import LINES, LINES_OF_ONE
from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.decode import decode_reading
from heliograph.ingest.rejections import RejectionReports
from heliograph.ingest.strict_json import Fault
from heliograph.model.number_text import is_number_text
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.model.time import HOUR, MINUTE, SECOND, now
from heliograph.rollups import task as task_module
from heliograph.rollups.task import RollupTask
from ingest_core import NOON
from server import eventually


def device(sensor):
    return Principal("device", f"device:{sensor.device_id}", sensor=sensor.number)


def rejected(logs):
    return [each for each in logs if each["event"] == "message rejected"]


async def test_a_rejected_message_is_told_with_its_reason_and_the_command_that_shows_more(core):
    pump = await core.device("pump")
    with capture_logs() as logs:
        await core.publish("measurements/pump", b"{", principal=device(pump))
        await core.settled()
    (told,) = logs
    assert told["log_level"] == "warning"
    assert (told["sender"], told["source"]) == ("device:pump", "measurements/pump")
    assert told["reason"] == "MALFORMED_JSON"
    assert told["detail"]
    assert told["see"] == "heliograph rejected --from pump"


async def test_each_source_and_reason_is_told_once(core):
    pump, fan = await core.device("pump"), await core.device("fan")
    with capture_logs() as logs:
        for _ in range(50):
            await core.publish("measurements/pump", b"{", principal=device(pump))
            await core.publish("measurements/pump", {"valeu": [1]}, principal=device(pump))
            await core.publish("logs/fan", {"severity": "loud"}, principal=device(fan))
        await core.settled()
    assert [(each["see"].split()[-1], each["reason"]) for each in logs] == [
        ("pump", "MALFORMED_JSON"),
        ("pump", "UNKNOWN_MEMBER"),
        ("fan", "WRONG_TYPE"),
    ]
    assert sum(core.state.rejected_total.values()) == 150


def test_what_goes_on_for_hours_is_told_each_hour_with_how_many_more_there_were():
    reports = RejectionReports()
    fault = [Fault(None, RejectionReason.MALFORMED_JSON, "cut off")]
    with capture_logs() as logs:
        for hour, count in enumerate((50, 1, 0, 3)):
            moment = (NOON * SECOND // HOUR + hour) * HOUR
            for minute in range(count):
                reports.report(
                    fault, ADMIN, "measurements/pump", None, None, moment + minute * MINUTE
                )
    assert [each.get("not_logged_before") for each in logs] == [None, 49, None]


async def test_http_is_told_of_like_mqtt_and_of_a_batch_each_reason_with_an_element(core):
    pump = await core.device("pump")
    with capture_logs() as logs:
        elements = [{"value": 1}, {"valeu": [2]}, {"value": 3, "timestamp": "soon"}, {"valeu": [4]}]
        await core.post(
            pump, elements, kind=Kind.MEASUREMENT, source="POST /sensors/pump/measurements"
        )
    assert [(each["reason"], each["element"]) for each in logs] == [
        ("UNKNOWN_MEMBER", 1),
        ("INVALID_TIMESTAMP", 2),
    ]
    assert {each["source"] for each in logs} == {"POST /sensors/pump/measurements"}


@pytest.mark.parametrize(
    ("topic", "meant"),
    [
        ("measurement/pump", "did you mean `measurements`?"),
        ("Heartbeat/pump", "did you mean `heartbeats`?"),
        ("log/pump", "did you mean `log-messages`?"),
        ("packet/pump", "did you mean `packets`?"),
        ("packets", "status/<sensor>, packets/+"),
        ("measurements", "there are measurements/<sensor>, log-messages/<sensor>,"),
        ("/measurements/pump", "there are measurements/<sensor>, "),
        ("measurements/pump/t", "there are measurements/<sensor>, "),
        ("zigbee2mqtt/pump", "there are measurements/<sensor>, "),
    ],
)
async def test_a_topic_that_there_is_not_is_told_with_what_may_be_meant(plain_core, topic, meant):
    with capture_logs() as logs:
        await plain_core.publish(topic, b"1")
        await plain_core.settled()
    (told,) = logs
    assert told["reason"] == "UNKNOWN_TOPIC"
    assert meant in told["detail"]


@pytest.mark.parametrize(
    ("principal", "topic", "payload", "name"),
    [
        # A gateway is not its sensors.
        (ADMIN, "measurements/pump", b"{", "pump"),
        (ADMIN, "measurements/pmup", b"1", "measurements/pmup"),
        (ADMIN, "mesurements/pump", b"1", "mesurements/pump"),
        (Principal("broker", "broker:pump"), "measurements/pump", b"{", "pump"),
        (Principal("broker", "broker:pmup"), "measurements/pmup", b"1", "pmup"),
        (Principal("shared", "shared:pmup", device="pmup"), "measurements/pmup", b"1", "pmup"),
        (Principal("user", "user:ada", account="x"), "it's a/topic", b"1", "it's a/topic"),
    ],
)
async def test_what_the_command_lists_is_what_was_told_of(core, principal, topic, payload, name):
    await core.device("pump")
    await core.device("fan")
    with capture_logs() as logs:
        await core.publish(topic, payload, principal=principal)
        await core.publish("measurements/fan", b"{", principal=ADMIN)
        await core.settled()
    told = rejected(logs)[0]
    assert shlex.split(told["see"]) == ["heliograph", "rejected", "--from", name]
    sensor = await core.store.sensors.find(name)
    number = None if sensor is None else sensor.number
    found = await core.store.rejected.list(limit=9, sender=name, sensor=number)
    assert [message.source for message in found] == [topic]
    wanted = RejectionReason(told["reason"])
    assert await core.store.rejected.list(limit=9, sender=name, sensor=number, reason=wanted)
    other = RejectionReason.NUL_IN_TEXT
    assert not await core.store.rejected.list(limit=9, sender=name, sensor=number, reason=other)


def test_however_many_sources_there_are_lines_and_memory_are_bounded():
    reports = RejectionReports()
    fault = [Fault(None, RejectionReason.UNKNOWN_TOPIC, "no such topic")]
    with capture_logs() as logs:
        for hour in range(3):
            moment = (NOON * SECOND // HOUR + hour) * HOUR
            for number in range(20_000):
                reports.report(fault, ADMIN, f"x/{number}", None, None, moment)
            # One that floods leaves room for others.
            own = Principal("device", "device:pump", sensor=1)
            reports.report(fault, own, "y", None, None, moment)
            assert len(reports._hourly) <= 2 * LINES
    named = rejected(logs)
    assert len(named) == 3 * (LINES_OF_ONE + 1)
    assert [each["see"] for each in logs if each not in named] == ["heliograph rejected"] * 3
    assert [each for each in named if each["sender"] == "device:pump"]
    with capture_logs() as logs:
        for number in range(10 * LINES):
            sender = Principal("device", f"device:{number}", sensor=number)
            reports.report(fault, sender, "x", None, None, moment + HOUR)
    assert len(rejected(logs)) == LINES


def texts(logs):
    return [
        (each["sensor"], each["attribute"], each["text"])
        for each in logs
        if each["event"].startswith("number sent as text")
    ]


async def test_a_number_sent_as_a_text_is_told_once_of_each_sensor_and_attribute(core):
    pump, fan = await core.device("pump"), await core.device("fan")
    value = {"t": "22.5", "state": "on", "deep": {"h": "40"}, "n": 1, "a.b": "1e3"}
    with capture_logs() as logs:
        for _ in range(3):
            await core.publish("measurements/pump", {"value": value}, principal=device(pump))
        await core.publish("measurements/fan", {"value": "7"}, principal=device(fan))
        await core.settled()
    assert texts(logs) == [
        ("pump", r"a\.b", "1e3"),
        ("pump", "deep.h", "40"),
        ("pump", "t", "22.5"),
        ("fan", "value", "7"),
    ]
    # They are stored as they came.
    assert await core.values(fan) == ["7"]


async def test_it_is_told_whichever_way_it_comes(core):
    pump, fan, gate = [await core.device(name) for name in ("pump", "fan", "gate")]
    with capture_logs() as logs:
        await core.post(pump, {"value": {"t": "1"}}, kind=Kind.MEASUREMENT)
        read = [
            (at, sensor, decode_reading(b'{"t": 1, "u": "%d"}' % at, now()))
            for at, sensor in enumerate((fan, gate))
        ]
        await core.http.post_readings(read, [], b"", ADMIN, "POST /ingest/batch")
    assert texts(logs) == [("pump", "t", "1"), ("fan", "u", "0"), ("gate", "u", "1")]


async def test_what_was_a_number_before_is_told_when_its_rollups_are_made(core, monkeypatch):
    """New firmware: the attribute is known, and nothing on the way looks at its values."""
    monkeypatch.setattr(task_module, "POLL_SECONDS", 0.02)
    pump = await core.device("pump")
    began = now() // SECOND - 3_600

    def reading(minute, value):
        return {"timestamp": began + minute * 60, "value": {"t": value, "state": "on"}}

    with capture_logs() as logs:
        for minute in range(40):
            value = 20 + minute if minute < 20 else str(20 + minute)
            await core.publish("measurements/pump", reading(minute, value), principal=device(pump))
        await core.settled()
        assert texts(logs) == []
        reports = NewAttributes(core.registry.number, core.clock.moment)
        task = RollupTask(core.store, core.state, reports)
        run = asyncio.create_task(task.run(), name="rollups")
        try:
            await eventually(lambda: texts(logs))
            # Once: what comes later says nothing new.
            for minute in range(40, 45):
                await core.publish("measurements/pump", reading(minute, "1"))
            await core.settled()
            stored = task.state.stored_total
            await eventually(lambda: task.state.stored_total > stored)
        finally:
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run
    ((sensor, name, _),) = texts(logs)
    assert (sensor, name) == ("pump", "t")


def test_so_many_number_texts_are_told_that_the_log_bears_and_the_others_later():
    sensors = {number: _Known(number) for number in range(3 * LINES)}
    moment = NOON * SECOND
    reports = NewAttributes(sensors.get, lambda: moment)
    with capture_logs() as logs:
        for hour in range(1, 12):
            for number, sensor in sensors.items():
                assert reports.is_news(number, "t") == ("t" not in sensor.number_texts)
                reports.report(number, "t", "1")
            assert len(texts(logs)) == min(hour * LINES_OF_ONE, 3 * LINES)
            moment += HOUR
    assert not any(reports.is_news(number, "t") for number in sensors)
    assert not reports.is_news(-1, "t")


class _Known:
    def __init__(self, number):
        self.device_id = f"d-{number}"
        self.number_texts = frozenset()


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        *((text, True) for text in ("22.5", "-1", "+3", "0", ".5", "1.", "1e-3", " 7 ", "21,5")),
        *((text, False) for text in ("", " ", "on", "22.5 C", "007", "1.2.3", "0x1F", "NaN", "-")),
        *((other, False) for other in (22.5, None, True, ["1"], "1" * 41, "٣")),
    ],
)
def test_what_a_number_text_is(value, is_one):
    assert is_number_text(value) is is_one
