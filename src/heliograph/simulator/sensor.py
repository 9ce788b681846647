"""A simulated sensor: what it is, and the messages that it has to send."""

import random
from typing import NamedTuple

import msgspec

from heliograph.simulator import signals
from heliograph.simulator.signals import SensorCondition

HEARTBEAT_SECONDS = 30.0
COMPLAINT_SECONDS = 5.0

_encode = msgspec.json.Encoder().encode


class SimulatedMessage(NamedTuple):
    """A message to publish; `rows` is how many records the server makes of it."""

    kind: str
    topic: str
    payload: bytes
    rows: int
    retain: bool = False


class SimulatedSensor:
    """A weather sensor. With the same seed it has the same character and noise."""

    def __init__(self, index: int, *, seed: int, started: float, is_failing: bool = False) -> None:
        """Switch the sensor on at `started` (epoch seconds); the first is never silent."""
        self.device_id = f"sim-{index + 1:04d}"
        self.revision: int | None = None
        self._random = random.Random(f"{seed}/{self.device_id}")  # noqa: S311 - not for keys
        self._phase = self._random.random()
        self._has_gaps = index > 0
        self._is_failing = is_failing
        self._condition = SensorCondition.HEALTHY
        self._started = started
        self._stuck_at: float | None = None
        self._last_time = 0
        # Spread over the period, so that not all of them speak at once.
        self._heartbeat_at = started + self._phase * HEARTBEAT_SECONDS
        self._complaint_at = started
        self._logs: list[dict[str, object]] = []
        self.log("info", "started", "Switched on.", started)

    def is_silent(self, now: float) -> bool:
        """Return whether the sensor is out of reach at the moment."""
        return self._has_gaps and signals.is_silent(now, self._phase)

    def begin(self, moment: float) -> None:
        """Have the next measurements be of the time after this moment."""
        self._last_time = round(moment * 1e6)

    def measurements(self, now: float, count: int = 1) -> SimulatedMessage:
        """Return a message of so many measurements, made since the last one."""
        end, step = self._span(now, count)
        elements = []
        for position in range(count):
            timestamp = (end - step * (count - 1 - position)) / 1e6
            element: dict[str, object] = {"timestamp": timestamp, "value": self._value(timestamp)}
            if self.revision is not None:
                element["revision"] = self.revision
            elements.append(element)
        payload = _encode({"measurements": elements})
        return SimulatedMessage("measurement", f"measurements/{self.device_id}", payload, count)

    def _span(self, now: float, count: int) -> tuple[int, int]:
        """Return the last time and the step: times of one sensor always increase.

        They tell its records apart, so that the count holds exactly.
        """
        end = max(round(now * 1e6), self._last_time + count)
        since = self._last_time or end - count * 1_000_000
        self._last_time = end
        return end, (end - since) // count

    def _value(self, seconds: float) -> dict[str, float]:
        deviate, phase = self._random.gauss, self._phase
        value = {
            "temperature": signals.temperature(seconds, phase, deviate(0, 1)),
            "humidity": signals.humidity(seconds, phase, deviate(0, 1)),
            "pressure": signals.pressure(seconds, phase, deviate(0, 1)),
            "battery": signals.battery(seconds, phase, deviate(0, 1)),
        }
        if self._is_failing:
            value["temperature"] = self._failing(seconds, value["temperature"])
        return value

    def _failing(self, seconds: float, temperature: float) -> float:
        age = seconds - self._started
        if signals.condition(age) is not SensorCondition.STUCK:
            self._stuck_at = None
            return round(temperature + signals.drift(age), 2)
        if self._stuck_at is None:
            self._stuck_at = round(temperature + signals.drift(age), 2)
        return self._stuck_at

    def log(self, severity: str, subject: str, details: str, now: float) -> None:
        """Keep a line to send with the next log message."""
        timestamp = round(now * 1e6) / 1e6
        self._logs.append(
            {"severity": severity, "subject": subject, "details": details, "timestamp": timestamp}
        )

    def due(self, now: float) -> list[SimulatedMessage]:
        """Return what the sensor has to say beside measurements: logs and signs of life."""
        messages = self.logs_due(now)
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            messages.append(self.heartbeat(now))
        return messages

    def logs_due(self, now: float) -> list[SimulatedMessage]:
        """Return what the sensor has to log."""
        if self._is_failing:
            self._complain(now)
        messages = []
        if self._logs:
            payload = _encode({"log_messages": self._logs})
            topic = f"log-messages/{self.device_id}"
            messages.append(SimulatedMessage("log", topic, payload, len(self._logs)))
            self._logs = []
        return messages

    def _complain(self, now: float) -> None:
        condition = signals.condition(now - self._started)
        changed, self._condition = condition is not self._condition, condition
        if not changed and (condition is SensorCondition.HEALTHY or now < self._complaint_at):
            return
        self._complaint_at = now + COMPLAINT_SECONDS
        if condition is SensorCondition.DRIFTING:
            self.log("warning", "temperature drifts", "Differs from the reference element.", now)
        elif condition is SensorCondition.STUCK:
            self.log("error", "temperature stuck", "No change over many samples.", now)
        else:
            self.log("info", "temperature recovered", "Element restarted.", now)

    def heartbeat(self, now: float) -> SimulatedMessage:
        """Return a sign of life, which also says that the current revision is in force."""
        element: dict[str, object] = {"timestamp": round(now * 1e6) / 1e6}
        if self.revision is not None:
            element |= {"revision": self.revision, "success": True}
        payload = _encode({"heartbeats": [element]})
        return SimulatedMessage("heartbeat", f"heartbeats/{self.device_id}", payload, 1)

    def status(self, text: str) -> SimulatedMessage:
        """Return `online` or `offline`, which the server keeps as the sensor's status."""
        return SimulatedMessage("status", f"status/{self.device_id}", text.encode(), 1, retain=True)
