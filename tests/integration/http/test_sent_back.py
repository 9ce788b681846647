"""What GET gave can be sent back; what only the server sets is refused where it is another."""

import pytest

from heliograph.model.time import DAY, now, to_rfc3339
from integration.http.conftest import ADMIN

MOVING = (
    "last_seen_at",
    "last_measurement_at",
    "connected",
    "connected_changed_at",
    "late",
    "has_key",
    "revision",
    "configuration_state",
    "text_attributes",
)
MOVING_RETENTION = ("cutoffs", "removes", "not_rolled_up", "next_run_at")
MOVING_RULE = ("changed_at", "unknown_sensors", "unknown_channels")


@pytest.fixture
async def here(site):
    """The running server with a device on a node, and a network with a member."""
    async with site() as running:
        running.http.headers.update(ADMIN)
        await running.account("ash")
        await running.device(
            "pump-1",
            expected_interval=60,
            tags=["roof", "a"],
            attributes={"t": {"unit": "°C", "display_name": "Air"}, "rh": {"unit": "%"}},
            latitude=-46.5,
            longitude=7,
            place="Bern",
        )
        body = {"serial_number": "N-1", "firmware_version": "1"}
        node = (await running.http.post("/nodes", json=body)).json()["id"]
        await running.http.post(f"/nodes/{node}/sensors", json={"sensor_id": "pump-1"})
        await running.http.post("/sensors/pump-1/measurements", json={"t": 1})
        network = await running.network("kanto", ash="viewer")
        body = {"name": "x", "condition": {"attribute": "t", "above": 1}}
        rule = (await running.http.post("/rules", json=body)).json()
        body = {"sensor": "pump-1", "ends_at": to_rfc3339(now() + DAY)}
        silence = (await running.http.post("/silences", json=body)).json()["id"]
        body = {"text": "x", "start": 1_780_000_000}
        made = await running.http.post("/sensors/pump-1/annotations", json=body)
        board = (await running.http.post(f"/networks/{network}/boards", json={"name": "x"})).json()
        running.paths = {
            "sensor": "/sensors/pump-1",
            "device": "/devices/pump-1",
            "node": f"/nodes/{node}",
            "rule": f"/rules/{rule['id']}",
            "network": f"/networks/{network}",
            "member": f"/networks/{network}/members/ash",
            "network's retention": f"/networks/{network}/retention",
            "silence": f"/silences/{silence}",
            "board": f"/networks/{network}/boards/{board['id']}",
            "annotation": f"/sensors/pump-1/annotations/{made.json()['id']}",
            "sensor's retention": "/sensors/pump-1/retention",
        }
        yield running


def problems(response):
    assert response.status_code == 422, response.text
    return [(*each["loc"], each["type"]) for each in response.json()["detail"]]


async def send(here, path, body):
    method = "PATCH" if path.startswith("/devices") else "PUT"
    return await here.http.request(method, path, json=body)


async def test_what_get_gave_is_taken_and_changes_nothing(here):
    for what, path in here.paths.items():
        given = (await here.http.get(path)).json()
        assert len(given) >= 3
        answer = await send(here, path, given)
        assert (what, answer.status_code) == (what, 200), answer.text
        assert (await here.http.get(path)).json() == given
        if path.startswith(("/sensors/pump-1", "/nodes")) and "retention" not in path:
            assert (await here.http.patch(path, json=given)).status_code == 200


async def test_what_never_changes_is_refused_by_name_where_it_is_another(here):
    for path in here.paths.values():
        given = (await here.http.get(path)).json()
        fixed = await read_only(here, path) - {*MOVING, *MOVING_RETENTION, *MOVING_RULE}
        assert fixed, path
        for name in fixed:
            answer = await send(here, path, {**given, name: "another"})
            assert problems(answer) == [("body", name, "read_only")], path


async def read_only(here, path):
    """Return what the document calls read-only in the body of a change."""
    document = (await here.http.get("/openapi.json")).json()
    parts = ["", "api", "v1", *path.split("/")[1:]]
    for template, operations in document["paths"].items():
        ours = template.split("/")
        operation = operations.get("patch" if "devices" in path else "put", {})
        is_it = len(ours) == len(parts) and all(
            name == part or name.startswith("{") for name, part in zip(ours, parts, strict=True)
        )
        if is_it and operation.get("requestBody"):
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = document["components"]["schemas"][reference.split("/")[-1]]
            found = {name for name, each in schema["properties"].items() if each.get("readOnly")}
            assert found, path
            return found
    raise AssertionError(path)


async def test_what_moves_by_itself_may_have_moved_since_it_was_read(here):
    """A sensor that sends all the time could not be changed otherwise."""
    given = (await here.http.get("/sensors/pump-1")).json()
    await here.http.post("/sensors/pump-1/measurements", json={"t": 2})
    await here.http.post("/sensors/pump-1/configurations", json={"configuration": 1})
    answer = await here.http.put("/sensors/pump-1", json={**given, "name": "Pump"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Pump")
    assert answer.json()["last_seen_at"] > given["last_seen_at"]
    assert answer.json()["revision"] == 0


@pytest.mark.parametrize("name", MOVING)
async def test_what_moves_by_itself_is_not_set(here, name):
    for path in ("/sensors/pump-1", "/devices/pump-1"):
        answer = await send(here, path, {name: "another", "name": "Pump"})
        assert problems(answer) == [("body", name, "read_only")]
        given = (await here.http.get(path)).json()
        assert given["name"] is None
        assert (await send(here, path, {name: given[name]})).status_code == 200


async def test_an_editor_may_send_back_a_device_out_of_service(here):
    """Only an owner takes one out of service; this one is."""
    network = here.paths["network"].split("/")[-1]
    await here.http.put(here.paths["member"], json={"role": "editor"})
    for name in ("fan", "valve"):
        await here.device(name, network_identifier=network)
    assert (await here.http.delete("/devices/fan")).status_code == 204
    del here.http.headers["x-api-key"]
    ash = await here.session(await here.services.store.accounts.find_username("ash"))
    given = (await here.http.get("/devices/fan", headers=ash)).json()
    assert given["is_active"] is False
    answer = await here.http.patch("/devices/fan", json={**given, "name": "Fan"}, headers=ash)
    assert (answer.status_code, answer.json()["name"]) == (200, "Fan")
    answer = await here.http.patch("/devices/valve", json={"is_active": False}, headers=ash)
    assert answer.status_code == 403


async def test_a_sensor_without_a_device_id_may_be_sent_back_as_a_device(here):
    made = (await here.http.post("/sensors", json={"sensor_name": "bulbasaur"})).json()
    path = f"/devices/{made['id']}"
    given = (await here.http.get(path)).json()
    assert given["device_id"] is None
    assert (await here.http.patch(path, json=given)).status_code == 200
    answer = await here.http.patch("/devices/pump-1", json={"device_id": None})
    assert problems(answer) == [("body", "device_id", "string_type")]
