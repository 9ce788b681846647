"""A large export takes no memory worth speaking of, and ingest goes on beside it."""

import asyncio
import io
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, measurement
from server import ADMIN_KEY, serving

ROWS = 300_000
PIECE = 30_000
# The whole is about 60 MB, and 300,000 rows as Python's objects several times that.
MOST_GROWTH = 40 << 20


def resident(process: int) -> int:
    """Return the bytes of memory that a process holds."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024
    raise AssertionError("no VmRSS")


async def fill(url: str, device_id: str) -> None:
    store = await open_store(url)
    sensor = await store.sensors.find(device_id)
    assert sensor is not None
    for first in range(0, ROWS, PIECE):
        rows = [measurement(sensor.number, NOON + n, {"t": n}) for n in range(first, first + PIECE)]
        await store.write(Batch(measurements=rows))
    await store.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("engine", "form"),
    [
        ("sqlite", "jsonl"),
        ("postgresql", "jsonl"),
        ("sqlite", "parquet"),
        ("sqlite", "csv&layout=wide"),
    ],
)
async def test_memory_stays_flat_and_ingest_goes_on(tmp_path, request, engine, form):
    options = {}
    if engine == "postgresql":
        cluster = request.getfixturevalue("postgresql_cluster")
        options["database_url"] = cluster.dsn(cluster.create_database())
    with serving(tmp_path, **options) as server:
        for name in ("pump-1", "pump-2"):
            server.device(name)
        url = options.get("database_url") or f"sqlite:///{tmp_path}/heliograph.db"
        await fill(url, "pump-1")
        headers = {"x-api-key": ADMIN_KEY, "accept-encoding": "identity"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http:
            # What the first export loads, every export needs; and a row group is no leak.
            first = "1768478400.1" if form == "parquet" else "1768478400.001"
            await http.get(f"/sensors/pump-1/export?format={form}&end={first}")
            before, sizes, stored = resident(server.process.pid), [], 0
            whole, done = io.BytesIO(), asyncio.Event()

            async def ingest() -> None:
                nonlocal stored
                while not done.is_set():
                    answer = await http.post("/sensors/pump-2/measurements", json={"value": stored})
                    assert answer.status_code == 201
                    stored += 1

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ingest(), name="ingest")
                async with http.stream("GET", f"/sensors/pump-1/export?format={form}") as answer:
                    async for chunk in answer.aiter_raw():
                        whole.write(chunk)
                        sizes.append(resident(server.process.pid))
                done.set()
            if form == "parquet":
                assert pq.ParquetFile(whole).metadata.num_rows == ROWS
            else:
                assert whole.getvalue().count(b"\n") == ROWS + form.startswith("csv")
            assert stored > 0
            history = await http.get("/sensors/pump-2/measurements", params={"limit": 1_000})
            assert len(history.json()) == min(stored, 1_000)
            assert max(sizes) - before < MOST_GROWTH
