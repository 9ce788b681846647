"""Lists of sensors over HTTP: filters and orders that go by what is shown of each."""

import pytest

from integration.http.conftest import ADMIN
from mqtt_client import Client
from server import eventually

LISTS = ["/sensors", "/devices", "/networks/{network}/sensors"]


@pytest.fixture
async def here(site):
    async with site(mqtt_listen="127.0.0.1:0") as running:
        running.http.headers.update(ADMIN)
        yield running


async def listed(here, path="/sensors", **parameters):
    path = path.format(network=here.services.registry.default_network)
    answer = await here.http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert answer.headers["x-total-count"] == str(len(found))
    return [sensor["device_id"] for sensor in found], found


@pytest.mark.parametrize("path", LISTS)
async def test_who_is_connected_at_the_moment_is_listed(here, path):
    """Before it is stored, too: within a tenth of a second."""
    keys = {name: (await here.device(name))["x-api-key"] for name in ("pump", "fan", "valve")}
    assert await listed(here, path, connected="true") == ([], [])
    ((_, port),) = here.services.listener.addresses
    client = await Client.connected(port, "one", "pump", keys["pump"])
    other = await Client.connected(port, "two", "fan", keys["fan"])
    names, shown = await listed(here, path, connected="true")
    assert names == ["pump", "fan"]
    assert {sensor["connected"] for sensor in shown} == {True}
    assert (await listed(here, path, connected="false"))[0] == ["valve"]
    await other.close()
    await eventually(lambda: here.services.listener.connections == 1)
    assert (await listed(here, path, connected="true"))[0] == ["pump"]

    async def is_told():
        names, shown = await listed(here, path, connected="false")
        assert names == ["fan", "valve"]
        return [sensor["connected"] for sensor in shown] == [False, None]

    # What ended before it was stored at all is told once that is.
    await eventually(is_told)
    await client.close()


@pytest.mark.parametrize("path", LISTS)
async def test_who_is_silent_for_longer_than_expected_is_listed(here, path):
    await here.device("quiet", expected_interval=0.001)
    await here.device("patient", expected_interval=3_600)
    await here.device("free")
    for name in ("quiet", "patient", "free"):
        await here.http.post(f"/sensors/{name}/heartbeats", json={})
    names, shown = await listed(here, path, late="true")
    assert (names, shown[0]["late"]) == (["quiet"], True)
    names, shown = await listed(here, path, late="false")
    assert (names, [sensor["late"] for sensor in shown]) == (["patient", "free"], [False, None])
    assert (await listed(here, path, late="true", connected="true"))[0] == []
    # What was seen counts before it is written, which may be half a minute later, and meanwhile.
    await here.http.patch("/devices/quiet", json={"expected_interval": 3_600})
    await here.http.patch("/devices/patient", json={"is_active": False})
    await here.services.registry.flush()
    for sensor in await here.services.store.sensors.load(0, 9):
        assert sensor.last_seen_at is not None
    assert (await listed(here, path, late="true"))[0] == []


async def test_what_was_seen_is_known_while_it_is_written(here, monkeypatch):
    await here.device("pump", expected_interval=3_600)
    sensor = await here.services.store.sensors.find("pump")
    await here.http.post("/sensors/pump/heartbeats", json={})
    seen = []
    touch = here.services.store.sensors.touch

    async def touching(rows):
        seen.append(here.services.registry.unwritten().noted)
        await touch(rows)

    monkeypatch.setattr(here.services.store.sensors, "touch", touching)
    await here.services.registry.flush()
    assert [[number for number, *_ in noted] for noted in seen] == [[sensor.number]]
    assert here.services.registry.unwritten().noted == []


@pytest.mark.parametrize("path", LISTS)
async def test_lists_are_searched_and_sorted(here, path):
    for name, members in {
        "c-1": {"name": "Roof", "serial_number": "S-9", "manufacturer": "Acme"},
        "a-2": {
            "name": "cellar",
            "serial_number": "S-10",
            "manufacturer": "ACME",
            "tags": ['wet "a"', "below"],
        },
        "b-3": {"manufacturer": "Other", "tags": ["below"]},
    }.items():
        await here.device(name, **members)
    for name in ("b-3", "c-1"):
        await here.http.post(f"/sensors/{name}/measurements", json={"t": 1})
    for parameters, expected in [
        ({"text": "acme"}, ["c-1", "a-2"]),
        ({"text": "S-1"}, ["a-2"]),
        ({"text": "roof", "manufacturer": "Acme"}, ["c-1"]),
        ({"serial_number": "S-9"}, ["c-1"]),
        ({"tag": "below"}, ["a-2", "b-3"]),
        ({"tag": ["below", 'wet "a"']}, ["a-2"]),
        ({"tag": "Below"}, []),
        ({"tag": "below", "sort": "-device_id", "connected": "false"}, ["b-3", "a-2"]),
        ({"sort": "device_id"}, ["a-2", "b-3", "c-1"]),
        ({"sort": "-device_id"}, ["c-1", "b-3", "a-2"]),
        ({"sort": "name"}, ["a-2", "c-1", "b-3"]),
        ({"sort": "-name"}, ["c-1", "a-2", "b-3"]),
        ({"sort": "last_measurement_at"}, ["b-3", "c-1", "a-2"]),
        ({"sort": "-last_seen_at"}, ["c-1", "b-3", "a-2"]),
        ({"sort": "-created_at", "text": "-"}, ["b-3", "a-2", "c-1"]),
    ]:
        assert (await listed(here, path, **parameters))[0] == expected, parameters
    # The link onward keeps what was asked for.
    path = path.format(network=here.services.registry.default_network)
    first = await here.http.get(path, params={"sort": "-device_id", "limit": 2, "text": "-"})
    assert [sensor["device_id"] for sensor in first.json()] == ["c-1", "b-3"]
    onward = first.headers["link"].split(";")[0].strip("<>")
    assert [sensor["device_id"] for sensor in (await here.http.get(onward)).json()] == ["a-2"]


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"connected": "maybe"}, "connected"),
        ({"late": ""}, "late"),
        ({"sort": "colour"}, "sort"),
        ({"sort": "--name"}, "sort"),
        ({"text": "\0"}, "text"),
        ({"tag": ""}, "tag"),
        ({"text": "x" * 256}, "text"),
        ({"conected": "true"}, "conected"),
    ],
)
async def test_a_filter_that_is_none_is_refused(here, parameters, wrong):
    network = here.services.registry.default_network
    for path in LISTS:
        answer = await here.http.get(path.format(network=network), params=parameters)
        assert answer.status_code == 422
        (problem,) = answer.json()["detail"]
        assert problem["loc"][:2] == ["query", wrong]
        assert wrong != "conected" or problem["msg"].endswith("did you mean `connected`?")
