"""Who says how long what is kept, what the next run removes, and the run of a server."""

import asyncio

import pytest
from typer.testing import CliRunner

from heliograph.cli.main import app
from heliograph.model.retention import Horizon
from heliograph.model.time import DAY, now, parse
from heliograph.store import open_store
from heliograph.store.engine import Batch
from integration.http.conftest import ADMIN
from rows import heartbeat, log, measurement
from server import eventually

KINDS = ("measurements", "logs", "heartbeats", "packets", "rollups")
NOTHING = {"rows": 0, "bytes": 0, "exact": True}


@pytest.fixture
async def aged(database_url):
    """Return a function that stores rows of a registered sensor, so many days old each."""
    store = await open_store(database_url)

    async def aged(device_id, *ages):
        sensor, moment = await store.sensors.find(device_id), now()
        times = [moment - round(age * DAY) for age in ages]
        await store.write(
            Batch(
                measurements=[measurement(sensor.number, each, {"t": 1}) for each in times],
                logs=[log(sensor.number, each) for each in times],
                heartbeats=[heartbeat(sensor.number, each) for each in times],
            )
        )

    yield aged
    await store.close()


@pytest.fixture
def resting(monkeypatch):
    """Have no run begin by itself but the first, which finds nothing."""
    monkeypatch.setattr("heliograph.retention.runs.INTERVAL_SECONDS", 10_000.0)


async def read(here, path, headers=ADMIN, **params):
    response = await here.http.get(path, headers=headers, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def put(here, path, **members):
    response = await here.http.put(path, headers=ADMIN, json=members)
    assert response.status_code == 200, response.text
    return response.json()


async def test_members_are_changed_one_by_one(site, database_url, resting):
    async with site(database_url=database_url, retention_days=90, log_retention_days=7) as here:
        network = await here.network("n")
        await here.device("pump-1", network_identifier=network)
        of_network, of_sensor = f"/networks/{network}/retention", "/sensors/pump-1/retention"
        body = await read(here, of_sensor)
        assert [body[name] for name in ("raw_days", "rollup_days", "log_days")] == [None] * 3
        assert body["effective"] == {"raw_days": 90, "rollup_days": 0, "log_days": 7}
        assert body["cutoffs"]["rollups"] is None
        # Of the next run, which is hours ahead.
        assert 89 < (now() - parse(body["cutoffs"]["raw"])) / DAY < 90.1
        body = await put(here, of_network, raw_days=30, rollup_days=365)
        assert body["effective"] == {"raw_days": 30, "rollup_days": 365, "log_days": 7}
        await put(here, of_sensor, raw_days=0)
        body = await put(here, of_sensor, log_days=1)
        assert (body["raw_days"], body["rollup_days"], body["log_days"]) == (0, None, 1)
        assert body["effective"] == {"raw_days": 0, "rollup_days": 365, "log_days": 1}
        body = await put(here, of_sensor, raw_days=None)
        assert body["effective"] == {"raw_days": 30, "rollup_days": 365, "log_days": 1}
        assert (await read(here, of_network))["network_identifier"] == network
        for wrong in ({"raw_days": -1}, {"log_days": "7"}, {"raw_days": 1.5}, {"raw_days": 10**9}):
            response = await here.http.put(of_sensor, headers=ADMIN, json=wrong)
            assert response.status_code == 422, wrong


async def test_the_plan_tells_what_the_run_removes(site, database_url, aged, resting, engine):
    async with site(database_url=database_url) as here:
        await eventually(lambda: here.services.retention.state.next_run_at)
        own = await here.network("own")
        other = await here.network("other")
        await here.device("pump-1", network_identifier=own)
        await here.device("pump-2", network_identifier=own)
        await here.device("pump-3", network_identifier=other)
        for name in ("pump-1", "pump-2", "pump-3"):
            await aged(name, 200, 40.5, 20, 1)
        await put(here, "/sensors/pump-2/retention", raw_days=0)
        days = {"raw_days": 30, "rollup_days": 30, "log_days": 10}
        tried = await here.http.post(f"/networks/{own}/retention-preview", headers=ADMIN, json=days)
        # It has changed nothing, and says what the change comes to.
        before = await read(here, f"/networks/{own}/retention")
        assert [before["raw_days"], before["removes"]["logs"]["rows"]] == [None, 0]
        assert tried.json() == await put(here, f"/networks/{own}/retention", **days)
        assert tried.json()["removes"]["logs"]["rows"] == 6
        less = {"raw_days": 0, "log_days": 100}
        tried = await here.http.post(f"/networks/{own}/retention-preview", headers=ADMIN, json=less)
        assert tried.json()["removes"]["measurements"]["rows"] == 0
        assert tried.json()["removes"]["logs"]["rows"] == 2
        plan = await read(here, "/retention")
        planned = {each["network_name"]: each for each in plan["networks"]}
        assert planned["other"]["removes"] == dict.fromkeys(KINDS, NOTHING)
        effective = {name: each["effective"] for name, each in planned.items()}
        assert effective["own"] == {"raw_days": 30, "rollup_days": 30, "log_days": 10}
        assert effective["other"] == effective["default"] != effective["own"]
        removes = planned["own"]["removes"]
        assert planned["own"]["sensors"] == 2
        assert {kind: each["rows"] for kind, each in removes.items()} == {
            "measurements": 2,
            "logs": 6,
            "heartbeats": 6,
            "packets": 0,
            "rollups": 0,
        }
        assert all(each["exact"] for each in removes.values())
        if engine == "sqlite":
            # Of the index alone: rows of others lie in the same page, which stays.
            assert removes["measurements"]["bytes"] == 76
        else:
            assert removes["measurements"]["bytes"] > 100
        assert parse(plan["next_run_at"]) > now()
        assert plan["disk"]["used"] > 0
        # pump-3 keeps them all.
        assert plan["partitions"] == []
        assert [
            each["network_name"]
            for each in (await read(here, "/retention", network_identifier=own))["networks"]
        ] == ["own"]
        of_sensor = (await read(here, "/sensors/pump-1/retention"))["removes"]
        assert of_sensor["measurements"]["rows"] == 2
        await put(here, f"/networks/{other}/retention", raw_days=100, rollup_days=100)
        await put(here, "/sensors/pump-2/retention", raw_days=100, rollup_days=100)
        plan = await read(here, "/retention")
        assert len(plan["partitions"]) == (engine == "postgresql")
        await here.services.retention.sweep(now())
        assert len(await read(here, "/sensors/pump-1/measurements")) == 2
        assert len(await read(here, "/sensors/pump-2/measurements")) == 3
        assert len(await read(here, "/sensors/pump-3/logs")) == 4
        plan = await read(here, "/retention")
        assert {each["removes"]["measurements"]["rows"] for each in plan["networks"]} == {0}
        metrics = (await here.http.get("/metrics", headers=ADMIN)).text
        dropped = 1.0 if engine == "postgresql" else 0.0
        assert f"heliograph_retention_dropped_partitions_total {dropped}" in metrics
        assert 'heliograph_retention_removed_rows_total{kind="logs"} 6.0' in metrics


async def test_a_leap_of_the_clock_is_told_with_what_would_go(
    site, database_url, aged, monkeypatch
):
    monkeypatch.setattr("heliograph.ingest.clock.WATCH_SECONDS", 0.05)
    options = {"retention_days": 30, "rollup_retention_days": 30, "log_retention_days": 30}
    async with site(database_url=database_url, **options) as here:
        await eventually(lambda: here.services.retention.state.last_run_at)
        await here.device("pump-1")
        assert (await read(here, "/retention"))["waiting"] is None
        await aged("pump-1", 29, 20, 1)
        # As if it had been off for three weeks.
        earlier = now() - 21 * DAY
        await here.services.store.clock.move_horizon(lambda _: Horizon(earlier, earlier, 0))
    async with site(database_url=database_url, **options) as here:
        retention = here.services.retention
        await eventually(lambda: retention.state.last_run_at)
        await aged("pump-1", 40)
        plan = await read(here, "/retention")
        waiting = plan["waiting"]
        assert waiting["removes"]["measurements"]["rows"] == 1
        assert waiting["removes"]["logs"]["rows"] == 1
        assert waiting["leap_seconds"] == pytest.approx(21 * 86_400, abs=60)
        assert waiting["uptime_hours"] == pytest.approx(24, abs=0.1)
        assert parse(plan["moment"]) < now() - 20 * DAY
        assert plan["networks"][0]["removes"]["measurements"]["rows"] == 0
        ready = (await here.http.get("/readyz")).json()
        assert "heliograph retention accept" in " ".join(ready["warnings"])
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.chdir(here.services.settings.data_directory)
        accepted = await asyncio.to_thread(CliRunner().invoke, app, ["retention", "accept"])
        assert accepted.exit_code == 0, accepted.output
        assert "21.0 days more" in accepted.stdout
        await eventually(lambda: retention.state.removed_total["heartbeats"], 30)
        assert len(await read(here, "/sensors/pump-1/measurements")) == 3
        assert (await read(here, "/retention"))["waiting"] is None
        again = await asyncio.to_thread(CliRunner().invoke, app, ["retention", "accept"])
        assert "nothing waited" in again.stdout


async def test_members_are_told_of_their_networks_alone(site, resting):
    async with site() as here:
        ada = await here.user("ada")
        own = await here.network("own", ada="viewer")
        await here.network("other")
        plan = await read(here, "/retention", ada)
        assert [each["network_identifier"] for each in plan["networks"]] == [own]
        assert plan["partitions"] is None
        assert plan["disk"] is None


async def test_newest_values_are_gone_with_their_rows(site, database_url, aged, resting):
    async with site(database_url=database_url) as here:
        key = await here.device("pump-1")
        await here.http.post("/ingest", json={"a": 1}, headers=key)
        assert (await read(here, "/sensors/pump-1/latest"))["attributes"]
        await put(here, "/sensors/pump-1/retention", raw_days=1, rollup_days=1)
        await here.services.retention.sweep(now() + 3 * DAY)
        assert (await read(here, "/sensors/pump-1/latest"))["attributes"] == {}
        assert await read(here, "/sensors/pump-1/measurements") == []


async def test_a_server_removes_what_is_due_when_it_starts(site, database_url, aged):
    async with site(database_url=database_url) as here:
        await here.device("pump-1")
    await aged("pump-1", 40, 1)
    options = {"retention_days": 30, "rollup_retention_days": 30, "log_retention_days": 30}
    async with site(database_url=database_url, **options) as here, asyncio.timeout(30):
        await eventually(lambda: here.services.retention.state.last_run_at, 30)
        assert len(await read(here, "/sensors/pump-1/measurements")) == 1
        assert len(await read(here, "/sensors/pump-1/heartbeats")) == 1
