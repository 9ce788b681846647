"""A sensor's routes under its network."""

import pytest

from integration.http.conftest import ADMIN


async def test_a_sensors_routes_stand_under_its_network(site):
    async with site() as here:
        await here.account("ada")
        network = await here.network("garden", ada="owner")
        other = await here.network("elsewhere", ada="owner")
        ada = await here.session(await here.services.store.accounts.find_username("ada"))
        key = await here.device("rose", network_identifier=network)
        sensor = (await here.http.get("/sensors/rose", headers=ada)).json()
        for name in ("rose", sensor["id"], sensor["id"].upper()):
            path = f"/networks/{network.upper()}/sensors/{name}"
            read = await here.http.get(path, headers=ada)
            assert (read.status_code, read.json()["id"]) == (200, sensor["id"])
        path = f"/api/v1/networks/{network}/sensors/rose"
        readings = [{"value": number, "timestamp": 1.7e9 + number} for number in range(3)]
        sent = await here.http.post(f"{path}/measurements", json=readings, headers=key)
        assert sent.json()["accepted"] == 3
        page = await here.http.get(f"{path}/measurements/", params={"limit": 2}, headers=ada)
        assert [each["measurement"] for each in page.json()] == [1, 2]
        # Links lead on under the path that was asked for.
        assert f"<{path}/measurements?" in page.headers["link"]
        made = await here.http.post(
            f"{path}/configurations", json={"configuration": {}}, headers=ada
        )
        assert (made.status_code, made.json()["revision"]) == (201, 0)
        changed = await here.http.patch(path, json={"name": "Rose"}, headers=ada)
        assert changed.json()["name"] == "Rose"
        wrong = f"/networks/{other}/sensors/rose"
        for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/measurements")):
            refused = await here.http.request(method, wrong + rest, json={}, headers=ada)
            assert (refused.status_code, refused.json()["code"]) == (404, "SENSOR_NOT_FOUND")
        gone = await here.http.delete(path, headers=ada)
        assert gone.status_code == 204
        assert (await here.http.get(path, headers=ada)).json()["is_active"] is False


@pytest.mark.parametrize("rest", ["", "/measurements", "/configurations/current", "/export"])
async def test_a_foreign_one_answers_exactly_as_none(site, rest):
    async with site() as here:
        stranger = await here.user("stranger")
        network = await here.network("garden")
        await here.device("rose", network_identifier=network)
        paths = [
            f"/networks/{network}/sensors/rose{rest}",
            f"/networks/{network}/sensors/nobody{rest}",
            f"/networks/00000000-0000-4000-8000-000000000000/sensors/rose{rest}",
        ]
        for headers, status in ((stranger, 404), ({}, 401)):
            answers = [await here.http.get(path, headers=headers) for path in paths]
            assert {each.status_code for each in answers} == {status}
            assert len({each.content for each in answers}) == 1
        unknown = await here.http.get(f"/networks/{network}/sensors/rose/nothing", headers=ADMIN)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "NOT_FOUND")
