"""Nodes over HTTP: what they carry, and who may see and change them."""

import uuid

import pytest

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
REPRESENTATION = {
    "node_identifier",
    "id",
    "network_identifier",
    "serial_number",
    "firmware_version",
    "name",
    "created_at",
}


@pytest.fixture
async def here(site):
    """The running server; every call is the admin's unless it says whose it is."""
    async with site() as running:
        running.http.headers.update(ADMIN)
        yield running


async def made(here, serial_number="N1", **members):
    response = await here.http.post(
        "/nodes",
        json={"serial_number": serial_number, "firmware_version": "0", **members},
    )
    assert response.status_code == 201, response.text
    return response.json()


async def sensor_of(here, device_id="pump-1", **members):
    await here.device(device_id, **members)
    return (await here.http.get(f"/sensors/{device_id}")).json()


async def test_a_node_is_registered_and_read(here):
    identifier = str(uuid.uuid4())
    node = await made(here, firmware_version="1.2", name="Mast", id=identifier.upper())
    assert set(node) == REPRESENTATION
    assert node["id"] == node["node_identifier"] == identifier
    assert node["network_identifier"] == here.services.registry.default_network
    assert (node["serial_number"], node["firmware_version"], node["name"]) == ("N1", "1.2", "Mast")
    for form in (identifier, identifier.upper()):
        assert (await here.http.get(f"/nodes/{form}")).json() == node
    again = await here.http.post(
        "/nodes", json={"serial_number": "N2", "firmware_version": "1", "id": identifier}
    )
    assert (again.status_code, again.json()["code"]) == (409, "NODE_ALREADY_REGISTERED")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"serial_number": "N1"},
        {"serial_number": "N1", "firmware_version": None},
        {"serial_number": "N1", "firmware_version": "x" * 256},
        {"firmware_version": "1"},
        {"serial_number": None, "firmware_version": "1"},
        {"serial_number": 7, "firmware_version": "1"},
        {"serial_number": "\0", "firmware_version": "1"},
        {"serial_number": "N1", "firmware_version": "1", "id": "x"},
        [],
    ],
)
async def test_bad_nodes_are_validation_errors(here, body):
    response = await here.http.post("/nodes", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
    assert (await here.http.get("/nodes")).json() == []


async def test_a_serial_number_is_taken_once_in_a_network(here):
    node = await made(here)
    other = await made(here, "N2")
    for method, path in [("POST", "/nodes"), ("PATCH", f"/nodes/{other['id']}")]:
        response = await here.http.request(
            method, path, json={"serial_number": "N1", "firmware_version": "1"}
        )
        assert (response.status_code, response.json()["code"]) == (
            400,
            "SERIAL_NUMBER_ALREADY_REGISTERED",
        )
    roof = await here.network("roof")
    elsewhere = await made(here, "N1", network_identifier=roof)
    assert elsewhere["network_identifier"] == roof
    sensor = await sensor_of(here, serial_number="N1")
    assert sensor["serial_number"] == node["serial_number"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_changes_what_is_present_and_nothing_else(here, method):
    node = await made(here, firmware_version="1", name="Mast")
    path = f"/nodes/{node['id']}"
    assert (await here.http.request(method, path, json={})).json() == node
    changed = await here.http.request(method, path, json={"firmware_version": "2", "name": None})
    assert changed.status_code == 200
    assert changed.json() == {**node, "firmware_version": "2", "name": None}
    assert (await here.http.get(path)).json() == changed.json()
    for body in ({"serial_number": None}, {"network_identifier": None}, {"name": "\0"}):
        assert (await here.http.request(method, path, json=body)).status_code == 422


async def test_the_list_is_in_order_filtered_and_in_pieces(here):
    roof = await here.network("roof")
    nodes = [
        await made(here, "N2", firmware_version="1"),
        await made(here, "N1", firmware_version="1"),
        await made(here, "N1", network_identifier=roof),
    ]

    async def listed(**which):
        response = await here.http.get("/nodes", params=which)
        assert response.status_code == 200, response.text
        found = [nodes.index(node) for node in response.json()]
        return found, int(response.headers["x-total-count"])

    assert await listed() == ([0, 1, 2], 3)
    assert await listed(offset=1, limit=1) == ([1], 3)
    assert await listed(serial_number="N1") == ([1, 2], 2)
    assert await listed(serial_number="N1", firmware_version="1") == ([1], 1)
    assert await listed(network_identifier=roof) == ([2], 1)
    for query in ("serial_number=%00", "limit=0", "offset=-1"):
        assert (await here.http.get(f"/nodes?{query}")).status_code == 422


async def test_attaching_moves_a_sensor_to_the_node(here):
    first, second = await made(here, "N1"), await made(here, "N2")
    sensor = await sensor_of(here)
    for node, name in [(first, "pump-1"), (second, sensor["id"]), (second, sensor["id"].upper())]:
        answer = await here.http.post(f"/nodes/{node['id']}/sensors", json={"sensor_id": name})
        assert answer.status_code == 200
        assert answer.json() == {**sensor, "node_id": node["id"]}
    full = [(await here.http.get(f"/nodes/{node['id']}/full")).json() for node in (first, second)]
    assert full[0] == {**first, "sensors": []}
    assert sensor.pop("text_attributes") == []
    assert full[1] == {**second, "sensors": [{**sensor, "node_id": second["id"]}]}


async def test_detaching_leaves_the_sensor(here):
    first, second = await made(here, "N1"), await made(here, "N2")
    sensor = await sensor_of(here, node_id=first["id"])
    wrong = await here.http.delete(f"/nodes/{second['id']}/sensors/pump-1")
    assert (wrong.status_code, wrong.json()["code"]) == (404, "SENSOR_NOT_FOUND")
    off = await here.http.delete(f"/nodes/{first['id']}/sensors/pump-1")
    assert (off.status_code, off.content) == (204, b"")
    assert (await here.http.delete(f"/nodes/{first['id']}/sensors/pump-1")).status_code == 404
    assert (await here.http.get("/sensors/pump-1")).json() == {**sensor, "node_id": None}


async def test_deleting_a_node_leaves_its_sensors(here):
    node = await made(here)
    await sensor_of(here, node_id=node["id"])
    path = f"/nodes/{node['id']}"
    gone = await here.http.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    for method, where in [("GET", path), ("GET", f"{path}/full"), ("DELETE", path)]:
        response = await here.http.request(method, where)
        assert (response.status_code, response.json()) == (
            404,
            {"detail": "Node not found", "code": "NODE_NOT_FOUND"},
        )
    assert (await here.http.get("/sensors/pump-1")).json()["node_id"] is None
    await made(here)


async def test_a_deleted_sensor_is_on_no_node(here):
    node = await made(here)
    await sensor_of(here, node_id=node["id"])
    await here.http.delete("/sensors/pump-1")
    assert (await here.http.get(f"/nodes/{node['id']}/full")).json()["sensors"] == []
    answer = await here.http.post(f"/nodes/{node['id']}/sensors", json={"sensor_id": "pump-1"})
    assert (answer.status_code, answer.json()["code"]) == (404, "SENSOR_NOT_FOUND")


async def test_a_node_and_its_sensors_are_of_one_network(here):
    roof = await here.network("roof")
    node, away = await made(here), await made(here, network_identifier=roof)
    await sensor_of(here, node_id=node["id"])
    wrong = await here.http.post(f"/nodes/{away['id']}/sensors", json={"sensor_id": "pump-1"})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "NODE_IN_ANOTHER_NETWORK")
    stays = await here.http.patch(f"/nodes/{node['id']}", json={"network_identifier": roof})
    assert (stays.status_code, stays.json()["code"]) == (409, "NODE_NOT_EMPTY")
    await here.http.patch("/sensors/pump-1", json={"network_identifier": roof})
    assert (await here.http.get("/sensors/pump-1")).json()["node_id"] is None
    await here.http.delete(f"/nodes/{away['id']}")
    moved = await here.http.patch(f"/nodes/{node['id']}", json={"network_identifier": roof})
    assert moved.json()["network_identifier"] == roof
    kept = await here.http.delete(f"/networks/{roof}")
    assert (kept.status_code, kept.json()["code"]) == (409, "NETWORK_NOT_EMPTY")


async def test_a_foreign_node_answers_exactly_as_none(here):
    ann = await here.user("ann")
    own = await here.network("own", ann="owner")
    roof = await here.network("roof")
    node = await made(here, network_identifier=roof)
    mine = await made(here, network_identifier=own)
    foreign = await sensor_of(here, network_identifier=roof)
    sensor = await sensor_of(here, "pump-2", network_identifier=own)
    del here.http.headers["x-api-key"]
    for method, path, body in [
        ("GET", "/nodes/{}", None),
        ("GET", "/nodes/{}/full", None),
        ("PUT", "/nodes/{}", {}),
        ("PATCH", "/nodes/{}", {}),
        ("DELETE", "/nodes/{}", None),
        ("POST", "/nodes/{}/sensors", {"sensor_id": sensor["id"]}),
        ("DELETE", f"/nodes/{{}}/sensors/{sensor['id']}", None),
    ]:
        answers = set()
        for name in (node["id"], str(uuid.uuid4()), "x", "%00"):
            response = await here.http.request(method, path.format(name), json=body, headers=ann)
            answers.add((response.status_code, response.content))
        assert answers == {(404, b'{"detail":"Node not found","code":"NODE_NOT_FOUND"}')}, path
    for name in (foreign["id"], "pump-1", str(uuid.uuid4()), "\ud7ff"):
        response = await here.http.post(
            f"/nodes/{mine['id']}/sensors", json={"sensor_id": name}, headers=ann
        )
        assert (response.status_code, response.json()["code"]) == (404, "SENSOR_NOT_FOUND")
    listed = await here.http.get("/nodes", headers=ann)
    assert [each["id"] for each in listed.json()] == [mine["id"]]


async def test_a_viewer_reads_an_editor_changes_an_owner_deletes(here):
    users = {name: await here.user(name) for name in ("viewer", "editor", "owner")}
    roof = await here.network("roof", **{name: name for name in users})
    node = await made(here, network_identifier=roof)
    await sensor_of(here, network_identifier=roof)
    del here.http.headers["x-api-key"]
    path = f"/nodes/{node['id']}"
    for method, where, body, statuses in [
        ("GET", path, None, (200, 200, 200)),
        ("GET", f"{path}/full", None, (200, 200, 200)),
        (
            "POST",
            "/nodes",
            {"serial_number": "N2", "firmware_version": "1", "network_identifier": roof},
            (403, 201, 400),
        ),
        ("PATCH", path, {"name": "x"}, (403, 200, 200)),
        ("POST", f"{path}/sensors", {"sensor_id": "pump-1"}, (403, 200, 200)),
        ("DELETE", f"{path}/sensors/pump-1", None, (403, 204, 404)),
        ("DELETE", path, None, (403, 403, 204)),
    ]:
        answers = [
            (await here.http.request(method, where, json=body, headers=headers)).status_code
            for headers in users.values()
        ]
        assert tuple(answers) == statuses, (method, where)


async def test_nodes_are_nothing_for_devices(here):
    key = await here.device("pump-1")
    node = await made(here)
    del here.http.headers["x-api-key"]
    for method, path, body in [
        ("GET", "/nodes", None),
        ("POST", "/nodes", {"serial_number": "N2", "firmware_version": "1"}),
        ("GET", f"/nodes/{node['id']}", None),
        ("POST", f"/nodes/{node['id']}/sensors", {"sensor_id": "pump-1"}),
    ]:
        response = await here.http.request(method, path, json=body, headers=key)
        assert response.status_code == 403, path
