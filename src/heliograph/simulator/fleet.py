"""The simulated sensors on their connections, and the pace at which they send."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from heliograph.errors import StartError
from heliograph.simulator.connection import ConnectOptions, SimulatedConnection
from heliograph.simulator.disorder import Disorder, Sending
from heliograph.simulator.sensor import SimulatedMessage, SimulatedSensor
from heliograph.simulator.tally import Tally

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


Addressed: TypeAlias = tuple[SimulatedConnection, SimulatedMessage]


class Fleet:
    """All sensors of a run."""

    def __init__(
        self, plan: SimulationPlan, options: ConnectOptions, credentials: Credentials, tally: Tally
    ) -> None:
        self._plan = plan
        self._tally = tally
        self._stopping = asyncio.Event()
        self._abandoned = asyncio.Event()
        # For how long measurements were sent.
        self.seconds = 0.0
        started = plan.replay.start if plan.replay else time.time()
        self._disorder: Disorder[Addressed] = Disorder(
            late=plan.late, repeated=plan.repeated, turn=plan.sensors, seed=plan.seed
        )
        last = plan.sensors - 1
        sensors = [
            SimulatedSensor(i, seed=plan.seed, started=started, is_failing=0 < i == last)
            for i in range(plan.sensors)
        ]
        is_direct = plan.sensors <= plan.connections and credentials.username is None
        count = plan.sensors if is_direct else min(plan.gateways, plan.sensors)
        window = max(20, min(MOST_WINDOW, options.window, IN_FLIGHT // count))
        options = dataclasses.replace(options, window=window)
        self._connections: list[SimulatedConnection] = []
        for number in range(count):
            # Dealt out in turn, so that each gateway has its share.
            own = sensors[number::count]
            name, password = credentials.username or "simulate", credentials.password
            client_id = f"sim-gateway-{number + 1}"
            if is_direct:
                name = client_id = own[0].device_id
                password = credentials.device_keys.get(name, password)
            self._connections.append(
                SimulatedConnection(
                    options,
                    tally,
                    own,
                    client_id=client_id,
                    username=name,
                    password=password,
                    is_gateway=not is_direct,
                )
            )
        self._turn = self._rounds()

    def connected(self) -> tuple[int, int]:
        """Return how many connections are up, of how many."""
        return sum(each.is_online for each in self._connections), len(self._connections)

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
                self.seconds = time.monotonic() - started
            await self._drain()
        finally:
            for connection in self._connections:
                connection.close()
            _, late = await asyncio.wait(tasks, timeout=FAREWELL_SECONDS) if tasks else ((), ())
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, tasks: list[asyncio.Task[None]]) -> None:
        """Log the first in alone, so that what is wrong is said once; then the others."""
        for start in [0, *range(1, len(self._connections), LOGINS_AT_ONCE)]:
            wave = self._connections[start : start + LOGINS_AT_ONCE if start else 1]
            for number, connection in enumerate(wave, start):
                tasks.append(asyncio.create_task(connection.run(), name=f"connection-{number}"))
            for connection in wave:
                is_online = await connection.online(FIRST_LOGIN_SECONDS, patient=start > 0)
                if not is_online and start == 0:
                    reason = connection.refusal or self._tally.last_error or "no answer"
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

    def _pass_on(self, sendings: Iterable[Sending[Addressed]]) -> None:
        for sending in sendings:
            connection, message = sending.message
            connection.send(message)
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
            for connection, sensor in pairs:
                for message in sensor.logs_due(moment):
                    await self._send_surely(connection, message)
                if sensor.is_silent(moment):
                    continue
                made = sensor.measurements(moment, self._plan.batch)
                for sending in self._disorder.take((connection, made)):
                    if await self._send_surely(*sending.message):
                        self._note(sending)
            if self._stopping.is_set():
                return
            await asyncio.sleep(0)
        for sending in self._disorder.rest():
            if await self._send_surely(*sending.message):
                self._note(sending)

    def _note(self, sending: Sending[Addressed]) -> None:
        rows = sending.message[1].rows
        if sending.is_late:
            self._tally.late.add(rows)
        if sending.is_repeat:
            self._tally.repeated.add(rows)

    async def _send_surely(
        self, connection: SimulatedConnection, message: SimulatedMessage
    ) -> bool:
        """Send a message as soon as there is room for it; return false if it stops before."""
        while not self._stopping.is_set():
            if connection.publish(message):
                return True
            await asyncio.sleep(TICK_SECONDS)
        return False

    def _send(self, limit: int) -> int:
        """Send up to so many measurement messages, in turn over the sensors."""
        moment = time.time()
        for connection in self._connections:
            connection.flush()
            if connection.is_free:
                for sensor in connection.sensors:
                    for message in sensor.due(moment):
                        connection.send(message)
        sent = passed = 0
        while sent < limit and passed < self._plan.sensors:
            connection, sensor = next(self._turn)
            if connection.is_free and not sensor.is_silent(moment):
                made = sensor.measurements(time.time(), self._plan.batch)
                self._pass_on(self._disorder.take((connection, made)))
                sent += 1
                passed = 0
            else:
                passed += 1
        return sent

    def _rounds(self) -> Iterator[tuple[SimulatedConnection, SimulatedSensor]]:
        pairs = [(each, sensor) for each in self._connections for sensor in each.sensors]
        while True:
            yield from pairs

    async def _drain(self) -> None:
        """Disconnect, then wait until everything is acknowledged or nobody wants to wait."""
        for connection in self._connections:
            connection.say_goodbye()
        deadline = time.monotonic() + self._plan.drain
        while not self._abandoned.is_set() and time.monotonic() < deadline:
            for connection in self._connections:
                connection.flush()
            if not any(connection.has_unsettled for connection in self._connections):
                return
            await asyncio.sleep(TICK_SECONDS)
