"""Several servers on one PostgreSQL: what each says of the others."""

import asyncio
from unittest import mock

import pytest

from heliograph import server as server_module
from heliograph.access.registry import Registry
from heliograph.errors import StartError
from heliograph.ingest import elsewhere, instance, latest_values
from heliograph.settings import Address
from integration.http.conftest import ADMIN
from mqtt_client import Client
from scripted_broker import scripted_broker
from server import eventually


async def readiness(site):
    response = await site.http.get("/readyz")
    assert response.status_code == 200
    body = response.json()
    told = {name: body["instance"][name] for name in ("number", "others")}
    return told, " ".join(body["warnings"])


async def test_a_second_server_is_told_in_the_log_and_by_both(site, postgresql_url, monkeypatch):
    monkeypatch.setattr(instance, "LEASE_SECONDS", 1.0)
    told = mock.Mock()
    monkeypatch.setattr(instance.log, "info", told)
    async with site(database_url=postgresql_url) as one:
        assert await readiness(one) == ({"number": 0, "others": []}, "")
        told.assert_not_called()
        async with site(database_url=postgresql_url) as two:
            assert await readiness(two) == ({"number": 1, "others": [0]}, "")

            async def others():
                return (await readiness(one))[0]["others"] == [1]

            await eventually(others)
        # Told once by each, and by the first in the end that it is alone.
        assert [call.kwargs for call in told.call_args_list if call.kwargs] == [
            {"instance": 1, "others": [0]},
            {"instance": 0, "others": [1]},
        ]

        async def alone():
            return await readiness(one) == ({"number": 0, "others": []}, "")

        await eventually(alone)


async def test_a_server_on_sqlite_is_the_only_one(site):
    async with site() as here:
        assert await readiness(here) == ({"number": 0, "others": []}, "")


async def test_two_that_share_a_broker_under_one_client_id_are_refused(site, postgresql_url):
    async with scripted_broker() as broker:
        options = {"database_url": postgresql_url, "mqtt_url": broker.url, "mqtt_shared": True}
        async with site(**options):
            with pytest.raises(StartError, match=r"^MQTT_CLIENT_ID: .*'heliograph'.*of its own"):
                async with site(**options):
                    pass
            async with site(**options, mqtt_client_id="heliograph-2") as two:
                assert two.services.instance.number == 1
        # Whoever has ended may start again at once.
        async with site(**options) as again:
            assert again.services.instance.number == 2


@pytest.fixture
def told_only(monkeypatch):
    """Have servers follow each other by what they tell alone, not by looking each second."""
    monkeypatch.setattr(Registry.watch, "__defaults__", (3_600.0,))


@pytest.fixture
async def pair(site, postgresql_url, monkeypatch):
    monkeypatch.setattr(elsewhere, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(latest_values, "FRESH_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "FLUSH_BESIDE_OTHERS_SECONDS", 0.1)
    options = {"database_url": postgresql_url, "mqtt_listen": (Address("127.0.0.1", 0),)}
    async with site(**options) as one, site(**options) as two:
        # The first one knows of the second: else it tells nobody.
        await eventually(lambda: not one.services.elsewhere.is_alone)
        yield one, two


async def is_refused(here, headers, path="/sensors"):
    return (await here.http.get(path, headers=headers)).status_code == 401


@pytest.mark.usefixtures("told_only")
async def test_what_ends_at_one_server_has_ended_at_the_other_without_a_look(pair):
    one, two = pair
    device = await one.device("pump")
    user = await one.user("ada")
    assert not await is_refused(two, device, "/devices/pump")
    assert not await is_refused(two, user)
    client = await Client.connected(
        two.services.listener.addresses[0][1], "pump", "pump", device["x-api-key"]
    )
    assert (await one.http.post("/devices/pump/key", headers=ADMIN)).is_success
    assert (await one.http.delete("/authentication", headers=user)).status_code == 204
    assert not await client.packet()
    await eventually(lambda: is_refused(two, user))
    assert await is_refused(two, device, "/devices/pump")


@pytest.mark.usefixtures("told_only")
async def test_what_ended_while_nothing_could_be_told_has_ended_after_the_reconnect(pair):
    one, two = pair
    user = await one.user("ada")
    assert not await is_refused(two, user)
    signals = two.services.elsewhere._connection
    connect, away = signals._connect, asyncio.Event()

    async def no_way():
        away.set()
        raise OSError

    signals._connect = no_way
    await signals.close()
    await away.wait()
    assert (await one.http.delete("/authentication", headers=user)).status_code == 204
    assert not await is_refused(two, user)
    signals._connect = connect
    await eventually(lambda: is_refused(two, user))


async def test_a_ticket_of_one_server_opens_one_stream_of_all(pair):
    one, two = pair
    user = await one.user("ada")
    for _ in range(3):
        ticket = (await one.http.post("/tickets", headers=user)).json()["ticket"]
        streams = [each.http.get(f"/events?ticket={ticket}") for each in (two, one, two, one)]
        answers = [answer.status_code for answer in await asyncio.gather(*streams)]
        assert sorted(answers) == [200, 401, 401, 401]


async def test_what_came_to_one_server_is_the_latest_at_the_other(pair):
    one, two = pair
    await one.device("pump")
    network = one.services.registry.default_network
    paths = ("/sensors/pump/latest", f"/networks/{network}/latest")

    async def latest(here, path):
        answer = await here.http.get(path, headers=ADMIN)
        assert answer.status_code == 200, answer.text
        return answer.text

    for value in (-17.5, -18.5):
        await asyncio.gather(*(latest(two, path) for path in paths))
        sent = {"device_id": "pump", "t": value}
        assert (await one.http.post("/ingest", json=sent, headers=ADMIN)).status_code == 201
        for path in paths:

            async def is_shown(path=path, value=value):
                return str(value) in await latest(two, path)

            await eventually(is_shown)


async def test_each_server_knows_when_a_sensor_was_last_seen(pair):
    one, two = pair
    await one.device("pump")
    sent = {"device_id": "pump", "t": 1}
    assert (await one.http.post("/ingest", json=sent, headers=ADMIN)).status_code == 201

    async def is_seen():
        answer = (await two.http.get("/sensors/pump", headers=ADMIN)).json()
        return answer["last_seen_at"] is not None

    await eventually(is_seen)
