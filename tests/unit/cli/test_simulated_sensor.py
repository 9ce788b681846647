"""Simulated sensors: what they send is what the server takes, and each record differs."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.ingest.decode import (
    decode_heartbeats,
    decode_logs,
    decode_measurements,
    decode_status,
)
from heliograph.simulator import signals
from heliograph.simulator.sensor import HEARTBEAT_SECONDS, SimulatedMessage, SimulatedSensor

START = 1_750_000_000.0
DECODE = {
    "measurement": decode_measurements,
    "log": decode_logs,
    "heartbeat": decode_heartbeats,
}


def sensor(index: int = 3, **options: object) -> SimulatedSensor:
    return SimulatedSensor(index, **{"seed": 1, "started": START, **options})


def rows(messages: Iterable[SimulatedMessage], now: float = START) -> list[tuple]:
    """Return the rows that the server makes of the messages, all of which it must take."""
    taken = []
    for message in messages:
        if message.kind == "status":
            decode_status(message.payload)
            continue
        moment = round(now * 1e6)
        decoded = DECODE[message.kind](message.payload, 1, 1, moment, moment)
        assert decoded.faults == []
        assert not decoded.untimed
        assert len(decoded.rows) == message.rows
        taken += decoded.rows
    return taken


@given(st.lists(st.tuples(st.floats(-1, 10), st.integers(1, 20)), min_size=1, max_size=20))
def test_every_record_has_a_time_of_its_own_even_when_the_clock_steps_back(steps):
    simulated, now, messages = sensor(), START, []
    for seconds, batch in steps:
        now += seconds
        messages.append(simulated.measurements(now, batch))
    times = [row[2] for row in rows(messages, now)]
    assert times == sorted(set(times))
    assert len(times) == sum(batch for _, batch in steps)


def test_a_batch_spans_the_time_since_the_last_one():
    simulated = sensor()
    simulated.measurements(START)
    message = simulated.measurements(START + 10, 5)
    times = [element["timestamp"] for element in json.loads(message.payload)["measurements"]]
    assert times == [START + 2, START + 4, START + 6, START + 8, START + 10]


def test_the_same_seed_makes_the_same_sensor():
    first, second, other = sensor(), sensor(), sensor(seed=2)
    sent = [simulated.measurements(START, 5).payload for simulated in (first, second, other)]
    assert sent[0] == sent[1] != sent[2]


def test_sensors_are_called_by_their_number():
    assert sensor(0).device_id == "sim-0001"
    assert sensor(12_344).device_id == "sim-12345"
    assert sensor(1).measurements(START).topic == "measurements/sim-0002"


def test_the_first_sensor_is_never_silent():
    hour = [START + second for second in range(3_600)]
    assert not any(sensor(0).is_silent(moment) for moment in hour)
    assert any(sensor(1).is_silent(moment) for moment in hour)


def test_it_logs_its_start_and_gives_signs_of_life():
    simulated = sensor()
    messages = simulated.due(START + HEARTBEAT_SECONDS)
    assert [message.kind for message in messages] == ["log", "heartbeat"]
    assert rows(messages)
    assert simulated.due(START + HEARTBEAT_SECONDS + 1) == []


def test_a_configuration_shows_in_what_it_sends():
    simulated = sensor()
    assert b"revision" not in simulated.heartbeat(START).payload
    simulated.revision = 7
    assert json.loads(simulated.heartbeat(START).payload)["heartbeats"][0] == {
        "timestamp": START,
        "revision": 7,
        "success": True,
    }
    assert rows([simulated.measurements(START)])[0][5] == 7


@pytest.mark.parametrize("text", ["online", "offline"])
def test_its_status_is_retained(text):
    message = sensor().status(text)
    assert message == SimulatedMessage("status", "status/sim-0004", text.encode(), 1, retain=True)


class TestFailingSensor:
    def lived(self) -> tuple[list[float], list[dict]]:
        """Return the temperatures and the log lines of one period, a second apart."""
        simulated = sensor(is_failing=True)
        temperatures, logs = [], []
        for second in range(int(signals.FAULT_PERIOD_SECONDS) + 1):
            now = START + second
            logs += [m for m in simulated.due(now) if m.kind == "log"]
            message = simulated.measurements(now)
            value = json.loads(message.payload)["measurements"][0]["value"]
            temperatures.append(value["temperature"])
        assert len(rows(logs, now)) == len({row[2:] for row in rows(logs, now)})
        return temperatures, [
            line for log in logs for line in json.loads(log.payload)["log_messages"]
        ]

    def test_drifts_and_sticks(self):
        temperatures, _ = self.lived()
        assert max(temperatures) > temperatures[0] + signals.GREATEST_DRIFT - 2
        stuck = max(temperatures.count(value) for value in temperatures)
        assert stuck >= 60
        assert abs(temperatures[-1] - temperatures[0]) < 2

    def test_says_so(self):
        _, logs = self.lived()
        severities = [line["severity"] for line in logs]
        assert severities[0] == "info"
        assert severities.count("warning") > 5
        assert severities.count("error") > 5
        assert logs[-1]["subject"] == "temperature recovered"

    def test_a_sound_sensor_does_not(self):
        simulated = sensor()
        logs = [m for s in range(240) for m in simulated.due(START + s) if m.kind == "log"]
        assert len(logs) == 1
