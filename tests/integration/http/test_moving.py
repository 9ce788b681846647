"""Sensors and nodes that move to another network: whose right that is."""

import pytest

from integration.http.conftest import ADMIN

CHANGES = [
    ("PATCH", "/devices/pump", {}),
    ("PUT", "/sensors/pump", {}),
    ("PATCH", "/sensors/pump", {"name": "x", "node_id": None}),
    ("PUT", "/sensors/pump", {"configuration": {}}),
    ("PUT", "/nodes/{node}", {}),
    ("PATCH", "/nodes/{node}", {"name": "x"}),
]


class Places:
    """Two networks: Ann owns the roof, Eve the cellar; each is an editor in the other."""

    def __init__(self, here):
        self.here = here

    async def fill(self):
        here = self.here
        self.ann, self.eve = await here.user("ann"), await here.user("eve")
        self.roof = await here.network("roof", ann="owner", eve="editor")
        self.cellar = await here.network("cellar", eve="owner", ann="editor")
        await here.device("pump", network_identifier=self.roof)
        body = {"serial_number": "N", "firmware_version": "1", "network_identifier": self.roof}
        made = await here.http.post("/nodes", json=body, headers=ADMIN)
        self.node = made.json()["id"]

    async def move(self, method, path, body, network, user):
        return await self.here.http.request(
            method,
            path.format(node=self.node),
            json={**body, "network_identifier": network},
            headers=user,
        )

    async def network_of(self, path):
        answer = await self.here.http.get(
            path.format(node=self.node).replace("/devices", "/sensors"), headers=ADMIN
        )
        return answer.json()["network_identifier"]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_leaving_a_network_needs_its_owner(site, method, path, body):
    async with site() as here:
        places = Places(here)
        await places.fill()
        refused = await places.move(method, path, body, places.cellar, places.eve)
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        assert await places.network_of(path) == places.roof
        # Nor was anything else of it done.
        assert (await here.http.get("/sensors/pump", headers=ADMIN)).json()["revision"] is None
        # What names the network that it is in leaves none.
        stays = await places.move(method, path, body, places.roof.upper(), places.eve)
        assert stays.status_code == 200
        moved = await places.move(method, path, body, places.cellar, places.ann)
        assert (moved.status_code, await places.network_of(path)) == (200, places.cellar)
        # An editor there, she does not get it back by herself.
        back = await places.move(method, path, body, places.roof, places.ann)
        assert back.status_code == 403
        for user in (places.eve, ADMIN):
            moved = await places.move(method, path, body, places.roof, user)
            assert (moved.status_code, await places.network_of(path)) == (200, places.roof)
            await places.move(method, path, body, places.cellar, ADMIN)


async def test_an_editor_deletes_nothing_by_way_of_a_network_of_their_own(site):
    async with site() as here:
        places = Places(here)
        await places.fill()
        await here.http.post("/ingest", json={"device_id": "pump", "t": 1}, headers=ADMIN)
        await places.move("PATCH", "/sensors/pump", {}, places.cellar, places.eve)
        await here.http.delete("/sensors/pump?data=delete", headers=places.eve)
        kept = await here.http.get("/sensors/pump/measurements", headers=places.ann)
        assert len(kept.json()) == 1
