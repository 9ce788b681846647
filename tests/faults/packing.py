"""A server that packs all the time, and kills itself while it does; and what is to be there then.

Its pieces and chunks are small, and what has just come may be packed, so that chunks are made anew
while rows come for them.
"""

import asyncio
import contextlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import msgspec

from aggregating import aggregates_of
from faults.database import Database
from faults.process import ServerProcess, condition
from faults.sender import Publication, Sender
from heliograph.model.time import DAY, HOUR, SECOND, now
from heliograph.store import Store, open_store
from heliograph.store.pages import LEAST

_SENDING_SECONDS = 600.0
# It kills itself as often as a file says: after one of the first statements of its transactions
# that pack, or between them; three of the last five times in those that merge chunks, which it has
# since it packs forty rows at a time.
_SERVER = """
import asyncio, os, random, signal
from pathlib import Path
from heliograph import packer
from heliograph.cli.main import run
from heliograph.packed import chunk, pieces
from heliograph.rollups import task
from heliograph.store import chunks, sqlite
from heliograph.store.engine import Transaction

packer.INTERVAL_SECONDS = packer.SOON_SECONDS = 0.05
packer.FEWEST_ROWS = pieces.FEWEST_ROWS = 50
packer._ROWS_TOGETHER = 400
packer.MERGE_EVERY = 0
packer.first_ingest_id = lambda moment: 1 << 62
packer._BUSY_SHARE = packer._IDLE_SHARE = 0.5
chunk.MAXIMUM_ROWS = pieces.MAXIMUM_ROWS = 150
chunks.MAXIMUM_ROWS = 40
task.POLL_SECONDS = 0.05
kills = Path("kills")
left, puts = random.randint(1, 12), 0

def step(*, merges):
    global left
    count = int(kills.read_text())
    if not merges and count in (1, 3, 5):
        return
    left -= 1
    if not left and count:
        kills.write_text(str(count - 1))
        os.kill(os.getpid(), signal.SIGKILL)

replace, put = chunks.replace, chunks.Chunks.put

async def stepping(sensor, hot, old, new, transaction, left, *, engine):
    async def fetch(query, **parameters):
        rows = await transaction.fetch(query, **parameters)
        step(merges=not hot and len(old) > 1)
        return rows
    opened = Transaction(fetch, transaction.run)
    await replace(sensor, hot, old, new, opened, left, engine=engine)

async def put_and_step(self, prepared):
    global puts
    while puts >= int(Path("allowed").read_text() or 0):
        await asyncio.sleep(0.01)
    puts += 1
    await put(self, prepared)
    step(merges=False)

sweep = sqlite.SqliteEngine.sweep

async def sweep_and_step(self):
    swept = await sweep(self)
    if swept:
        step(merges=False)
    return swept

chunks.replace = stepping
sqlite.SqliteEngine.sweep = sweep_and_step
sqlite.SWEPT_AT_ONCE = 200
chunks.Chunks.put = put_and_step
run()
"""


class PackingServer(ServerProcess):
    """`heliograph serve` that packs all the time, and kills itself so often while it does."""

    def __init__(self, folder: Path, database_url: str, kills: int = 0, **variables: str) -> None:
        (folder / "packing_server.py").write_text(_SERVER)
        (folder / "kills").write_text(str(kills))
        settings = {"AUTO_MIGRATE": "false", "PACK_AFTER": "26h", **variables}
        super().__init__(folder, database_url, module="packing_server", **settings)
        self.allow(1 << 60)

    def allow(self, transactions: int) -> None:
        """Let it pack in so many transactions from each of its starts on."""
        (self.folder / "allowed").write_text(str(transactions))

    @property
    def kills_left(self) -> int:
        return int((self.folder / "kills").read_text() or 1)

    async def keep_alive(self) -> None:
        """Start it again whenever it has killed itself, for ever."""
        while True:
            await condition(lambda: not self.is_running(), 600, "its end")
            assert self.process.returncode == -9, self.said[-3000:]
            # It may do so before it is ready.
            with contextlib.suppress(AssertionError):
                await self.start()

    async def packed(self, database: Database, left: int, seconds: float) -> None:
        """Wait until so many rows of measurements are left that are not packed."""

        await condition(
            lambda: rows_left(database) == left and not self.kills_left,
            seconds,
            f"all but {left} rows packed, and all kills",
        )


def rows_left(database: Database) -> int:
    """Return how many measurements are not packed."""
    return int(database.column("SELECT count(*) FROM measurement")[0])


class Readings:
    """What a device sends: times (microseconds), which ascend, and documents of some kinds."""

    def __init__(self, device_id: str, count: int, start: int, step: int) -> None:
        self.device_id = device_id
        self.times = [start + at * step for at in range(count)]
        self.documents = [
            {"t": 20 + at % 700 / 100, "n": at, "on": at % 3 == 0}
            | ({"x": at / 7} if at % 5 == 0 else {})
            for at in range(count)
        ]

    def publications(self) -> list[Publication]:
        """Return them as messages."""
        topic = f"measurements/{self.device_id}"
        made = []
        for moment, document in zip(self.times, self.documents, strict=True):
            value = msgspec.json.encode(document)
            body = b'{"timestamp":%.6f,"value":%b}' % (moment / SECOND, value)
            made.append(Publication(topic, body, value.decode()))
        return made

    @property
    def left(self) -> int:
        """How many of them are left unpacked: those with which an attribute was measured last."""
        newest = {name: at for at, document in enumerate(self.documents) for name in document}
        return len({*newest.values()})

    def aggregates(self, starts: Sequence[int]) -> list[dict[str, list[float]]]:
        """Return count, least, greatest, sum and last of each attribute by bucket, counted here."""
        found: list[dict[str, list[float]]] = [{} for _ in starts[1:]]
        for moment, document in zip(self.times, self.documents, strict=True):
            bucket = found[bisect_right(starts, moment) - 1]
            for name, number in document.items():
                bucket.setdefault(name, []).append(number)
        return [
            {
                name: [len(each), min(each), max(each), math.fsum(each), each[-1]]
                for name, each in bucket.items()
            }
            for bucket in found
        ]


def readings(count: int) -> list[Readings]:
    """Return what three devices send, so many each, on a day that is three days ago."""
    start = now() // DAY * DAY - 3 * DAY
    return [Readings(f"device-{at}", count, start, 20 * SECOND) for at in range(3)]


async def send(server: ServerProcess, sent: Sequence[Readings], *, times: int) -> None:
    """Send all, so many times, as who does not know that it has arrived."""

    async def send_one(each: Readings, key: str) -> None:
        for _ in range(times):
            publications = each.publications()
            await Sender(
                server.mqtt_port, each.device_id, key, publications, window=100, renumber=True
            ).run()

    keys = [await server.device(each.device_id) for each in sent]
    async with asyncio.timeout(_SENDING_SECONDS), asyncio.TaskGroup() as tasks:
        for each, key in zip(sent, keys, strict=True):
            tasks.create_task(send_one(each, key))


async def check_readings(url: str, readings: Sequence[Readings]) -> None:
    """Check that each reading is stored once, packed or not, and that aggregates are right."""
    store = await open_store(url)
    try:
        for each in readings:
            [(number,)] = [
                (sensor.number,)
                for sensor in await store.sensors.load(0, 100)
                if sensor.device_id == each.device_id
            ]
            await _check(store, number, each)
    finally:
        await store.close()


async def _check(store: Store, sensor: int, readings: Readings) -> None:
    stored = [
        (row.timestamp, msgspec.json.decode(row.value))
        for row in await store.measurements.page(sensor, key=LEAST, limit=100_000)
    ]
    sent = list(zip(readings.times, readings.documents, strict=True))
    assert len(stored) == len(sent)
    assert stored == sent
    first, last = readings.times[0] // DAY * DAY, readings.times[-1]
    for width in (HOUR, 90 * SECOND, 605 * SECOND):
        starts = range(first, last + width + 1, width)
        series = await aggregates_of(store).read(
            sensor, starts, None, start=starts[0], end=starts[-1]
        )
        for bucket, expected in enumerate(readings.aggregates(starts)):
            for name, (count, least, greatest, total, newest) in expected.items():
                known = series.attributes[name][bucket]
                assert (known.count, known.minimum, known.maximum) == (count, least, greatest)
                assert known.last == newest
                assert math.isclose(known.total, total, rel_tol=1e-9)
        assert sum(series.rows) == len(sent)
