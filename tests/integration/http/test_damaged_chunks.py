"""A chunk that is not as it was written: every answer that lacks something says so."""

from heliograph.model.time import HOUR, MINUTE, to_rfc3339
from heliograph.store.engine import Batch
from heliograph.store.pages import GREATEST, LEAST
from integration.http.conftest import ADMIN
from rows import NOON, measurement

DAMAGED = "x-damaged-chunks"


async def packed(here):
    """Store an hour, but for its last minute packed; return the rows."""
    await here.device("pump-1")
    sensor = (await here.services.store.sensors.find("pump-1")).number
    rows = [measurement(sensor, NOON + at * MINUTE, {"t": at / 4}) for at in range(60)]
    store = here.services.store
    await store.write(Batch(measurements=rows, attributes=[(sensor, "t")]))
    await store.chunks.pack(sensor, NOON, NOON + HOUR)
    return rows


async def damage(store):
    """Have the only chunk stored with a flipped byte in each column; return its id."""
    names = ("first", "first_fingerprint", "last", "last_fingerprint", "head", "body")
    place = {name: LEAST if name.startswith("first") else GREATEST for name in names[:4]}
    [row] = await store.engine.fetch("chunks_between", sensor=1, **place, limit=2)
    [(_, _, first_id, last_id, count, _)] = await store.engine.fetch(
        "packed_of_sensor", sensor=1, since=0, before=GREATEST, below=GREATEST, limit=2
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
