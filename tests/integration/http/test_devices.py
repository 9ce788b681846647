import uuid

import pytest

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
REPRESENTATION = {
    "sensor_identifier",
    "id",
    "revision",
    "sensor_name",
    "name",
    "network_identifier",
    "serial_number",
    "manufacturer",
    "model",
    "modality",
    "node_id",
    "device_id",
    "configuration_state",
    "is_active",
    "has_key",
    "created_at",
    "last_seen_at",
    "last_measurement_at",
    "connected",
    "connected_changed_at",
    "late",
    "expected_interval",
    "tags",
    "attributes",
    "latitude",
    "longitude",
    "place",
    "packing",
}
# What is answered of a single one.
FULL = REPRESENTATION | {"text_attributes"}


async def test_a_device_is_registered_with_a_key_that_is_shown_once(site):
    async with site() as here:
        body = {"device_id": "pump-1", "name": "Pump", "manufacturer": "Acme"}
        created = await here.http.post("/devices", json=body, headers=ADMIN)
        assert created.status_code == 201
        device = created.json()
        assert len(device.pop("api_key")) >= 32
        assert set(device) == FULL
        assert device["id"] == device["sensor_identifier"] == str(uuid.UUID(device["id"]))
        assert (device["name"], device["manufacturer"], device["is_active"]) == (
            "Pump",
            "Acme",
            True,
        )
        for identifier in ("pump-1", device["id"], device["id"].upper()):
            read = await here.http.get(f"/devices/{identifier}", headers=ADMIN)
            assert read.json() == device


async def test_bad_registrations_are_validation_errors(site):
    async with site() as here:
        for body in [
            {},
            {"device_id": ""},
            {"device_id": "a b"},
            {"device_id": "x" * 65},
            {"device_id": "é"},
            {"device_id": "pump\n"},
            {"device_id": str(uuid.uuid4())},
            {"device_id": None},
            {"device_id": 7},
            {"device_id": "a", "name": "\0"},
            {"device_id": "a", "name": "x" * 256},
            {"device_id": "a", "name": 1},
            [],
            "a",
        ]:
            response = await here.http.post("/devices", json=body, headers=ADMIN)
            assert response.status_code == 422, body
            assert response.json()["code"] == "VALIDATION_FAILED", body
            assert all(set(p) == {"loc", "type", "msg"} for p in response.json()["detail"]), body
            listed = await here.http.get("/devices", headers=ADMIN)
            assert listed.json() == [], body


async def test_what_is_taken_is_a_conflict(site):
    async with site() as here:
        await here.device("pump-1", serial_number="1", sensor_name="a")
        for body, status, code in [
            ({"device_id": "pump-1"}, 409, "DEVICE_ALREADY_REGISTERED"),
            (
                {"device_id": "pump-2", "serial_number": "1"},
                400,
                "SERIAL_NUMBER_ALREADY_REGISTERED",
            ),
            ({"device_id": "pump-2", "sensor_name": "a"}, 409, "SENSOR_NAME_ALREADY_REGISTERED"),
        ]:
            response = await here.http.post("/devices", json=body, headers=ADMIN)
            assert (response.status_code, response.json()["code"]) == (status, code)
        await here.device("pump-2")
        response = await here.http.patch(
            "/devices/pump-2", json={"device_id": "pump-1"}, headers=ADMIN
        )
        assert response.status_code == 409


async def test_an_unknown_network_is_not_found(site):
    async with site() as here:
        for network in (str(uuid.uuid4()), "x", "\u00e9"):
            response = await here.http.post(
                "/devices", json={"device_id": "a", "network_identifier": network}, headers=ADMIN
            )
            assert (response.status_code, response.json()["code"]) == (404, "NETWORK_NOT_FOUND")
        default = here.services.registry.default_network
        await here.device("a", network_identifier=default.upper())


async def test_the_list_is_in_order_of_creation_and_in_pieces(site):
    async with site() as here:
        names = [f"pump-{number}" for number in (3, 1, 2)]
        for name in names:
            await here.device(name)
        whole = await here.http.get("/devices", headers=ADMIN)
        assert [device["device_id"] for device in whole.json()] == names
        assert set(whole.json()[0]) == REPRESENTATION
        piece = await here.http.get("/devices?offset=1&limit=1", headers=ADMIN)
        assert [device["device_id"] for device in piece.json()] == names[1:2]
        assert whole.headers["x-total-count"] == piece.headers["x-total-count"] == "3"
        other = await here.http.get(f"/devices?network_identifier={uuid.uuid4()}", headers=ADMIN)
        assert other.status_code == 404
        nul = await here.http.get("/devices?network_identifier=%00", headers=ADMIN)
        assert nul.status_code == 422
        for query in ("limit=0", "limit=10001", "offset=-1", "limit=x", f"offset={2**70}"):
            assert (await here.http.get(f"/devices?{query}", headers=ADMIN)).status_code == 422


@pytest.mark.parametrize("wrap", [list, lambda devices: {"devices": devices}])
async def test_a_batch_is_registered_whole_each_with_its_key(site, wrap):
    async with site() as here:
        roof = await here.network("roof")
        devices = [
            {"device_id": "pump-1", "name": "Pump", "expected_interval": 60},
            {"device_id": "pump-2", "network_identifier": roof, "serial_number": "1"},
            {"device_id": "pump-3", "serial_number": "1"},
        ]
        response = await here.http.post("/devices/batch", json=wrap(devices), headers=ADMIN)
        assert response.status_code == 201, response.text
        created = response.json()
        assert [device["device_id"] for device in created] == ["pump-1", "pump-2", "pump-3"]
        assert all(set(device) == FULL | {"api_key"} for device in created)
        assert len({device["api_key"] for device in created}) == 3
        assert (created[0]["expected_interval"], created[1]["network_identifier"]) == (60, roof)
        for device in created:
            key = {"x-api-key": device.pop("api_key")}
            own = await here.http.get(f"/devices/{device['device_id']}", headers=key)
            assert own.json() == device


async def test_a_batch_that_is_taken_in_places_names_them_and_registers_nothing(site):
    async with site() as here:
        await here.device("pump-1", serial_number="1", sensor_name="a")

        async def refused(*devices):
            response = await here.http.post("/devices/batch", json=devices, headers=ADMIN)
            answer = response.json()
            return response.status_code, answer["code"], [p["loc"] for p in answer["detail"]]

        new = [{"device_id": f"new-{at}"} for at in range(3)]
        assert await refused(
            new[0], {"device_id": "pump-1"}, new[1], new[0], {**new[2], "serial_number": "1"}
        ) == (
            409,
            "DEVICE_ALREADY_REGISTERED",
            [["body", 1, "device_id"], ["body", 3, "device_id"], ["body", 4, "serial_number"]],
        )
        assert await refused(new[0], {**new[1], "serial_number": "1"}) == (
            400,
            "SERIAL_NUMBER_ALREADY_REGISTERED",
            [["body", 1, "serial_number"]],
        )
        assert await refused({**new[0], "sensor_name": "a"}) == (
            409,
            "SENSOR_NAME_ALREADY_REGISTERED",
            [["body", 0, "sensor_name"]],
        )
        listed = await here.http.get("/devices", headers=ADMIN)
        assert [device["device_id"] for device in listed.json()] == ["pump-1"]


@pytest.mark.parametrize(
    ("body", "locations"),
    [
        ([{"device_id": "a"}, {}, {"device_id": "a b"}], [[1, "device_id"], [2, "device_id"]]),
        ({"devices": [{"device_id": "a"}, {"device_id": 7}]}, [[1, "device_id"]]),
        ([{"device_id": "a"}, 7], [[1]]),
        ({"devices": {"device_id": "a"}}, [[]]),
        ({"device_id": "a"}, [["device_id"]]),
        ("a", [[]]),
        ([{"device_id": f"a{at}"} for at in range(1_001)], [[]]),
    ],
)
async def test_a_bad_batch_names_its_members(site, body, locations):
    async with site() as here:
        response = await here.http.post("/devices/batch", json=body, headers=ADMIN)
        assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED")
        named = [problem["loc"] for problem in response.json()["detail"]]
        assert named == [["body", *location] for location in locations]
        assert (await here.http.get("/devices", headers=ADMIN)).json() == []


async def test_a_batch_goes_only_into_networks_that_are_open_to_the_caller(site):
    async with site() as here:
        ann = await here.user("ann")
        own = await here.network("own", ann="editor")
        seen = await here.network("seen", ann="viewer")
        foreign = await here.network("foreign")
        for network, status in [(own, 201), (seen, 403), (foreign, 404), ("x", 404), (None, 403)]:
            body = [
                {"device_id": f"a-{status}", "network_identifier": own},
                {"device_id": f"b-{status}", "network_identifier": network},
            ]
            response = await here.http.post("/devices/batch", json=body, headers=ann)
            assert response.status_code == status, response.text
        listed = await here.http.get("/devices", headers=ADMIN)
        assert [each["device_id"] for each in listed.json()] == ["a-201", "b-201"]


async def test_both_forms_of_a_batch_are_documented(site):
    async with site() as here:
        document = (await here.http.get("/openapi.json")).json()
        array, wrapped = document["components"]["schemas"]["NewDevices"]["anyOf"]
        assert (array["type"], array["maxItems"]) == ("array", 1_000)
        assert array.items() <= wrapped["properties"]["devices"].items()


async def test_a_thousand_devices_are_registered_at_once(site):
    async with site() as here:
        body = [{"device_id": f"pump-{at}"} for at in range(1_000)]
        response = await here.http.post("/devices/batch", json=body, headers=ADMIN)
        assert response.status_code == 201
        again = await here.http.post("/devices/batch", json=body, headers=ADMIN)
        assert again.status_code == 409
        assert len(again.json()["detail"]) == 1_000
        listed = await here.http.get("/devices?limit=1", headers=ADMIN)
        assert listed.headers["x-total-count"] == "1000"


async def test_patch_changes_only_what_is_present(site):
    async with site() as here:
        key = await here.device("pump-1", name="Pump", model="M")
        changed = await here.http.patch("/devices/pump-1", json={"name": None}, headers=ADMIN)
        assert changed.status_code == 200
        assert (changed.json()["name"], changed.json()["model"]) == (None, "M")
        renamed = await here.http.patch(
            "/devices/pump-1", json={"device_id": "pump-9"}, headers=ADMIN
        )
        assert renamed.json()["device_id"] == "pump-9"
        assert (await here.http.get("/devices/pump-1", headers=ADMIN)).status_code == 404
        sent = await here.http.post("/ingest", json={"t": 1}, headers=key)
        assert sent.json()["device_id"] == "pump-9"
        for body in ({"device_id": None}, {"is_active": None}, {"network_identifier": None}):
            response = await here.http.patch("/devices/pump-9", json=body, headers=ADMIN)
            assert response.status_code == 422
        unchanged = await here.http.patch("/devices/pump-9", json={}, headers=ADMIN)
        assert unchanged.json()["name"] is None


async def keys(here):
    """Return each device's name, whether it may send, and whether it has a key: in lists, too."""

    def told(device):
        return device["device_id"], device["is_active"], device["has_key"]

    listed = [told(each) for each in (await here.http.get("/devices", headers=ADMIN)).json()]
    for device_id, *_ in listed:
        one = (await here.http.get(f"/devices/{device_id}", headers=ADMIN)).json()
        assert told(one) in listed
    return listed


async def test_a_new_key_ends_the_old_one(site):
    async with site() as here:
        old = await here.device("pump-1")
        assert (await here.http.get("/devices/pump-1", headers=old)).status_code == 200
        rotated = await here.http.post("/devices/pump-1/key", headers=ADMIN)
        assert set(rotated.json()) == {"api_key"}
        new = {"x-api-key": rotated.json()["api_key"]}
        assert (await here.http.get("/devices/pump-1", headers=old)).status_code == 401
        assert (await here.http.get("/devices/pump-1", headers=new)).status_code == 200
        for _ in range(2):
            ended = await here.http.delete("/devices/pump-1/key", headers=ADMIN)
            assert (ended.status_code, ended.content) == (204, b"")
            sent = await here.http.post("/ingest", json={"t": 1}, headers=new)
            assert sent.status_code == 401
        assert await keys(here) == [("pump-1", True, False)]
        again = (await here.http.post("/devices/pump-1/key", headers=ADMIN)).json()["api_key"]
        assert await keys(here) == [("pump-1", True, True)]
        sent = await here.http.post("/ingest", json={"t": 1}, headers={"x-api-key": again})
        assert sent.status_code == 201


async def test_a_deactivated_device_stays_readable_for_the_admin(site):
    async with site() as here:
        key = await here.device("pump-1")
        await here.http.post("/ingest", json={"t": 1}, headers=key)
        for _ in range(2):
            gone = await here.http.delete("/devices/pump-1", headers=ADMIN)
            assert (gone.status_code, gone.content) == (204, b"")
        device = (await here.http.get("/devices/pump-1", headers=ADMIN)).json()
        assert device["is_active"] is False
        assert len((await here.http.get("/devices/pump-1/history", headers=ADMIN)).json()) == 1


async def test_when_a_device_was_seen_is_shown_at_once(site):
    async with site() as here:
        key = await here.device("pump-1")
        await here.http.post("/ingest", json={"t": 1}, headers=key)
        device = (await here.http.get("/devices/pump-1", headers=key)).json()
        assert device["last_seen_at"] is not None
        assert device["last_measurement_at"] is not None
        assert (device["connected"], device["late"]) == (None, None)


async def test_the_newest_revision_is_shown(site):
    async with site() as here:
        await here.device("pump-1")
        await here.device("pump-2")
        number = (await here.services.registry.find("pump-2")).number
        for _ in range(2):
            await here.services.store.configurations.add(number, "{}")
        devices = (await here.http.get("/devices", headers=ADMIN)).json()
        assert [device["revision"] for device in devices] == [None, 1]
        assert (await here.http.get("/devices/pump-2", headers=ADMIN)).json()["revision"] == 1
