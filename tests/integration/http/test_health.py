import asyncio
import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heliograph.errors import StoreUnavailableError
from heliograph.model.time import HOUR, now, parse
from heliograph.store import MigrationState
from heliograph.store.migrations.running import head
from heliograph.version import BUILT_FROM, VERSION
from ports import free_port
from scripted_broker import message, scripted_broker
from server import eventually

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}


async def test_the_process_lives(site):
    async with site() as here:
        health = await here.http.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "OK"})
        ping = (await here.http.get("/ping")).json()
        assert ping["status"] == "OK"
        assert parse(ping["timestamp"]) > 0


async def test_status_tells_the_commit_of_the_build(site, monkeypatch):
    monkeypatch.setitem(BUILT_FROM, "commit_sha", "abc")
    monkeypatch.setitem(BUILT_FROM, "branch_name", "main")
    async with site(branch_name="other") as here:
        status = (await here.http.get("/status")).json()
    assert (status["commit_sha"], status["branch_name"]) == ("abc", "other")


async def test_status_tells_what_runs_where(site):
    async with site(mqtt_listen="127.0.0.1:0", commit_sha="abc", branch_name="main") as here:
        status = (await here.http.get("/status")).json()
        assert status == {
            "environment": "test",
            "commit_sha": "abc",
            "branch_name": "main",
            "start_timestamp": here.services.started_at / 1e6,
            "version": VERSION,
            "mqtt_hostname": "127.0.0.1",
            "mqtt_port": here.services.listener.addresses[0][1],
        }


async def test_a_listener_on_all_addresses_is_reached_by_the_name_that_was_used(site):
    async with site(mqtt_listen="0.0.0.0:0") as here:
        assert (await here.http.get("/status")).json()["mqtt_hostname"] == "localhost"


async def test_without_a_listener_there_is_no_address(site):
    async with site() as here:
        status = (await here.http.get("/status")).json()
        assert (status["mqtt_hostname"], status["mqtt_port"]) == (None, None)


async def test_a_server_that_takes_data_is_ready(site):
    async with site(mqtt_listen="127.0.0.1:0") as here:
        key = await here.device("pump-1")
        before = (await here.http.get("/readyz")).json()
        assert before["last_message_age_seconds"] is None
        await here.http.post("/ingest", json={"t": 1}, headers=key)
        response = await here.http.get("/readyz")
        assert response.status_code == 200
        body = response.json()
        assert (body["ready"], body["reasons"], body["database"]) == (True, [], "available")
        assert body["migrations"]["current"] == body["migrations"]["head"]
        assert body["mqtt"] == {"listening": True, "connections": 0}
        assert body["queue_depth"] == 0
        assert body["last_message_age_seconds"] >= 0


async def not_ready(here):
    response = await here.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ready"] is False
    return " ".join(response.json()["reasons"])


async def test_an_absent_database_is_told(site, monkeypatch):
    async with site() as here:

        async def away():
            raise StoreUnavailableError

        monkeypatch.setattr(here.services.store, "ping", away)
        assert "database" in await not_ready(here)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOENT])
async def test_a_data_folder_that_cannot_be_read_is_told(site, monkeypatch, number):
    async with site() as here:
        stat = Path.stat

        def failing(path, **options):
            if path.name.startswith("heliograph.db"):
                raise OSError(number, os.strerror(number), str(path))
            return stat(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", failing)
            assert "database" in await not_ready(here)
            if number != errno.ENOENT:  # where there is no log of writes, nothing is in it
                with pytest.raises(StoreUnavailableError):
                    await here.services.store.removal.used()
        assert (await here.http.get("/readyz")).status_code == 200


async def test_a_data_folder_that_has_vanished_is_told(site, migrated, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(migrated, folder / "heliograph.db")
    async with site(database_url=f"sqlite:///{folder}/heliograph.db") as here:
        folder.rename(tmp_path / "elsewhere")
        assert "database" in await not_ready(here)
        (tmp_path / "elsewhere").rename(folder)
        assert (await here.http.get("/readyz")).status_code == 200


async def test_a_database_that_hangs_is_told(site, monkeypatch):
    monkeypatch.setattr("heliograph.http.health.DATABASE_SECONDS", 0.01)
    async with site() as here:
        monkeypatch.setattr(here.services.store, "ping", asyncio.Event().wait)
        assert "database" in await not_ready(here)


@pytest.mark.parametrize(
    ("current", "said"),
    [(head(), "run heliograph migrate"), ("0017", "migrate from commit")],
    ids=["behind", "outdated"],
)
async def test_missing_migrations_are_told(site, monkeypatch, current, said):
    async with site() as here:

        async def state():
            return MigrationState(current, "9999")

        monkeypatch.setattr(here.services.store, "migration_state", state)
        assert said in await not_ready(here)


async def test_a_clock_that_is_behind_is_told(site):
    async with site() as here:
        here.services.http_ingest.clock.floor = now() + HOUR
        assert "clock" in await not_ready(here)
        key = await here.device("pump-1")
        sent = await here.http.post("/ingest", json={"t": 1}, headers=key)
        assert (sent.status_code, sent.json()["code"]) == (503, "CLOCK_BEHIND")
        assert int(sent.headers["retry-after"]) > 0


async def test_a_listener_that_is_not_bound_is_told(site):
    async with site(mqtt_listen="127.0.0.1:0") as here:
        here.services.listener = None
        assert "MQTT" in await not_ready(here)


async def test_a_link_that_is_up(site):
    async with scripted_broker() as broker, site(mqtt_url=broker.url) as here:
        before = await here.http.get("/readyz")
        assert before.status_code == 503
        assert before.json()["reasons"] == ["No connection to the MQTT broker: not connected yet"]
        await broker.up()
        await eventually(lambda: here.services.link.connected)
        response = await here.http.get("/readyz")
        body = response.json()
        assert (response.status_code, body["reasons"], body["warnings"]) == (200, [], [])
        assert body["mqtt"] == {
            "listening": False,
            "connections": 0,
            "broker": {
                "connected": True,
                "connects": 1,
                "dropped_messages": 0,
                "waiting_messages": 0,
            },
        }
        status = (await here.http.get("/status")).json()
        assert (status["mqtt_hostname"], status["mqtt_port"]) == ("127.0.0.1", broker.port)


async def test_a_link_that_is_down_is_told(site):
    port = free_port()
    async with site(mqtt_url=f"mqtt://name:hidden@127.0.0.1:{port}") as here:
        link = here.services.link
        await eventually(lambda: link.problem != "not connected yet")
        assert await not_ready(here) == (
            f"No connection to the MQTT broker: nothing listens at mqtt://127.0.0.1:{port}"
        )
        assert (await here.http.get("/readyz")).json()["mqtt"]["broker"]["connected"] is False


async def broker_metrics(here):
    response = await here.http.get("/metrics", headers=ADMIN)
    return {
        sample.name.removeprefix("heliograph_broker_"): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name.startswith("heliograph_broker_")
    }


async def test_metrics_of_a_link(site):
    async with scripted_broker() as broker, site(mqtt_url=broker.url) as here:
        link = here.services.link
        down = {
            "connected": 0,
            "waiting_messages": 0,
            "connects_total": 0,
            "dropped_messages_total": 0,
        }
        assert await broker_metrics(here) == down
        conversation = await broker.up()
        for count in (b"1", b"6"):
            conversation.send(message("$SYS/broker/publish/messages/dropped", count, 0))
        publishing = asyncio.create_task(link.publications.publish("t", b"x"), name="publish")
        await eventually(lambda: link.dropped.count == 5 and link.waiting == 1)
        await eventually(lambda: link.connected)
        assert await broker_metrics(here) == {
            "connected": 1,
            "waiting_messages": 1,
            "connects_total": 1,
            "dropped_messages_total": 5,
        }
        warnings = (await here.http.get("/readyz")).json()["warnings"]
        assert warnings == ["The MQTT broker has dropped 5 messages"]
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def test_without_a_link_there_are_no_metrics_of_one(site):
    async with site() as here:
        assert await broker_metrics(here) == {}
        assert "broker" not in (await here.http.get("/readyz")).json()["mqtt"]


async def test_metrics_count_what_happens(site):
    async with site() as here:
        key = await here.device("pump-1")
        reading = {"t": 1, "timestamp": 1_700_000_000}
        for _ in range(2):
            await here.http.post("/ingest", json=reading, headers=key)
        await here.http.post("/ingest", content=b"{", headers=key)
        await here.http.get("/devices/pump-1", headers=ADMIN)
        await here.http.put("/devices/pump-1", headers=ADMIN)
        await here.http.get("/nothing")
        response = await here.http.get("/metrics", headers=ADMIN)
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }
        assert samples["heliograph_http_requests_total", "/api/v1/ingest", "2xx"] == 2
        assert samples["heliograph_http_requests_total", "/api/v1/ingest", "4xx"] == 1
        assert samples["heliograph_http_requests_total", "/api/v1/devices/{device_id}", "2xx"] == 1
        # It was no method of the route's.
        assert samples["heliograph_http_requests_total", "/api/v1/devices/{device_id}", "4xx"] == 1
        assert samples["heliograph_http_requests_total", "unmatched", "4xx"] == 1
        assert samples["heliograph_ingest_duplicates_total",] == 1
        assert samples["heliograph_ingest_rejected_total", "MALFORMED_JSON"] == 1
        assert samples["heliograph_ingest_queue_depth",] == 0
        assert samples["heliograph_rollup_lag_seconds",] >= 0
        assert samples["heliograph_rollup_overfull_total",] == 0
        # promtool's lint: no unit but Prometheus' own.
        others = re.compile(
            "_(hours|minutes|days|milliseconds|microseconds|kilobytes|percent)(_|$)"
        )
        assert [name for name, *_ in samples if others.search(name)] == []
        took = "heliograph_http_request_duration_seconds"
        assert samples[f"{took}_count", "/api/v1/ingest"] == 3
        assert samples[f"{took}_bucket", "+Inf", "/api/v1/ingest"] == 3
        assert 0 < samples[f"{took}_sum", "/api/v1/ingest"] < 3 * 30
        # The third one was of a rejected message alone.
        assert samples["heliograph_ingest_commit_duration_seconds_count",] == 3
        assert samples["heliograph_ingest_wait_seconds_count",] == 2
        assert samples["heliograph_ingest_commit_duration_seconds_sum",] > 0
        assert samples["heliograph_live_viewers",] == samples["heliograph_actions_waiting",] == 0
        assert samples["heliograph_rule_lag_seconds",] == 0
        assert "pump-1" not in response.text


async def test_metrics_tell_what_waits_as_long_as_the_database_answers(site, monkeypatch):
    async with site() as here:
        store, long_ago = here.services.store, now() - 5_000_000

        async def since():
            return long_ago

        async def away():
            raise StoreUnavailableError

        monkeypatch.setattr(store.rule_states, "oldest", since)
        monkeypatch.setattr(store.actions, "overdue", since)
        told = (await here.http.get("/metrics", headers=ADMIN)).text
        lags = re.findall(r"^heliograph_(?:rule|action)_lag_seconds (\S+)", told, re.MULTILINE)
        assert len(lags) == 2
        assert all(float(lag) >= 5 for lag in lags)
        monkeypatch.setattr(store.actions, "overdue", away)
        response = await here.http.get("/metrics", headers=ADMIN)
        assert response.status_code == 200
        assert "heliograph_ingest_database_available" in response.text
        assert "heliograph_action_lag_seconds" not in response.text


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer a-token", 200),
        ("bearer a-token", 200),
        ("Bearer another", 401),
        ("Bearer ", 401),
        ("Basic a-token", 401),
    ],
)
async def test_metrics_have_a_token_of_their_own(site, authorization, status):
    async with site(metrics_token="a-token") as here:
        headers = {"authorization": authorization}
        assert (await here.http.get("/metrics", headers=headers)).status_code == status
        assert (await here.http.get("/devices", headers=headers)).status_code == 401


async def test_rules_that_are_stuck_are_told_by_what_they_have_not_looked_at(site, monkeypatch):
    monkeypatch.setattr("heliograph.http.health.LONGEST_LAG", 0)
    async with site() as here:
        rule = {"name": "Hot", "condition": {"attribute": "t", "above": 30}}
        assert (await here.http.post("/rules", json=rule, headers=ADMIN)).status_code == 201
        await here.device("pump")
        processor = here.services.processor
        await eventually(lambda: processor.index.rules)

        async def warnings():
            return (await here.http.get("/readyz")).json()["warnings"]

        assert await warnings() == []

        async def stuck():
            return False

        monkeypatch.setattr(processor, "_round", stuck)
        await here.http.post("/ingest", json={"device_id": "pump", "t": 31}, headers=ADMIN)
        assert await warnings() == ["Rules are 0 seconds behind what is stored"]
        monkeypatch.undo()
        monkeypatch.setattr("heliograph.http.health.LONGEST_LAG", 0)
        processor.wake()

        async def has_caught_up():
            return not await warnings()

        await eventually(has_caught_up)
