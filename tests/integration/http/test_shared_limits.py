"""Limits of several servers that count together, in Redis, and without it when that is away."""

import contextlib
import importlib.util
import shutil
import time
from unittest import mock

import pytest

from heliograph.access import shared_counts
from heliograph.errors import StartError
from integration.http.conftest import ADMIN
from mqtt_client import Client, connect
from redis_server import RedisServer
from server import Address, eventually

LIMITED = 0x03
NOT_AUTHORIZED = 0x05


@pytest.fixture(scope="module")
def redis():
    with RedisServer() as server:
        yield server


@pytest.fixture
def pair(site, redis, migrated, tmp_path, monkeypatch):
    """Return a context manager that runs two servers which count together."""
    monkeypatch.setattr(shared_counts, "SETTLE_SECONDS", 0.02)
    monkeypatch.setattr(shared_counts, "RETRY_SECONDS", 0.02)
    shutil.copy(migrated, tmp_path / "other.db")

    @contextlib.asynccontextmanager
    async def running(**settings):
        options = {
            "rate_limit_storage": redis.url,
            "auto_provision": True,
            "mqtt_listen": (Address("127.0.0.1", 0),),
            **settings,
        }
        other = {"database_url": f"sqlite:///{tmp_path}/other.db"}
        async with site(**options) as one, site(**options, **other) as two:
            yield one, two

    return running


async def wrong_key(here, key):
    answer = await here.http.get("/devices", headers={"x-api-key": key})
    return answer.status_code


async def wrong_key_over_mqtt(here, key):
    """Log in with a wrong key, and return the return code."""
    client = await Client.open(here.services.listener.addresses[0][1])
    client.send(connect("x", "x", key))
    answer = await client.packet()
    await client.close()
    return answer[2]


async def log_in(here, username, password):
    body = {"username": username, "password": password}
    return (await here.http.post("/authentication", json=body)).status_code


async def ingest(here, headers=ADMIN):
    return await here.http.post("/ingest", json={"device_id": "pump", "t": 1}, headers=headers)


async def test_wrong_credentials_count_on_all_servers_over_http_and_mqtt(pair):
    async with pair(rate_limit_failed_logins=4) as (one, two):
        assert await wrong_key(one, "guess-1") == 401
        assert await wrong_key_over_mqtt(two, "guess-2") in (4, NOT_AUTHORIZED)
        # The same one again is no new guess, wherever it is given.
        assert await wrong_key(two, "guess-1") == 401
        assert await log_in(one, "ada", "guess-3") == 401
        answer = await two.http.get("/devices", headers={"x-api-key": "guess-1"})
        assert "r=1;t=" in answer.headers["ratelimit"]
        assert await wrong_key(two, "guess-4") == 401
        assert await wrong_key(one, "guess-5") == 429
        assert await log_in(two, "ada", "guess-6") == 429
        assert await wrong_key_over_mqtt(one, "guess-7") == LIMITED


async def test_what_is_taken_at_one_server_is_not_left_at_the_other(pair):
    async with pair(rate_limit_ingest=100) as (one, two):
        began = time.monotonic()
        for _ in range(60):
            assert (await ingest(one)).status_code == 201
        left, at_two = two.services.access.limits.ingest._buckets, 0

        async def learnt():
            # A server learns what others have taken as it settles what it has taken itself, which
            # may have been before the other one had told.
            nonlocal at_two
            at_two += 1
            assert (await ingest(two)).status_code == 201
            await eventually(lambda: not two.services.access.limits.ingest._spent)
            return left["admin"][0] < 90 - at_two

        await eventually(learnt)
        answers = [(await ingest(two)).status_code for _ in range(100)]
        assert 429 in answers
        # Both fill again meanwhile, however long that takes.
        filled = 100 * (time.monotonic() - began) / 60
        assert 95 <= 60 + at_two + answers.count(201) <= 110 + filled


async def test_a_redis_that_is_away_is_named_and_keeps_nobody_waiting(pair, redis):
    told = mock.Mock()
    with mock.patch.object(shared_counts, "log", told):
        async with pair(rate_limit_ingest=100, rate_limit_failed_logins=2) as (one, two):
            assert one.services.shared_counts.problem is None
            redis.stop()
            try:
                assert await wrong_key(one, "guess-1") == 401
                assert (await ingest(one)).status_code == 201
                body = (await one.http.get("/readyz")).json()
                assert body["ready"] is True
                assert "RATE_LIMIT_STORAGE is away" in " ".join(body["warnings"])
                metrics = (await one.http.get("/metrics", headers=ADMIN)).text
                assert "heliograph_limits_shared 0.0" in metrics
                # What was counted before counts here.
                assert await wrong_key(one, "guess-2") == 401
                assert await wrong_key(one, "guess-3") == 429
            finally:
                redis.start()
            await eventually(lambda: one.services.shared_counts.problem is None)
            assert (await one.http.get("/readyz")).json()["warnings"] == []
            assert [await wrong_key(two, f"guess-{at}") for at in range(3)] == [401, 401, 429]
            assert await wrong_key(one, "guess-9") == 429
    of_one = [call for call in told.warning.call_args_list if "away" in call.args[0]]
    assert 1 <= len(of_one) <= 2


async def test_a_server_starts_without_its_redis(site):
    away = "redis://127.0.0.1:1/0"
    async with site(
        rate_limit_storage=away, rate_limit_failed_logins=1, auto_provision=True
    ) as here:
        assert (await ingest(here)).status_code == 201
        assert "RATE_LIMIT_STORAGE" in (await here.http.get("/readyz")).json()["warnings"][0]
        assert [await wrong_key(here, f"{at}") for at in range(2)] == [401, 429]


async def test_the_extra_is_named_where_it_is_missing(site):
    missing = mock.patch.object(importlib.util, "find_spec", return_value=None)
    with missing, pytest.raises(StartError, match=r"heliograph\[redis\]"):
        async with site(rate_limit_storage="redis://127.0.0.1:1/0"):
            pass


async def test_without_redis_each_server_allows_its_share(site, postgresql_url):
    options = {
        "database_url": postgresql_url,
        "rate_limit_ingest": 9,
        "rate_limit_failed_logins": 3,
    }
    async with site(**options) as one:
        assert "q=9;" in (await ingest(one)).headers["ratelimit-policy"]
        async with site(**options) as two:
            assert "q=5;" in (await ingest(two)).headers["ratelimit-policy"]
            assert [await wrong_key(two, f"{at}") for at in range(3)] == [401, 401, 429]
            # The first one learns of it at once.
            await eventually(lambda: one.services.servers == 2)
            assert "q=5;" in (await ingest(one)).headers["ratelimit-policy"]
            assert [await wrong_key(one, f"{at}") for at in range(3)] == [401, 401, 429]
