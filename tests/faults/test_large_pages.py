"""Pages of large values, asked for by many at once: memory stays bounded and ingest goes on."""

import asyncio
import json

import pytest

MIB = 1 << 20
VALUES, CLIENTS, ROUNDS = 40, 12, 2
LONG = {"VALUES": 400, "CLIENTS": 40, "ROUNDS": 4}
PATH = "/devices/large/history?limit=10000&start=2020-01-01T00:00:00Z"
# One page may be decoded and encoded beside the 48 MiB that wait to be taken.
MOST_GROWTH = 200 * MIB


@pytest.fixture
def database(sqlite_database):
    """One engine will do: what is read is bounded alike on both."""
    return sqlite_database


async def test_many_large_pages_at_once_hold_no_more_than_they_may(server):
    await server.device("large")
    await server.device("small")
    async with server.client() as client:
        text = "x" * 1_000_000
        for at in range(VALUES):
            body = json.dumps({"timestamp": 1_700_000_000 + at, "value": {"n": at, "t": text}})
            answer = await client.post("/sensors/large/measurements", content=body)
            assert answer.json()["accepted"] == 1
        codes, stored, done = [], 0, asyncio.Event()
        before = server.resident_bytes()

        async def read():
            async with server.client() as reader:
                for _ in range(ROUNDS):
                    response = await reader.get(PATH, timeout=120)
                    if response.status_code == 200:
                        codes.append("")
                        assert len(response.json()) == 16
                    else:
                        codes.append(response.json()["code"])
                        assert response.status_code == 503
                        assert response.headers["retry-after"]

        async def ingest():
            nonlocal stored
            while not done.is_set():
                answer = await client.post("/sensors/small/measurements", json={"value": stored})
                assert answer.status_code == 201
                stored += 1

        ingesting = asyncio.create_task(ingest(), name="ingest")
        async with asyncio.timeout(300):
            await asyncio.gather(*(read() for _ in range(CLIENTS)))
        done.set()
        await ingesting

        assert stored > 0
        # Where reading takes long, some find no connection for it either.
        assert set(codes) <= {"", "TOO_MANY_LARGE_ANSWERS", "DATABASE_UNAVAILABLE"}
        assert codes.count("") > 0
        refused = await server.metric("heliograph_http_answers_refused_total")
        assert refused == codes.count("TOO_MANY_LARGE_ANSWERS")
        assert await server.metric("heliograph_http_answering_bytes") == 0
    growth = server.peak_bytes() - before
    print(f"{growth >> 20} MiB more, {codes.count('')} of {len(codes)} answered")
    assert growth < MOST_GROWTH, f"{growth >> 20} MiB"
