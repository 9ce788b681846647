"""The newest values over HTTP: of a sensor, of a network, and their entity tags."""

from heliograph.http import latest as latest_module
from integration.http.conftest import ADMIN

START = 1_700_000_000


async def send(here, key, at, value):
    element = {"timestamp": START + at, "value": value}
    path = "/sensors/pump-1/measurements"
    assert (await here.http.post(path, json=element, headers=key)).status_code == 201


async def test_a_tag_stands_for_the_values_until_they_change(site):
    async with site() as here:
        key = await here.device("pump-1")
        path = "/sensors/pump-1/latest"
        await send(here, key, 5, {"a": 1})

        async def ask(tag, **headers):
            return await here.http.get(path, headers={**key, "if-none-match": tag, **headers})

        first = await here.http.get(path, headers=key)
        tag = first.headers["etag"]
        for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            same = await ask(given)
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            assert "content-length" not in same.headers
        for given in ("x", '"x"', "", tag[1:-1]):
            assert (await ask(given)).content == first.content
        # Late, and not the newest of anything.
        await send(here, key, 1, {"a": 0})
        assert (await ask(tag)).status_code == 304
        await send(here, key, 1, {"b": 0})
        changed = await ask(tag)
        assert changed.status_code == 200
        assert changed.json()["attributes"]["b"]["value"] == 0
        assert changed.headers["etag"] != tag
    async with site(database_url=here.services.settings.database_url) as again:
        after = await again.http.get(path, headers=key)
        assert (after.content, after.headers["etag"]) == (changed.content, changed.headers["etag"])


async def test_a_networks_sensors_in_the_order_of_their_creation(site, monkeypatch):
    async with site() as here:
        ada, eve = await here.user("ada"), await here.user("eve")
        network = await here.network("greenhouse", ada="viewer")
        path = f"/networks/{network}/latest"
        await here.device("pump-0")
        for number in (3, 1, 2):
            name = f"pump-{number}"
            key = await here.device(name, network_identifier=network)
            reading = {"a": number, "timestamp": START + number}
            assert (await here.http.post("/ingest", json=reading, headers=key)).status_code == 201
        response = await here.http.get(path, headers=ada)
        assert response.headers["x-total-count"] == "3"
        assert "link" not in response.headers
        single = [
            (await here.http.get(f"/sensors/pump-{number}/latest", headers=ADMIN)).json()
            for number in (3, 1, 2)
        ]
        assert response.json() == single
        assert single[0]["attributes"]["a"]["value"] == 3
        same = {**ada, "if-none-match": response.headers["etag"]}
        assert (await here.http.get(path, headers=same)).status_code == 304
        page = await here.http.get(f"{path}?offset=1&limit=1", headers=ada)
        assert page.json() == single[1:2]
        assert page.headers["link"] == f'<{path}?offset=2&limit=1>; rel="next"'
        monkeypatch.setattr(latest_module, "LARGEST_PAGE", 10)
        found = []
        following = f"{path}?limit=2"
        while following:
            short = await here.http.get(following, headers=ada)
            found += short.json()
            following = short.links.get("next", {}).get("url")
        assert found == single
        unseen = await here.http.get(path, headers=eve)
        assert (unseen.status_code, unseen.json()["code"]) == (404, "NETWORK_NOT_FOUND")
        assert (await here.http.get(f"{path}?limit=0", headers=ada)).status_code == 422


async def test_what_has_been_erased_is_not_remembered(site):
    async with site() as here:
        key = await here.device("pump-1")
        await send(here, key, 5, {"a": 1})
        sensor = (await here.http.get("/sensors/pump-1/latest", headers=key)).json()
        deleted = await here.http.delete("/sensors/pump-1?data=delete", headers=ADMIN)
        assert deleted.status_code == 204
        for name in ("pump-1", sensor["sensor_identifier"]):
            response = await here.http.get(f"/sensors/{name}/latest", headers=ADMIN)
            assert response.status_code == 404
        assert not here.services.latest._held
        key = await here.device("pump-1")
        assert (await here.http.get("/sensors/pump-1/latest", headers=key)).json()[
            "attributes"
        ] == {}
