"""The simulated sensors on their connections, and the pace at which they send."""

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from heliograph.cli.simulation.connection import ConnectOptions, SimulatedConnection
from heliograph.cli.simulation.disorder import Disorder, Sending
from heliograph.cli.simulation.sensor import SimulatedMessage, SimulatedSensor
from heliograph.cli.simulation.tally import Tally
from heliograph.errors import StartError

IN_FLIGHT = 20_000
MOST_WINDOW = 5_000
FIRST_LOGIN_SECONDS = 15.0
LOGINS_AT_ONCE = 25
TICK_SECONDS = 0.01
BURST = 200
FAREWELL_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class PastPeriod:
    """A time in the past to go through: from `start` (epoch seconds) to before so many seconds.

    Each sensor measures at the interval, at the start first; speed 0 is as fast as it can.
    """

    start: float
    seconds: float
    interval: float
    speed: float


@dataclasses.dataclass(frozen=True, slots=True)
class SimulationPlan:
    """What to simulate. Rate 0 is as fast as it can, duration 0 until stopped.

    With a replay neither counts. `late` and `repeated` are shares of the messages.
    """

    sensors: int
    rate: float
    duration: float
    batch: int
    seed: int
    connections: int
    gateways: int
    drain: float
    late: float = 0.0
    repeated: float = 0.0
    replay: PastPeriod | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in: each device by its own key where known, else by one for all."""

    username: str | None
    password: str
    device_keys: dict[str, str]


def device_ids(sensors: int) -> list[str]:
    """Return what so many simulated devices are called."""
    return [f"sim-{number:04d}" for number in range(1, sensors + 1)]


class FleetConnection:
    """A connection, the sensors behind it, and what waits for room on it."""

    def __init__(self, connection: SimulatedConnection, sensors: list[SimulatedSensor]) -> None:
        self.connection = connection
        self.sensors = sensors
        self.waiting: deque[SimulatedMessage] = deque(maxlen=100)

    def is_free(self) -> bool:
        """Tell whether a new message would go out at once."""
        return not self.waiting and self.connection.has_room()

    def send(self, message: SimulatedMessage) -> None:
        """Send a message, or let it wait for room."""
        if self.waiting or not self.connection.publish(message):
            self.waiting.append(message)

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self.waiting and self.connection.publish(self.waiting[0]):
            self.waiting.popleft()


class Fleet:
    """All sensors of a run."""

    def __init__(
        self, plan: SimulationPlan, endpoint: ConnectOptions, credentials: Credentials, tally: Tally
    ) -> None:
        self._plan = plan
        self._tally = tally
        self._stopping = asyncio.Event()
        self._abandoned = asyncio.Event()
        self._seconds = 0.0
        started = plan.replay.start if plan.replay else time.time()
        self._disorder: Disorder[tuple[FleetConnection, SimulatedMessage]] = Disorder(
            late=plan.late, repeated=plan.repeated, turn=plan.sensors, seed=plan.seed
        )
        sensors = [
            SimulatedSensor(
                index,
                seed=plan.seed,
                started=started,
                is_failing=index > 0 and index == plan.sensors - 1,
            )
            for index in range(plan.sensors)
        ]
        self._is_direct = plan.sensors <= plan.connections and credentials.username is None
        count = plan.sensors if self._is_direct else min(plan.gateways, plan.sensors)
        window = max(20, min(MOST_WINDOW, endpoint.window, IN_FLIGHT // count))
        endpoint = dataclasses.replace(endpoint, window=window)
        # Dealt out in turn, so that each gateway has its share.
        self._links = [
            self._link(endpoint, credentials, number, sensors[number::count])
            for number in range(count)
        ]
        self._turn = self._rounds()

    def _link(
        self,
        endpoint: ConnectOptions,
        credentials: Credentials,
        number: int,
        sensors: list[SimulatedSensor],
    ) -> FleetConnection:
        first = sensors[0]
        username, password = credentials.username, credentials.password
        if self._is_direct:
            username = first.device_id
            password = credentials.device_keys.get(first.device_id, password)
        connection = SimulatedConnection(
            endpoint,
            self._tally,
            client_id=first.device_id if self._is_direct else f"sim-gateway-{number + 1}",
            username=username or "simulate",
            password=password,
            will=first.status("offline") if self._is_direct else None,
        )
        link = FleetConnection(connection, sensors)
        if self._is_direct:
            connection.on_online = lambda: self._greet(link, first)
            connection.on_message = lambda topic, payload: _configure(link, first, topic, payload)
        return link

    @staticmethod
    def _greet(link: FleetConnection, sensor: SimulatedSensor) -> None:
        link.connection.subscribe(f"configurations/{sensor.device_id}")
        link.send(sensor.status("online"))

    @property
    def seconds(self) -> float:
        """For how long measurements were sent."""
        return self._seconds

    def connected(self) -> tuple[int, int]:
        """Return how many connections are up, of how many."""
        return sum(link.connection.is_online for link in self._links), len(self._links)

    def stop(self) -> None:
        """Send no more; a second call does not wait for acknowledgments either."""
        if self._stopping.is_set():
            self._abandoned.set()
        self._stopping.set()

    async def run(self) -> None:
        """Connect, send until the duration is over or `stop`, wait for acknowledgments.

        Raises:
            StartError: the first connection cannot be made.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._connect(tasks)
            started = time.monotonic()
            try:
                if self._plan.replay is None:
                    await self._produce()
                else:
                    await self._replay(self._plan.replay)
            finally:
                self._seconds = time.monotonic() - started
            await self._drain()
        finally:
            for link in self._links:
                await link.connection.close()
            _, late = await asyncio.wait(tasks, timeout=FAREWELL_SECONDS) if tasks else ((), ())
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, tasks: list[asyncio.Task[None]]) -> None:
        """Log the first in alone, so that what is wrong is said once; then the others."""
        for start in [0, *range(1, len(self._links), LOGINS_AT_ONCE)]:
            links = self._links[start : start + LOGINS_AT_ONCE] if start else self._links[:1]
            for number, link in enumerate(links, start):
                tasks.append(
                    asyncio.create_task(link.connection.run(), name=f"connection-{number}")
                )
            for link in links:
                is_online = await link.connection.online(FIRST_LOGIN_SECONDS, patient=start > 0)
                if not is_online and start == 0:
                    reason = link.connection.refusal or self._tally.last_error or "no answer"
                    raise StartError(f"cannot connect by MQTT: {reason}")
            if self._stopping.is_set():
                return

    async def _produce(self) -> None:
        started = time.monotonic()
        allowance = 0.0
        last = started
        while not self._stopping.is_set():
            now = time.monotonic()
            if self._plan.duration and now - started >= self._plan.duration:
                break
            # What could not be sent in a second is given up: a real sensor too measures
            # at its own pace, and no backlog grows.
            most = max(1.0, self._plan.rate)
            allowance = min(most, allowance + (now - last) * self._plan.rate)
            last = now
            sent = self._send(int(allowance) if self._plan.rate else BURST)
            allowance -= sent
            pause = 0 if sent and not self._plan.rate else TICK_SECONDS
            await asyncio.sleep(pause)
        self._pass_on(self._disorder.rest())

    def _pass_on(
        self, sendings: Iterable[Sending[tuple[FleetConnection, SimulatedMessage]]]
    ) -> None:
        for sending in sendings:
            link, message = sending.message
            link.send(message)
            self._note(sending)

    async def _replay(self, replay: PastPeriod) -> None:
        """Send what the sensors said in that time: everything, in its order but for the disorder.

        Signs of life are left out, since nobody lives in the past.
        """
        began = time.monotonic()
        # Everything has a place in its sensor's time, so that nothing may be given up.
        pairs = [next(self._turn) for _ in range(self._plan.sensors)]
        # A message holds so many measurements, and is sent with the last of them.
        turn = replay.interval * self._plan.batch
        for _, sensor in pairs:
            sensor.begin(replay.start - replay.interval)
        for number in range(1, int(replay.seconds / turn) + 1):
            moment = replay.start + number * turn - replay.interval
            if replay.speed:
                with contextlib.suppress(TimeoutError):
                    due = began + (moment - replay.start) / replay.speed
                    async with asyncio.timeout(max(0.0, due - time.monotonic())):
                        await self._stopping.wait()
            for link, sensor in pairs:
                for message in sensor.logs_due(moment):
                    await self._send_surely(link, message)
                if sensor.is_silent(moment):
                    continue
                made = sensor.measurements(moment, self._plan.batch)
                for sending in self._disorder.take((link, made)):
                    if await self._send_surely(*sending.message):
                        self._note(sending)
            if self._stopping.is_set():
                return
            await asyncio.sleep(0)
        for sending in self._disorder.rest():
            if await self._send_surely(*sending.message):
                self._note(sending)

    def _note(self, sending: Sending[tuple[FleetConnection, SimulatedMessage]]) -> None:
        rows = sending.message[1].rows
        if sending.is_late:
            self._tally.late.add(rows)
        if sending.is_repeat:
            self._tally.repeated.add(rows)

    async def _send_surely(self, link: FleetConnection, message: SimulatedMessage) -> bool:
        """Send a message as soon as there is room for it; False: there is none and it stops."""
        while not self._stopping.is_set():
            link.flush()
            if not link.waiting and link.connection.publish(message):
                return True
            await asyncio.sleep(TICK_SECONDS)
        return False

    def _send(self, limit: int) -> int:
        """Send up to so many measurement messages, in turn over the sensors."""
        moment = time.time()
        for link in self._links:
            link.flush()
            if link.is_free():
                for sensor in link.sensors:
                    for message in sensor.due(moment):
                        link.send(message)
        sent = passed = 0
        while sent < limit and passed < self._plan.sensors:
            link, sensor = next(self._turn)
            if link.is_free() and not sensor.is_silent(moment):
                made = sensor.measurements(time.time(), self._plan.batch)
                self._pass_on(self._disorder.take((link, made)))
                sent += 1
                passed = 0
            else:
                passed += 1
        return sent

    def _rounds(self) -> Iterator[tuple[FleetConnection, SimulatedSensor]]:
        pairs = [(link, sensor) for link in self._links for sensor in link.sensors]
        while True:
            yield from pairs

    async def _drain(self) -> None:
        """Say goodbye, then wait until everything is acknowledged or nobody wants to wait."""
        for link in self._links if self._is_direct else ():
            link.send(link.sensors[0].status("offline"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.drain):
                while not self._abandoned.is_set() and any(map(_is_owed, self._links)):
                    for link in self._links:
                        link.flush()
                    await asyncio.sleep(TICK_SECONDS)


def _is_owed(link: FleetConnection) -> bool:
    return bool(link.waiting or link.connection.outstanding)


def _configure(link: FleetConnection, sensor: SimulatedSensor, _topic: str, payload: bytes) -> None:
    """Take a configuration over and say so, as a device does."""
    try:
        message: Any = msgspec.json.decode(payload)
        sensor.revision = int(message["revision"])
    except (msgspec.MsgspecError, TypeError, KeyError, ValueError):
        sensor.log("error", "configuration not understood", repr(payload[:100]), time.time())
        return
    link.send(sensor.heartbeat(time.time()))
