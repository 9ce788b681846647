"""Sensors over HTTP: both ways to make one, changing, moving, configuring, deleting."""

import asyncio
import uuid

import pytest

from heliograph.model.presence import is_late
from heliograph.model.sensor import Network, Sensor
from mqtt_client import Client, connect, published, subscriptions
from server import eventually

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
INVENTORY = {"manufacturer": "Acme", "model": "T-1", "modality": "temperature"}


@pytest.fixture
async def here(site):
    """The running server; every call is the admin's unless it says whose it is."""
    async with site() as running:
        running.http.headers.update(ADMIN)
        yield running


async def made(here, **members):
    response = await here.http.post("/sensors", json={**INVENTORY, **members})
    assert response.status_code == 201, response.text
    return response.json()


def problems(response):
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
    return [problem["loc"] for problem in response.json()["detail"]]


async def test_a_name_or_an_inventory_makes_a_sensor(here):
    named = await here.http.post("/sensors", json={"sensor_name": "bulbasaur"})
    listed = await here.http.post("/sensors", json={**INVENTORY, "serial_number": "S1"})
    both = await here.http.post(
        "/sensors",
        json={**INVENTORY, "sensor_name": "ivysaur", "name": "Ivy", "device_id": "ivy"},
    )
    assert [answer.status_code for answer in (named, listed, both)] == [201] * 3
    first, second, third = (answer.json() for answer in (named, listed, both))
    assert (first["sensor_name"], first["manufacturer"], first["revision"]) == (
        "bulbasaur",
        None,
        None,
    )
    assert {name: second[name] for name in INVENTORY} == INVENTORY
    assert (second["serial_number"], second["sensor_name"]) == ("S1", None)
    assert (third["device_id"], third["name"], third["model"]) == ("ivy", "Ivy", "T-1")
    assert first["network_identifier"] == here.services.registry.default_network
    assert "api_key" not in third
    for made_one in (first, second, third):
        assert (await here.http.get(f"/sensors/{made_one['id']}")).json() == made_one
    assert (await here.http.get("/sensors/ivy")).json() == third


async def test_what_is_wrong_is_named(here):
    for body, expected in [
        ({}, [["body", "manufacturer"], ["body", "model"], ["body", "modality"]]),
        ({"sensor_name": None, "model": "M", "modality": "m"}, [["body", "manufacturer"]]),
        ({**INVENTORY, "manufacturer": None}, [["body", "manufacturer"]]),
        ({**INVENTORY, "model": 7}, [["body", "model"]]),
        ({"sensor_name": 7}, [["body", "sensor_name"]]),
        ({"sensor_name": "x" * 256}, [["body", "sensor_name"]]),
        ({"sensor_name": "\0"}, [["body", "sensor_name"]]),
        ({"sensor_name": "a", "id": "7"}, [["body", "id"]]),
        ({"sensor_name": "a", "device_id": "a b"}, [["body", "device_id"]]),
        ({"sensor_name": "a", "expected_interval": 0}, [["body", "expected_interval"]]),
        ({"sensor_name": "a", "expected_interval": True}, [["body", "expected_interval"]]),
        ({"sensor_name": "a", "expected_interval": "60"}, [["body", "expected_interval"]]),
        ({"sensor_name": "a", "expected_interval": 10**400}, [["body", "expected_interval"]]),
        ({"sensor_name": "a", "configuration": {"a": ["\0"]}}, [["body", "configuration"]]),
        ({"sensor_name": "a", "configuration": {"\0": 1}}, [["body", "configuration"]]),
        ({"sensor_name": "a", "configuration": [2**63]}, [["body", "configuration"]]),
        ({"sensor_name": "a", "tags": "roof"}, [["body", "tags"]]),
        ({"sensor_name": "a", "tags": [""]}, [["body", "tags", 0]]),
        ({"sensor_name": "a", "tags": ["a", "x" * 65]}, [["body", "tags", 1]]),
        ({"sensor_name": "a", "tags": [" a"]}, [["body", "tags", 0]]),
        ({"sensor_name": "a", "tags": ["\0"]}, [["body", "tags", 0]]),
        ({"sensor_name": "a", "tags": [f"{n}" for n in range(33)]}, [["body", "tags"]]),
        ({"sensor_name": "a", "latitude": 90.1}, [["body", "latitude"]]),
        ({"sensor_name": "a", "latitude": True}, [["body", "latitude"]]),
        ({"sensor_name": "a", "longitude": "7"}, [["body", "longitude"]]),
        ({"sensor_name": "a", "place": 7}, [["body", "place"]]),
        ({"sensor_name": "a", "attributes": {"t": "°C"}}, [["body", "attributes", "t"]]),
        (
            {"sensor_name": "a", "attributes": {"t": {"units": "°C"}}},
            [["body", "attributes", "t", "units"]],
        ),
        (
            {"sensor_name": "a", "attributes": {"t": {"unit": "x" * 33}}},
            [["body", "attributes", "t", "unit"]],
        ),
        ([], [["body"]]),
    ]:
        assert problems(await here.http.post("/sensors", json=body)) == expected, body
        assert (await here.http.get("/sensors")).json() == [], body


@pytest.mark.parametrize(
    "configuration",
    ["NaN", "1e999", '"\\ud800"', '{"\\udfff": 1}', "[" * 33 + "]" * 33],
)
async def test_a_configuration_is_json_that_both_databases_keep(here, configuration):
    body = f'{{"sensor_name": "a", "configuration": {configuration}}}'
    response = await here.http.post("/sensors", content=body.encode())
    assert problems(response) == [["body", "configuration"]]


async def test_a_configuration_that_is_present_is_revision_0(here):
    default = await made(here)
    null = await made(here, configuration=None)
    given = await made(here, configuration={"b": 1, "a": [True, 1.5, "é"]})
    assert [each["revision"] for each in (default, null, given)] == [None, 0, 0]
    configurations, registry = here.services.store.configurations, here.services.registry

    async def current(sensor):
        known = await registry.find(sensor["id"])
        found = await configurations.current(known.number)
        return found and bytes(found.configuration).decode()

    assert await current(default) is None
    assert await current(null) == "null"
    assert await current(given) == '{"b":1,"a":[true,1.5,"é"]}'


async def test_a_new_revision_wakes_whoever_publishes(here):
    woken = []
    here.services.store.configurations.revised.add(lambda _revisions: woken.append(1))
    sensor = await made(here)
    assert woken == []
    await made(here, configuration={})
    assert woken == [1]
    await here.http.patch(f"/sensors/{sensor['id']}", json={"name": "x"})
    assert woken == [1]
    await here.http.patch(f"/sensors/{sensor['id']}", json={"configuration": 1})
    assert woken == [1, 1]


async def test_an_id_may_be_given_once(here):
    identifier = uuid.uuid1()
    sensor = await made(here, id=str(identifier).upper())
    assert sensor["id"] == sensor["sensor_identifier"] == str(identifier)
    again = await here.http.post("/sensors", json={**INVENTORY, "id": str(identifier)})
    assert (again.status_code, again.json()["code"]) == (409, "SENSOR_ALREADY_REGISTERED")


async def test_names_in_use_are_told_apart(here):
    await made(here, serial_number="1", sensor_name="a", device_id="d-1")
    other = await made(here)
    for members, status, code in [
        ({"serial_number": "1"}, 400, "SERIAL_NUMBER_ALREADY_REGISTERED"),
        ({"sensor_name": "a"}, 409, "SENSOR_NAME_ALREADY_REGISTERED"),
        ({"device_id": "d-1"}, 409, "DEVICE_ALREADY_REGISTERED"),
    ]:
        for method, path, body in [
            ("POST", "/sensors", {**INVENTORY, **members}),
            ("PUT", f"/sensors/{other['id']}", members),
            ("PATCH", f"/sensors/{other['id']}", {**members, "configuration": {}}),
        ]:
            response = await here.http.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (status, code), method
    unchanged = await here.http.get(f"/sensors/{other['id']}")
    assert unchanged.json() == other
    roof = await here.network("roof")
    elsewhere = await made(here, serial_number="1", sensor_name="a", network_identifier=roof)
    assert elsewhere["network_identifier"] == roof


async def test_the_list_is_in_order_filtered_and_in_pieces(here):
    roof = await here.network("roof")
    sensors = [
        await made(here),
        await made(here, model="T-2", network_identifier=roof),
        await made(here, manufacturer="Other", modality="light"),
    ]
    node = (
        await here.http.post("/nodes", json={"serial_number": "N", "firmware_version": "1"})
    ).json()
    sensors[0] = (
        await here.http.post(f"/nodes/{node['id']}/sensors", json={"sensor_id": sensors[0]["id"]})
    ).json()

    async def listed(**which):
        response = await here.http.get("/sensors", params=which)
        assert response.status_code == 200, response.text
        found = [sensors.index({**sensor, "text_attributes": []}) for sensor in response.json()]
        return found, int(response.headers["x-total-count"])

    assert await listed() == ([0, 1, 2], 3)
    assert await listed(offset=1, limit=1) == ([1], 3)
    assert await listed(manufacturer="Acme") == ([0, 1], 2)
    assert await listed(manufacturer="Acme", model="T-2") == ([1], 1)
    assert await listed(modality="light") == ([2], 1)
    assert await listed(node_id=node["id"].upper()) == ([0], 1)
    assert await listed(network_identifier=roof.upper()) == ([1], 1)
    elsewhere = await here.http.get("/sensors", params={"network_identifier": str(uuid.uuid4())})
    assert elsewhere.status_code == 404
    for query in ("model=%00", "network_identifier=%00", "limit=0", "limit=10001", "offset=-1"):
        assert (await here.http.get(f"/sensors?{query}")).status_code == 422


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_changes_what_is_present_and_nothing_else(here, method):
    sensor = await made(here, serial_number="1", name="Pump", configuration={"a": 1})

    async def change(**members):
        response = await here.http.request(method, f"/sensors/{sensor['id']}", json=members)
        assert response.status_code == 200, response.text
        # How far a configuration has come changes by itself.
        return {**response.json(), "configuration_state": sensor["configuration_state"]}

    assert await change() == sensor
    assert await change(name=None) == {**sensor, "name": None}
    assert await change(device_id="d-1") == {**sensor, "name": None, "device_id": "d-1"}
    assert await change(device_id=None, name="Pump") == sensor
    assert await change(configuration={"b": 2}) == {**sensor, "revision": 1}
    assert (await change(configuration=None, model="T-9"))["revision"] == 2
    assert (await change(model="T-1"))["revision"] == 2
    for body in ({"is_active": None}, {"network_identifier": None}, {"name": "\0"}, []):
        response = await here.http.request(method, f"/sensors/{sensor['id']}", json=body)
        assert response.status_code == 422


async def test_moving_takes_an_owner_who_is_an_editor_in_the_other_network(here):
    ann = await here.user("ann")
    roof = await here.network("roof", ann="owner")
    cellar = await here.network("cellar", ann="viewer")
    attic = await here.network("attic")
    sensor = await made(here, network_identifier=roof)

    async def move(network, path=sensor["id"]):
        body = {"network_identifier": network}
        response = await here.http.patch(f"/sensors/{path}", json=body, headers=ann)
        return response.status_code, response.json().get("code")

    del here.http.headers["x-api-key"]
    assert await move(cellar) == (403, "FORBIDDEN")
    assert await move(attic) == (404, "NETWORK_NOT_FOUND")
    foreign = (
        await here.http.post(
            "/sensors", json={**INVENTORY, "network_identifier": cellar}, headers=ADMIN
        )
    ).json()
    assert await move(roof, foreign["id"]) == (403, "FORBIDDEN")
    found = await here.http.get(f"/sensors/{sensor['id']}", headers=ann)
    assert found.json() == sensor
    yard = await here.network("yard", ann="editor")
    assert await move(yard) == (200, None)


async def test_an_editor_cannot_deactivate_or_delete(here):
    ann = await here.user("ann")
    roof = await here.network("roof", ann="editor")
    sensor = await made(here, network_identifier=roof)
    del here.http.headers["x-api-key"]
    path = f"/sensors/{sensor['id']}"
    for method, body in [("PATCH", {"is_active": False}), ("DELETE", None)]:
        response = await here.http.request(method, path, json=body, headers=ann)
        assert response.status_code == 403
    assert (await here.http.get(path, headers=ann)).json()["is_active"] is True


async def test_a_deleted_sensor_is_refused_unlisted_and_readable_by_its_id(here):
    key = await here.device("pump-1", serial_number="1")
    sensor = (await here.http.get("/sensors/pump-1")).json()
    for number in range(3):
        await here.http.post("/ingest", json={"t": number}, headers=key)
    for _ in range(2):
        gone = await here.http.delete("/sensors/pump-1")
        assert (gone.status_code, gone.content) == (204, b"")
    refused = await here.http.post("/ingest", json={"t": 9}, headers=key)
    assert (refused.status_code, refused.json()["code"]) == (401, "INVALID_API_KEY")
    refused = await here.http.post("/ingest", json={"t": 9, "device_id": "pump-1"})
    assert (refused.status_code, refused.json()["code"]) == (403, "DEVICE_INACTIVE")
    for path in ("/sensors", "/devices", f"/networks/{sensor['network_identifier']}/sensors"):
        response = await here.http.get(path)
        assert (response.json(), response.headers["x-total-count"]) == ([], "0")
    for identifier in ("pump-1", sensor["id"]):
        found = (await here.http.get(f"/sensors/{identifier}")).json()
        assert found["is_active"] is False
        assert found["id"] == sensor["id"]
        pages = await here.http.get(f"/sensors/{identifier}/measurements")
        assert len(pages.json()) == 3
    for method, path, body in [
        ("PATCH", "/sensors/pump-1", {"name": "x"}),
        ("PUT", "/sensors/pump-1", {"configuration": {}}),
        ("PATCH", "/devices/pump-1", {"name": "x"}),
        ("POST", "/devices/pump-1/key", None),
    ]:
        assert (await here.http.request(method, path, json=body)).status_code == 404, path
    await here.device("pump-1", serial_number="1")
    heir = (await here.http.get("/sensors/pump-1")).json()
    assert heir["id"] != sensor["id"]
    old = (await here.http.get(f"/sensors/{sensor['id']}")).json()
    assert (old["device_id"], old["serial_number"]) == (None, None)
    assert len((await here.http.get(f"/sensors/{sensor['id']}/measurements")).json()) == 3
    assert (await here.http.get("/sensors/pump-1/measurements")).json() == []


async def test_a_deleted_sensor_can_be_brought_back_with_a_new_key(here):
    old = await here.device("pump-1")
    await here.http.delete("/sensors/pump-1")
    back = await here.http.patch("/sensors/pump-1", json={"is_active": True})
    assert back.json()["is_active"] is True
    assert len((await here.http.get("/sensors")).json()) == 1
    assert (await here.http.post("/ingest", json={"t": 1}, headers=old)).status_code == 401
    key = (await here.http.post("/devices/pump-1/key")).json()["api_key"]
    sent = await here.http.post("/ingest", json={"t": 1}, headers={"x-api-key": key})
    assert sent.status_code == 201


@pytest.mark.parametrize("first", [False, True])
async def test_deleting_the_data_leaves_nothing(here, first):
    key = await here.device("pump-1")
    await here.device("pump-2")
    sensor = (await here.http.get("/sensors/pump-1")).json()
    for number in range(3):
        await here.http.post("/ingest", json={"t": number}, headers=key)
    await here.http.patch("/sensors/pump-1", json={"configuration": {}})
    if first:
        # Kept at first, and then not.
        await here.http.delete("/sensors/pump-1")
        assert (await here.http.get(f"/sensors/{sensor['id']}/measurements")).json() != []
    gone = await here.http.delete("/sensors/pump-1?data=delete")
    assert (gone.status_code, gone.content) == (204, b"")
    for identifier in ("pump-1", sensor["id"]):
        for path in ("", "/measurements", "/latest"):
            response = await here.http.get(f"/sensors/{identifier}{path}")
            assert (response.status_code, response.json()["code"]) == (404, "SENSOR_NOT_FOUND")
    again = await here.http.delete("/sensors/pump-1?data=delete")
    assert again.status_code == 404
    listed = await here.http.get("/sensors")
    assert [each["device_id"] for each in listed.json()] == ["pump-2"]
    created = await made(here, id=sensor["id"], device_id="pump-1")
    assert created["revision"] is None
    assert (await here.http.get("/sensors/pump-1/measurements")).json() == []
    assert (await here.http.delete("/sensors/pump-1?data=maybe")).status_code == 422


async def test_what_waits_for_its_commit_is_erased_too(here, monkeypatch):
    key = await here.device("pump-1")
    store = here.services.store
    write, has_begun, goes_on = store.write, asyncio.Event(), asyncio.Event()

    async def held(batch):
        has_begun.set()
        await goes_on.wait()
        return await write(batch)

    monkeypatch.setattr(store, "write", held)
    posting = asyncio.create_task(here.http.post("/ingest", json={"t": 1}, headers=key))
    await has_begun.wait()
    erasing = asyncio.create_task(here.http.delete("/sensors/pump-1?data=delete"))
    pipeline = here.services.http_ingest._pipeline
    await eventually(lambda: erasing.done() or pipeline._written is not None)
    goes_on.set()
    assert [(await each).status_code for each in (posting, erasing)] == [201, 204]
    assert await store.newest() == (0, 0)


async def test_a_node_may_be_named_in_the_body(here):
    roof = await here.network("roof")
    node = (
        await here.http.post("/nodes", json={"serial_number": "N", "firmware_version": "1"})
    ).json()
    away = (
        await here.http.post(
            "/nodes",
            json={"serial_number": "N", "firmware_version": "1", "network_identifier": roof},
        )
    ).json()
    sensor = await made(here, node_id=node["id"])
    assert sensor["node_id"] == node["id"]
    path = f"/sensors/{sensor['id']}"
    for wrong, status, code in [
        (away["id"], 409, "NODE_IN_ANOTHER_NETWORK"),
        (str(uuid.uuid4()), 404, "NODE_NOT_FOUND"),
        ("x", 404, "NODE_NOT_FOUND"),
    ]:
        for method, where, body in [
            ("POST", "/sensors", {**INVENTORY, "node_id": wrong}),
            ("POST", "/devices", {"device_id": "d", "node_id": wrong}),
            ("PATCH", path, {"node_id": wrong}),
        ]:
            response = await here.http.request(method, where, json=body)
            assert (response.status_code, response.json()["code"]) == (status, code)
    moved = await here.http.patch(path, json={"network_identifier": roof, "node_id": away["id"]})
    assert (moved.json()["network_identifier"], moved.json()["node_id"]) == (roof, away["id"])
    off = await here.http.patch(path, json={"node_id": None})
    assert off.json()["node_id"] is None


@pytest.mark.parametrize("kind", ["sensors", "devices"])
async def test_late_is_a_fact_of_its_own_once_an_interval_is_expected(here, kind):
    body = {"device_id": "pump-1", **(INVENTORY if kind == "sensors" else {})}
    sent = await here.http.post(f"/{kind}", json={**body, "expected_interval": 3_600})
    assert (sent.status_code, sent.json()["expected_interval"]) == (201, 3_600)
    path = f"/{kind}/pump-1"

    async def late():
        listed = (await here.http.get(f"/{kind}")).json()
        read = (await here.http.get(path)).json()
        assert [{**each, "text_attributes": []} for each in listed] == [read]
        return read["late"]

    assert await late() is False
    for method in ("PUT", "PATCH") if kind == "sensors" else ("PATCH",):
        for interval, expected in ((0.001, True), (None, None), (3_600, False), (0.001, True)):
            members = {"expected_interval": interval}
            changed = await here.http.request(method, path, json=members)
            assert changed.status_code == 200, changed.text
            await eventually(lambda expected=expected: is_now(late, expected))
        for wrong in (0, -1, True, "60", 10**12, {}):
            refused = await here.http.request(method, path, json={"expected_interval": wrong})
            assert problems(refused) == [["body", "expected_interval"]]
    # Who is out of service is not waited for.
    await here.http.delete("/devices/pump-1")
    assert await late() is None


async def is_now(fact, expected):
    return await fact() is expected


async def test_the_expected_interval_is_in_seconds(here):
    sensor = await made(here, expected_interval=0.25)
    assert sensor["expected_interval"] == 0.25
    changed = await here.http.patch(f"/sensors/{sensor['id']}", json={"expected_interval": 3600})
    assert (changed.json()["expected_interval"], changed.json()["late"]) == (3600.0, False)
    number = (await here.services.registry.find(sensor["id"])).number
    assert (
        await here.services.store.sensors.find_number(number)
    ).expected_interval == 3_600 * 10**6
    none = await here.http.patch(f"/sensors/{sensor['id']}", json={"expected_interval": None})
    assert (none.json()["expected_interval"], none.json()["late"]) == (None, None)


async def test_numbers_that_come_as_texts_are_named_until_they_come_as_numbers(here):
    made_one = await made(here, device_id="pump")
    other = await made(here, device_id="fan")
    route = f"/sensors/{made_one['id']}"

    async def send(value, at):
        body = {"value": value, "timestamp": 1_700_000_000 + at}
        answer = await here.http.post(f"{route}/measurements", json=body)
        assert answer.status_code == 201

    async def named():
        for path in (route, "/sensors/pump", "/devices/pump"):
            answer = (await here.http.get(path)).json()
            yield answer["text_attributes"]
        changed = await here.http.patch(route, json={"name": "x"})
        yield changed.json()["text_attributes"]
        configured = await here.http.put(route, json={"configuration": {}})
        yield configured.json()["text_attributes"]

    assert [each async for each in named()] == [[]] * 5
    await send({"t": "22.5", "h": "40", "state": "on", "n": 3, "deep": {"a.b": "1"}}, 0)
    assert [each async for each in named()] == [[r"deep.a\.b", "h", "t"]] * 5
    # What is older than that says nothing of now; what is newer does.
    await send({"t": 20}, -10)
    await send({"h": 41}, 10)
    assert [each async for each in named()] == [[r"deep.a\.b", "t"]] * 5
    await send({"t": 22, "deep": {"a.b": None}}, 20)
    assert [each async for each in named()] == [[]] * 5
    assert (await here.http.get(f"/sensors/{other['id']}")).json()["text_attributes"] == []


@pytest.mark.parametrize(
    ("interval", "seen", "moment", "is_active", "expected"),
    [
        (None, 100, 999, True, None),
        (50, 100, 150, True, False),
        (50, 100, 151, True, True),
        (50, None, 60, True, False),
        (50, None, 61, True, True),
        (50, 100, 999, False, None),
    ],
)
def test_late_is_who_is_silent_for_longer_than_expected(
    interval, seen, moment, is_active, expected
):
    sensor = Sensor(1, "i", "n", is_active=is_active, created_at=10, expected_interval=interval)
    assert is_late(sensor, seen, moment) is expected


async def test_a_network_that_is_gone_meanwhile_is_not_found(here, monkeypatch):
    gone = str(uuid.uuid4())
    sensor = await made(here)
    node = (
        await here.http.post("/nodes", json={"serial_number": "N", "firmware_version": "1"})
    ).json()

    async def as_it_was(_identifier):
        return Network(gone, "gone", 1)

    monkeypatch.setattr(here.services.registry, "network", as_it_was)
    for method, path, body in [
        ("POST", "/sensors", INVENTORY),
        ("PATCH", f"/sensors/{sensor['id']}", {}),
        ("PATCH", f"/sensors/{sensor['id']}", {"configuration": 1}),
        ("POST", "/devices", {"device_id": "d"}),
        ("POST", "/nodes", {"serial_number": "N", "firmware_version": "1"}),
        ("PATCH", f"/nodes/{node['id']}", {}),
    ]:
        response = await here.http.request(method, path, json={**body, "network_identifier": gone})
        assert (response.status_code, response.json()["code"]) == (404, "NETWORK_NOT_FOUND"), path
    batch = [{"device_id": "d", "network_identifier": gone}]
    assert (await here.http.post("/devices/batch", json=batch)).status_code == 404
    assert (await here.http.get(f"/sensors/{sensor['id']}")).json() == sensor


@pytest.mark.parametrize("data", ["keep", "delete"])
async def test_deleting_ends_the_sensors_connections(site, data):
    async with site(mqtt_listen="127.0.0.1:0") as here:
        key = (await here.device("pump-1"))["x-api-key"]
        other = (await here.device("pump-2"))["x-api-key"]
        ((_, port),) = here.services.listener.addresses
        client = await Client.connected(port, "one", "pump-1", key)
        stays = await Client.connected(port, "two", "pump-2", other)
        gone = await here.http.delete(f"/sensors/pump-1?data={data}", headers=ADMIN)
        assert gone.status_code == 204
        assert await client.packet() == b""
        await stays.quiet()
        again = await Client.open(port)
        again.send(connect("one", "pump-1", key))
        refused = await again.packet()
        assert (refused[0], refused[2] != 0) == (0x20, True)
        for each in (stays, again):
            await each.close()


async def published_once(here, name):
    """Return when the sensor's newest configuration has been published."""
    async with asyncio.timeout(60):
        while True:
            page = await here.http.get(f"/sensors/{name}/configurations", headers=ADMIN)
            if page.json()[-1]["publication_timestamp"] is not None:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "topics", [["configurations/+"], ["configurations/pump-1", "configurations/pump-2"]]
)
async def test_a_deleted_sensors_configuration_is_given_to_nobody(site, topics):
    async with site(mqtt_listen="127.0.0.1:0") as here:
        for name in ("pump-1", "pump-2"):
            await here.device(name)
            await here.http.patch(f"/sensors/{name}", json={"configuration": {}}, headers=ADMIN)
            # What is pushed to a subscriber is not given to it again as retained.
            await published_once(here, name)
        ((_, port),) = here.services.listener.addresses

        async def first_given():
            client = await Client.connected(port, "admin", "admin", ADMIN["x-api-key"])
            client.send(subscriptions(*((topic, 0) for topic in topics)))
            # What is published meanwhile comes as it happens, without the flag.
            while (packet := await client.packet())[0] == 0x90 or not published(packet).retain:
                pass
            await client.close()
            return published(packet).topic

        assert await first_given() == "configurations/pump-1"
        await here.http.delete("/sensors/pump-1", headers=ADMIN)
        assert await first_given() == "configurations/pump-2"


async def test_devices_read_their_own_record_only(here):
    key = await here.device("pump-1")
    await here.device("pump-2")
    del here.http.headers["x-api-key"]
    assert (await here.http.get("/sensors/pump-1", headers=key)).status_code == 200
    foreign = await here.http.get("/sensors/pump-2", headers=key)
    unknown = await here.http.get("/sensors/nobody", headers=key)
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    for method, path in [
        ("GET", "/sensors"),
        ("POST", "/sensors"),
        ("PATCH", "/sensors/pump-1"),
        ("DELETE", "/sensors/pump-1"),
    ]:
        body = INVENTORY if method in ("POST", "PATCH") else None
        assert (await here.http.request(method, path, json=body, headers=key)).status_code == 403


async def test_packing_is_refused_for_a_sensor_or_a_network(here):
    sensor = await made(here, packing=False)
    path = f"/sensors/{sensor['id']}"
    assert (sensor["packing"], (await here.http.get(path)).json()["packing"]) == (False, False)
    assert (await here.http.patch(path, json={"packing": True})).json()["packing"] is True
    assert (await here.http.patch(path, json={"packing": None})).status_code == 422
    (entry, *_) = (await here.http.get("/audit", params={"resource": sensor["id"]})).json()
    assert entry["changes"] == {"packing": {"old": False, "new": True}}
    network = f"/networks/{sensor['network_identifier']}"
    changed = (await here.http.put(network, json={"packing": False})).json()
    assert (changed["packing"], changed["shared_keys"]) == (False, True)
    (entry, *_) = (
        await here.http.get("/audit", params={"resource": sensor["network_identifier"]})
    ).json()
    assert entry["changes"] == {"packing": {"old": True, "new": False}}


async def test_tags_labels_and_a_place_are_shown_changed_and_entered(here):
    """In every representation, in what is known of the sensor for rules, and in the audit log."""
    said = {
        "tags": ["roof", "dry", "roof"],
        "attributes": {"t": {"unit": "°C"}, "a.b": {"display_name": "B"}, "none": {}},
        "latitude": -46.5,
        "longitude": 7,
        "place": "Bern",
    }
    shown = {
        **said,
        "tags": ["dry", "roof"],
        "attributes": {
            "t": {"unit": "°C", "display_name": None},
            "a.b": {"unit": None, "display_name": "B"},
        },
    }
    sensor = await made(here, **said)
    known = await here.services.registry.find(sensor["id"])
    path = f"/sensors/{sensor['id']}"
    latest = (await here.http.get(f"{path}/latest")).json()
    assert (known.tags, latest["labels"]) == ({"dry", "roof"}, shown["attributes"])
    (listed,) = (await here.http.get("/sensors")).json()
    for record in (sensor, listed, (await here.http.get(path)).json()):
        assert {name: record[name] for name in shown} == shown
    # What is not said stays.
    changed = (await here.http.patch(path, json={"tags": ["wet"], "place": None})).json()
    assert {name: changed[name] for name in shown} == {**shown, "tags": ["wet"], "place": None}
    assert known.tags == {"wet"}
    (entry, *_) = (await here.http.get("/audit", params={"resource": sensor["id"]})).json()
    assert entry["changes"] == {
        "tags": {"old": ["dry", "roof"], "new": ["wet"]},
        "place": {"old": "Bern", "new": None},
    }
    gone = {"tags": [], "attributes": None, "latitude": None, "longitude": None}
    cleared = (await here.http.put(path, json=gone)).json()
    assert {name: cleared[name] for name in gone} == {**gone, "attributes": {}}
    latest = (await here.http.get(f"{path}/latest")).json()
    assert (known.tags, latest["labels"]) == (set(), {})
