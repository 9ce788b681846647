"""How much is packed: of all, of a network, of a sensor; and whether more will be."""

import pytest

from heliograph.model.time import HOUR, MINUTE, to_rfc3339
from heliograph.store.engine import Batch
from integration.http.conftest import ADMIN
from packing_rows import pack_range
from rows import NOON, measurement

NOTHING = {"rows": 0, "chunks": 0, "bytes": 0, "first": None, "last": None}


async def pack(here, device_id, hours):
    """Store so many hours of the device, a chunk each; the last row stays in the table."""
    store = here.services.store
    sensor = (await store.sensors.find(device_id)).number
    rows = [measurement(sensor, NOON + at * MINUTE, {"t": at}) for at in range(60 * hours)]
    await store.write(Batch(measurements=rows, attributes=[(sensor, "t")]))
    for hour in range(hours):
        await pack_range(store.chunks, sensor, NOON + hour * HOUR, NOON + (hour + 1) * HOUR)


async def read(here, path, headers=ADMIN, **query):
    answer = await here.http.get(path, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_packed_is_counted_for_whoever_may_see_it(site, database_url):
    async with site(database_url=database_url) as here:
        ada, grace = [await here.session(await here.account(name)) for name in ("ada", "grace")]
        ours, theirs = await here.network("ours", ada="viewer"), await here.network("theirs")
        for device_id, network, hours in (("pump-1", ours, 2), ("pump-2", theirs, 3)):
            await here.device(device_id, network_identifier=network)
            await pack(here, device_id, hours)
        await here.device("pump-3", network_identifier=ours)

        of_one = await read(here, "/sensors/pump-1/packed")
        assert 0 < of_one.pop("bytes") < 119 * 100
        assert of_one == {
            "packing": True,
            "rows": 119,
            "chunks": 2,
            "first": to_rfc3339(NOON),
            "last": to_rfc3339(NOON + 118 * MINUTE),
        }
        assert await read(here, "/sensors/pump-3/packed") == NOTHING | {"packing": True}
        all_of_them = await read(here, "/packed")
        assert (all_of_them["rows"], all_of_them["chunks"]) == (119 + 179, 5)
        assert all_of_them["last"] == to_rfc3339(NOON + 178 * MINUTE)
        of_network = await read(here, "/packed", network_identifier=theirs)
        assert (of_network["rows"], of_network["chunks"]) == (179, 3)
        assert (await read(here, "/packed", ada))["rows"] == 119
        assert await read(here, "/packed", grace) == NOTHING | {"packing": True}


@pytest.mark.parametrize("after", [0, 26 * HOUR])
async def test_packing_is_what_the_server_the_network_and_the_sensor_let(site, after):
    async with site() as here:
        here.services.packer.after = after
        network = await here.network("ours")
        await here.device("pump-1", network_identifier=network)

        async def told():
            return [
                (await read(here, path, **query))["packing"]
                for path, query in (
                    ("/packed", {}),
                    ("/packed", {"network_identifier": network}),
                    ("/sensors/pump-1/packed", {}),
                )
            ]

        is_on = after > 0
        assert await told() == [is_on] * 3
        await here.http.patch("/sensors/pump-1", json={"packing": False}, headers=ADMIN)
        assert await told() == [is_on, is_on, False]
        await here.http.patch("/sensors/pump-1", json={"packing": True}, headers=ADMIN)
        body = {"network_name": "ours", "packing": False}
        await here.http.put(f"/networks/{network}", json=body, headers=ADMIN)
        assert await told() == [is_on, False, False]
