"""A chunk that is not as it was written: every answer that lacks something says so."""

import asyncio
import gzip
import io
import json

import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from heliograph.model.time import DAY, HOUR, MINUTE, to_rfc3339
from heliograph.rollups.task import Rolling
from heliograph.store.engine import Batch
from heliograph.store.pages import GREATEST, LEAST
from integration.http.conftest import ADMIN, ADMIN_KEY
from packing_rows import pack_range
from rows import NOON, measurement

DAMAGED = "x-damaged-chunks"


async def packed(here, hours=1):
    """Store some hours, but for the last minute packed by the hour; return the rows."""
    await here.device("pump-1")
    sensor = (await here.services.store.sensors.find("pump-1")).number
    rows = [measurement(sensor, NOON + at * MINUTE, {"t": at / 4}) for at in range(60 * hours)]
    store = here.services.store
    await store.write(Batch(measurements=rows, attributes=[(sensor, "t")]))
    for hour in range(hours):
        await pack_range(store.chunks, sensor, NOON + hour * HOUR, NOON + (hour + 1) * HOUR)
    return rows


async def damage(store):
    """Have the newest chunk stored with a flipped byte in each column; return its id."""
    names = ("first", "first_fingerprint", "last", "last_fingerprint", "head", "body")
    place = {name: LEAST if name.startswith("first") else GREATEST for name in names[:4]}
    row = (await store.engine.fetch("chunks_between", sensor=1, **place, limit=9))[-1]
    [(_, _, first_id, last_id, count, _)] = await store.engine.fetch(
        "packed_of_sensor", sensor=1, since=0, before=GREATEST, below=GREATEST, limit=1
    )
    ids = {"first_id": first_id, "last_id": last_id, "row_count": count}

    async def work(transaction):
        await transaction.fetch("chunk_delete", id=row[0])
        members = dict(zip(names, row[1:7], strict=True)) | ids
        members["body"] = bytes(each ^ 1 for each in members["body"])
        [(number,)] = await transaction.fetch("chunk_insert", sensor=1, **members)
        return number

    # It has the same head, by which what was opened is known.
    store.chunks._open.clear()
    return await store.engine.change(work)


async def test_each_answer_names_what_it_left_out(site):
    async with site() as here:
        rows = await packed(here)
        start = to_rfc3339(NOON + 1)
        end = to_rfc3339(NOON + HOUR - 1)
        span = f"start={start}&end={end}"
        paths = {
            "/sensors/pump-1/measurements?limit=50": True,
            f"/sensors/pump-1/measurements?{span}&attribute=t&points=20": True,
            f"/sensors/pump-1/aggregates?{span}&bucket=1m": True,
            f"/devices/pump-1/history?{span}": True,
            f"/sensors/pump-1/export?{span}": True,
            f"/sensors/pump-1/export?{span}&layout=wide&column=t": True,
            f"/sensors/pump-1/export?{span}&damaged=skip": True,
            f"/sensors/pump-1/export?{span}&damaged=skip&kind=log": False,
            f"/messages?start_time={to_rfc3339(NOON - HOUR)}&key=t": True,
            f"/messages/{rows[1][0]}": True,
            f"/devices/pump-1/history?start={to_rfc3339(NOON + 59 * MINUTE)}&end={end}": False,
            "/sensors/pump-1": False,
        }
        for path in paths:
            answer = await here.http.get(path, headers=ADMIN)
            assert answer.status_code == 200, (path, answer.text)
            assert DAMAGED not in answer.headers, path
        number = await damage(here.services.store)
        for path, lacks in paths.items():
            answer = await here.http.get(path, headers=ADMIN)
            assert answer.status_code == (404 if path.endswith(str(rows[1][0])) else 200), path
            assert answer.headers.get(DAMAGED) == (str(number) if lacks else None), path


@pytest.mark.parametrize(
    "query", ["format=csv", "format=jsonl&compress=gzip", "layout=wide&column=t"]
)
async def test_damage_behind_the_first_page_cuts_an_export_at_its_end_unless_it_is_to_be_skipped(
    site, serving, tmp_path, query
):
    async with site() as here, serving(here.web) as port:
        await packed(here, hours=3)
        url = f"http://127.0.0.1:{port}/sensors/pump-1/export?{query}"
        assert await curl(url, tmp_path) == 0
        whole = lines_of(tmp_path)
        number = await damage(here.services.store)
        # Partial file.
        assert await curl(url, tmp_path) == 18
        assert DAMAGED not in (tmp_path / "head").read_text().lower()
        readable = lines_of(tmp_path)
        assert await curl(f"{url}&damaged=skip", tmp_path) == 0
        assert f"{DAMAGED}: {number}\n" in (tmp_path / "head").read_text().lower()
        assert len(lines_of(tmp_path)) == len(whole) - 59
        assert set(lines_of(tmp_path)) < set(whole)
        assert lines_of(tmp_path) == readable


async def test_damage_behind_the_first_page_is_named_before_parquet_begins(site):
    async with site() as here:
        await packed(here, hours=3)
        number = await damage(here.services.store)
        path = "/sensors/pump-1/export?format=parquet&damaged=skip"
        answer = await here.http.get(path, headers=ADMIN)
        assert answer.headers[DAMAGED] == str(number)
        assert pq.read_table(io.BytesIO(answer.content)).num_rows == 2 * 60 + 1


async def curl(url, folder):
    """Download it as an administrator; return curl's exit code."""
    files = ["-D", str(folder / "head"), "-o", str(folder / "body")]
    command = ["curl", "-sS", "-H", f"X-API-Key: {ADMIN_KEY}", *files, url]
    return await (await asyncio.create_subprocess_exec(*command)).wait()


def lines_of(folder):
    body = (folder / "body").read_bytes()
    return (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).splitlines()


async def test_repeats_of_what_is_damaged_are_stored_counted_and_told_once(site):
    """They fill the gap: to lose what a device sends is worse than to have it twice."""
    async with site() as here:
        rows = await packed(here)

        async def at_once():
            pass

        await Rolling(here.services.store, at_once).advance(NOON + DAY)
        repeats = [
            {"device_id": "pump-1", "timestamp": to_rfc3339(row[2]), **json.loads(row[7])}
            for row in rows[:30]
        ]

        async def sent(readings):
            answer = await here.http.post("/ingest/batch", json=readings, headers=ADMIN)
            assert answer.status_code == 201, answer.text
            return answer.json()["accepted"], answer.json()["duplicates"]

        assert await sent(repeats) == (0, 30)
        number = await damage(here.services.store)
        between = {"device_id": "pump-1", "timestamp": to_rfc3339(NOON + 1), "t": 1}
        with capture_logs() as logs:
            assert await sent([*repeats[:20], between]) == (21, 0)
            # What has been stored again is known by itself.
            assert await sent(repeats) == (10, 20)
        told = [each for each in logs if each["event"] == "chunk damaged, repeats of it are stored"]
        assert [each["chunk"] for each in told] == [number]
        metrics = (await here.http.get("/metrics", headers=ADMIN)).text
        assert "heliograph_ingest_possible_repeats_total 31.0\n" in metrics
        span = f"start={to_rfc3339(NOON)}&end={to_rfc3339(NOON + HOUR)}"
        page = await here.http.get(f"/devices/pump-1/history?{span}", headers=ADMIN)
        values = [row["metrics"]["t"] for row in page.json()]
        assert values == [59 / 4, *(at / 4 for at in range(29, 0, -1)), 1, 0]
        [fault] = await here.services.store.chunks.faults(30)
        assert fault.startswith(f"chunk {number} of sensor 1: ")
