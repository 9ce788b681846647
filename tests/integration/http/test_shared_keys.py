"""Keys of DEVICE_API_KEYS: whom they send as, what they read, and where."""

import asyncio
import json

import pytest
import websockets

from heliograph.model.credentials import hash_key
from integration.http.conftest import ADMIN, SHARED, SHARED_KEY
from mqtt_client import Client, publish, published, subscribe

READING = {"temperature": 22.5, "humidity": 65.0}
NOT_FOUND = (404, "DEVICE_NOT_FOUND")


async def code(answer):
    response = await answer
    return response.status_code, response.json().get("code") if response.status_code > 299 else None


async def sent(here, key, body=READING):
    """Send as the key's own device, and return its `device_id`."""
    response = await here.http.post("/ingest", json=body, headers={"x-api-key": key})
    assert response.status_code == 201, response.text
    return response.json()["device_id"]


async def owned(here):
    """Return the path of a network with a device `pump`, and its owner's headers."""
    owner = await here.user("ada")
    network = await here.network("cellar", ada="owner")
    await here.device("pump", network_identifier=network)
    return f"/networks/{network}", owner


async def test_a_shared_key_without_a_device_id_sends_as_the_keys_own_device(site):
    async with site(device_api_keys="key1,key2") as here:
        # At once, as devices that were switched on together do.
        names = await asyncio.gather(*(sent(here, "key1", {"t": at}) for at in range(5)))
        (own,) = set(names)
        assert own.startswith("key-")
        other = await sent(here, "key2")
        assert other != own
        batch = await here.http.post(
            "/ingest/batch", json=[{"t": 5}, {"t": 6}], headers={"x-api-key": "key1"}
        )
        assert batch.json() == {"accepted": 2, "duplicates": 0, "retimed": 0, "rejected": []}
        listed = (await here.http.get("/devices", headers=ADMIN)).json()
        assert {each["device_id"] for each in listed} == {own, other}
        default = here.services.registry.default_network
        assert {each["network_identifier"] for each in listed} == {default}
        history = await here.http.get(f"/devices/{own}/history", headers={"x-api-key": "key1"})
        assert {each["metrics"]["t"] for each in history.json()} == set(range(7))


async def test_the_keys_own_device_is_registered_at_first_use_only(site):
    async with site() as here:
        await here.device("pump")
        await here.http.post("/ingest", json={"device_id": "pump", "t": 1}, headers=SHARED)
        assert len((await here.http.get("/devices", headers=ADMIN)).json()) == 1


async def test_the_name_of_the_keys_own_device_tells_nothing_of_the_key(site):
    async with site(device_api_keys="key1") as here:
        own = await sent(here, "key1")
        hashed = hash_key("key1").hex()
        owner = await here.user("ada")
        default = here.services.registry.default_network
        member = f"/networks/{default}/members/ada"
        await here.http.put(member, json={"role": "owner"}, headers=ADMIN)
        # Nor does what its owners are told of who has registered it.
        audit = await here.http.get("/audit?action=sensor.create", headers=owner)
        (entry,) = audit.json()
        assert (entry["actor_kind"], entry["resource_name"]) == ("shared_key", own)
        for told in (own, entry["actor"]):
            assert "key1" not in told
            assert all(hashed[at : at + 6] not in told for at in range(len(hashed) - 5))


async def test_the_keys_own_device_is_found_by_its_full_hash_and_never_by_name(site):
    async with site(device_api_keys="key1") as here:
        own = await sent(here, "key1")
        renamed = await here.http.patch(
            f"/devices/{own}", json={"device_id": "roof"}, headers=ADMIN
        )
        assert renamed.status_code == 200
        assert await sent(here, "key1", {"t": 2}) == "roof"


async def test_a_shared_key_that_was_taken_away_opens_nothing(site, tmp_path):
    async with site(device_api_keys="key1") as here:
        own = await sent(here, "key1")
    url = f"sqlite:///{tmp_path}/heliograph.db"
    async with site(device_api_keys="key2", database_url=url) as here:
        # Nor does what is stored of it.
        stored = (await here.services.store.sensors.find(own)).key_hash
        for key in (b"key1", hash_key("key1"), stored):
            assert await here.services.authenticator.login(own, key) is None
            assert await here.services.authenticator.key(key.decode("latin-1")) is None
        for method, path in [("POST", "/ingest"), ("GET", f"/devices/{own}")]:
            refused = await here.http.request(
                method, path, json=READING, headers={"x-api-key": "key1"}
            )
            assert refused.status_code == 401


async def test_the_keys_own_device_can_be_given_a_key_deactivated_and_deleted(site):
    async with site(device_api_keys="key1") as here:
        first = await sent(here, "key1")
        given = await here.http.post(f"/devices/{first}/key", headers=ADMIN)
        own = {"x-api-key": given.json()["api_key"]}
        kept = await here.http.post("/ingest", json={"t": 2}, headers=own)
        assert kept.json()["device_id"] == first
        # It is the device's own from now on; the shared key has another one.
        second = await sent(here, "key1", {"t": 3})
        assert second != first
        await here.http.delete(f"/devices/{second}", headers=ADMIN)
        refused = here.http.post("/ingest", json={"t": 4}, headers={"x-api-key": "key1"})
        assert await code(refused) == (403, "DEVICE_INACTIVE")
        await here.http.delete(f"/sensors/{second}", headers=ADMIN)
        assert await sent(here, "key1", {"t": 5}) not in (first, second)


@pytest.mark.parametrize("name", ["key-1", "KEY-x"])
async def test_the_prefix_of_their_names_is_reserved(site, name):
    async with site(auto_provision=True) as here:
        await here.device("pump")
        for method, path, body in [
            ("POST", "/devices", {"device_id": name}),
            ("POST", "/devices/batch", [{"device_id": name}]),
            ("POST", "/sensors", {"sensor_name": "x", "device_id": name}),
            ("PATCH", "/devices/pump", {"device_id": name}),
            ("PUT", "/sensors/pump", {"device_id": name}),
        ]:
            response = await here.http.request(method, path, json=body, headers=ADMIN)
            assert response.status_code == 422, (path, response.text)
            assert "key-" in response.text
        unknown = here.http.post("/ingest", json={"device_id": name, "t": 1}, headers=ADMIN)
        assert await code(unknown) == NOT_FOUND
        own = await sent(here, SHARED_KEY)
        same = {"device_id": own, "name": "roof"}
        assert (
            await here.http.patch(f"/devices/{own}", json=same, headers=ADMIN)
        ).status_code == 200


async def test_shared_keys_send_and_read_in_default(site, serving):
    async with site() as here, serving(here.web) as port:
        await here.device("pump")
        sending = here.http.post("/ingest", json={"device_id": "pump", "t": 1}, headers=SHARED)
        assert (await sending).status_code == 201
        record = await here.http.get("/devices/pump", headers=SHARED)
        assert (record.status_code, record.json()["device_id"]) == (200, "pump")
        history = await here.http.get("/devices/pump/history", headers=SHARED)
        assert [each["metrics"] for each in history.json()] == [{"t": 1}]
        aggregate = await here.http.get("/devices/pump/aggregate", headers=SHARED)
        assert aggregate.json()["count"] == 1
        url = f"ws://127.0.0.1:{port}/api/v1/realtime/subscribe/pump"
        async with websockets.connect(url, additional_headers=SHARED) as socket:
            assert json.loads(await socket.recv()) == {"type": "ack"}
            await here.http.post("/ingest", json={"device_id": "pump", "t": 2}, headers=SHARED)
            assert json.loads(await socket.recv())["data"]["metrics"] == {"t": 2}
        # What may hold secrets, and what is not a device's readings, is not for them.
        for path in (
            "/devices",
            "/sensors/pump",
            "/sensors/pump/configurations",
            "/sensors/pump/export?format=csv",
            "/events",
        ):
            assert (await here.http.get(path, headers=SHARED)).status_code == 403, path


async def test_shared_keys_send_and_read_elsewhere_only_where_an_owner_allows_it(site, serving):
    async with site(mqtt_listen="127.0.0.1:0") as here, serving(here.web) as port:
        path, owner = await owned(here)

        async def answers():
            sending = await here.http.post(
                "/ingest", json={"device_id": "pump", "t": 1}, headers=SHARED
            )
            batch = await here.http.post(
                "/ingest/batch", json=[{"device_id": "pump", "t": 2}], headers=SHARED
            )
            payload = await here.http.post(
                "/sensors/pump/measurements", json={"value": 1}, headers=SHARED
            )
            reading = [
                (await here.http.get(f"/devices/pump{what}", headers=SHARED)).status_code
                for what in ("", "/history", "/aggregate")
            ]
            url = f"ws://127.0.0.1:{port}/api/v1/realtime/subscribe/pump"
            async with websockets.connect(url, additional_headers=SHARED) as socket:
                try:
                    json.loads(await socket.recv())
                    opened = 200
                except websockets.ConnectionClosed as closed:
                    opened = closed.rcvd.code
            return (
                [sending.status_code, batch.json()["accepted"], payload.status_code],
                reading,
                opened,
            )

        refused = ([404, 0, 404], [404] * 3, 4404)
        assert await answers() == refused
        ((_, mqtt),) = here.services.listener.addresses
        client = await Client.connected(mqtt, "shared", "pump", SHARED_KEY)
        client.send(publish("measurements/pump", b'{"value": 3}', packet_id=1))
        assert (await client.packet())[0] == 0x40

        async def stored():
            page = await here.http.get("/sensors/pump/measurements", headers=owner)
            return len(page.json())

        assert await stored() == 0
        for allowed in (True, False):
            body = {"shared_keys": allowed}
            changed = await here.http.put(path, json=body, headers=owner)
            assert (changed.status_code, changed.json()["shared_keys"]) == (200, allowed)
            before = await stored()
            expected = ([201, 1, 201], [200] * 3, 200) if allowed else refused
            assert await answers() == expected
            client.send(publish("measurements/pump", b'{"value": %d}' % (4 + allowed), packet_id=2))
            assert (await client.packet())[0] == 0x40
            assert await stored() == before + (4 if allowed else 0)
        await client.close()


async def test_only_owners_allow_shared_keys(site):
    async with site() as here:
        path, owner = await owned(here)
        editor = await here.user("eve")
        await here.http.put(f"{path}/members/eve", json={"role": "editor"}, headers=owner)
        refused = here.http.put(path, json={"shared_keys": True}, headers=editor)
        assert await code(refused) == (403, "FORBIDDEN")
        assert (await here.http.get(path, headers=owner)).json()["shared_keys"] is False
        default = f"/networks/{here.services.registry.default_network}"
        assert (await here.http.get(default, headers=ADMIN)).json()["shared_keys"] is True


async def test_a_socket_of_a_shared_key_shows_no_more_when_the_owner_allows_it_no_more(
    site, serving
):
    async with site() as here, serving(here.web) as port:
        path, owner = await owned(here)
        await here.http.put(path, json={"shared_keys": True}, headers=owner)
        url = f"ws://127.0.0.1:{port}/api/v1/realtime/subscribe/pump"
        async with websockets.connect(url, additional_headers=SHARED) as socket:
            await socket.recv()
            await here.http.post("/ingest", json={"device_id": "pump", "t": 1}, headers=SHARED)
            assert json.loads(await socket.recv())["data"]["metrics"] == {"t": 1}
            await here.http.put(path, json={"shared_keys": False}, headers=owner)
            streams = here.services.streams
            streams.sweep(asyncio.get_running_loop().time())
            await here.http.post("/ingest", json={"device_id": "pump", "t": 2}, headers=ADMIN)
            await socket.send('{"action":"subscribe","device_id":"pump"}')
            assert json.loads(await socket.recv())["code"] == "DEVICE_NOT_FOUND"
            await here.http.put(path, json={"shared_keys": True}, headers=owner)
            streams.sweep(asyncio.get_running_loop().time())
            await here.http.post("/ingest", json={"device_id": "pump", "t": 3}, headers=ADMIN)
            assert json.loads(await socket.recv())["data"]["metrics"] == {"t": 3}


async def test_nothing_flows_over_mqtt_when_the_owner_lets_shared_keys_in_no_more(site):
    async with site(mqtt_listen="127.0.0.1:0") as here:
        path, owner = await owned(here)
        await here.http.put(path, json={"shared_keys": True}, headers=owner)
        ((_, port),) = here.services.listener.addresses

        async def connected(name, **options):
            return await Client.connected(port, name, "pump", SHARED_KEY, **options)

        async def configured(number):
            body = {"configuration": {"number": number}}
            await here.http.post("/sensors/pump/configurations", json=body, headers=owner)

        async def heard(client):
            """Return the payloads that come until a ping is answered."""
            client.send(b"\xc0\x00")
            payloads = []
            while (answer := await client.packet()) != b"\xd0":
                if answer[0] >> 4 == 3:
                    payloads.append(published(answer).payload)
            return payloads

        watching = await connected("watching")
        sleeping = await connected("sleeping", clean=False)
        for client in (watching, sleeping):
            client.send(subscribe("configurations/pump"))
            assert (await client.packet())[0] == 0x90
        await configured(1)
        for client in (watching, sleeping):
            assert b'"number":1' in published(await client.packet()).payload
        await sleeping.close()
        await configured(2)
        assert b'"number":2' in published(await watching.packet()).payload
        await here.http.put(path, json={"shared_keys": False}, headers=owner)
        everything = await Client.connected(port, "admin", "admin", ADMIN["x-api-key"])
        everything.send(subscribe("configurations/pump"))
        assert (await everything.packet())[0] == 0x90
        await configured(3)
        while b'"number":3' not in published(await everything.packet()).payload:
            pass
        assert await heard(watching) == []
        sleeping = await connected("sleeping", clean=False)
        assert await heard(sleeping) == []
        for client in (watching, sleeping, everything):
            await client.close()
