"""A server whose clock was ahead before it started, until somebody accepts it."""

import asyncio

from typer.testing import CliRunner

from heliograph.cli.main import app
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import DAY, now, parse
from heliograph.store import open_store
from heliograph.store.engine import Batch
from integration.http.conftest import ADMIN
from rows import measurement
from server import eventually


async def test_a_running_server_goes_on_once_its_clock_is_accepted(site, database_url, monkeypatch):
    monkeypatch.setattr("heliograph.ingest.clock.WATCH_SECONDS", 0.05)
    async with site(database_url=database_url) as here:
        key = await here.device("pump-1")
    store = await open_store(database_url)
    sensor, ahead = await store.sensors.find("pump-1"), now() + 400 * DAY
    row = measurement(sensor.number, ahead, {"old": 1}, receipt=ahead)
    await store.write(Batch(measurements=[(first_ingest_id(ahead), *row[1:])]))
    await store.sensors.touch([(sensor.number, ahead, ahead)])
    await store.close()
    async with site(database_url=database_url) as here:
        ready = (await here.http.get("/readyz")).json()
        assert "heliograph clock accept" in " ".join(ready["reasons"])
        refused = await here.http.post("/ingest", json={"t": 1}, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (503, "CLOCK_BEHIND")
        assert "heliograph clock accept" in refused.json()["detail"]
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.chdir(here.services.settings.data_directory)
        done = await asyncio.to_thread(CliRunner().invoke, app, ["clock", "accept"])
        assert done.exit_code == 0, done.output
        async with asyncio.timeout(30):
            await eventually(lambda: not here.services.http_ingest.state.clock_behind, 30)
        assert (await here.http.get("/readyz")).status_code == 200
        taken = await here.http.post("/ingest", json={"t": 1}, headers=key)
        assert taken.status_code == 201
        assert abs(parse(taken.json()["timestamp"]) - now()) < DAY
        assert int(taken.json()["id"]) > first_ingest_id(ahead)
        latest = await here.http.get("/sensors/pump-1/latest", headers=ADMIN)
        assert list(latest.json()["attributes"]) == ["t"]
        shown = (await here.http.get("/sensors/pump-1", headers=ADMIN)).json()
        assert parse(shown["last_seen_at"]) < now() + DAY
        page = await here.http.get("/sensors/pump-1/measurements", headers=ADMIN)
        assert len(page.json()) == 2


async def test_a_step_ahead_is_told_while_it_lasts(site):
    async with site() as here:
        key = await here.device("pump-1")
        clock = here.services.http_ingest.clock
        wall_ns = clock.wall_ns
        clock.wall_ns = lambda: wall_ns() + 2 * DAY * 1_000
        assert (await here.http.post("/ingest", json={"t": 1}, headers=key)).status_code == 201
        ready = await here.http.get("/readyz")
        assert ready.status_code == 200
        (warning,) = ready.json()["warnings"]
        assert "172800" in warning
        clock.wall_ns = wall_ns
        ready = await here.http.get("/readyz")
        assert (ready.status_code, ready.json()["warnings"]) == (200, [])
        assert (await here.http.post("/ingest", json={"t": 2}, headers=key)).status_code == 201
