"""The newest values of a network, whatever happens: memory says what the store says."""

import asyncio
import random
from collections import deque

import msgspec
import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.http import newest_pages as pages_module
from heliograph.http.newest_pages import NewestPages
from heliograph.model.time import now, to_rfc3339
from heliograph.store.pages import LEAST
from heliograph.store.removal import KeptKind, Span
from integration.http.conftest import ADMIN

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

START = 1_700_000_000


@pytest.fixture
async def here(site, database_url, monkeypatch):
    """A server on each engine, which takes what it has committed for all there is."""
    async with site(database_url=database_url) as here:
        monkeypatch.setattr(here.services.latest, "_fresh", float("inf"))
        yield here


async def send(here, key, name, at, value):
    element = {"timestamp": START + at, "value": value}
    path = f"/sensors/{name}/measurements"
    assert (await here.http.post(path, json=element, headers=key)).status_code == 201


async def expected(here, network):
    """What the store says of the network, asked sensor by sensor."""
    store = here.services.store
    sensors, _ = await store.sensors.list(networks=[network], offset=0, limit=1_000)
    return [
        {
            "sensor_identifier": sensor.identifier,
            "device_id": sensor.device_id,
            "labels": {},
            "attributes": {
                each.name: {"value": each.value, "timestamp": to_rfc3339(each.timestamp)}
                for each in await store.measurements.latest(sensor.number)
            },
        }
        for sensor in sensors
    ]


class Asking:
    """Someone who asks again and again, with the tag of the last answer."""

    def __init__(self, here, network):
        self.here = here
        self.network = network
        self.path = f"/networks/{network}/latest"
        self.known = self.tag = None

    async def ask(self):
        """Ask, and check the answer by what the store says."""
        headers = {**ADMIN, "if-none-match": self.tag} if self.tag else ADMIN
        response = await self.here.http.get(self.path, headers=headers)
        said = await expected(self.here, self.network)
        if said == self.known:
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["etag"] == self.tag
        else:
            assert response.status_code == 200, response.text
            assert msgspec.json.decode(response.content) == said
            assert response.headers["etag"] != self.tag
        assert response.headers["x-total-count"] == str(len(said))
        # Who has nothing gets the whole, with the same tag.
        whole = await self.here.http.get(self.path, headers=ADMIN)
        assert (whole.json(), whole.headers["etag"]) == (said, response.headers["etag"])
        self.known, self.tag = said, response.headers["etag"]


@pytest.fixture
async def filled(here):
    """A network with three sensors, another network, and the sensors' keys by their names."""
    network, other = await here.network("greenhouse"), await here.network("cellar")
    keys = {}
    for number in range(3):
        name = f"pump-{number}"
        keys[name] = await here.device(name, network_identifier=network)
        await send(here, keys[name], name, 5, {"a": number, "b": {"c": None}})
    return network, other, keys


async def change(here, device_id, **members):
    response = await here.http.patch(f"/sensors/{device_id}", json=members, headers=ADMIN)
    assert response.status_code == 200, response.text


async def test_whatever_happens_the_answer_is_what_the_store_says(here, filled):
    network, other, keys = filled
    asking, elsewhere = Asking(here, network), Asking(here, other)
    values = here.services.latest

    async def both():
        await asking.ask()
        await elsewhere.ask()

    await both()
    await send(here, keys["pump-1"], "pump-1", 6, {"a": 7})
    await both()
    # Late: nothing newer, then something that nobody knew, then a repeat.
    for value in ({"a": 0}, {"late": 1}, {"late": 1}):
        await send(here, keys["pump-0"], "pump-0", 1, value)
        await both()
    await change(here, "pump-1", is_active=False)
    await both()
    await change(here, "pump-1", is_active=True)
    await change(here, "pump-2", network_identifier=other)
    await both()
    await send(here, keys["pump-2"], "pump-2", 9, {"moved": [1]})
    await both()
    await change(here, "pump-2", network_identifier=network)
    await both()
    values.forget(values_number := (await here.services.registry.find("pump-0")).number)
    await both()
    assert values_number in values._held
    values.forget_all()
    await both()
    for query in ("", "?data=delete"):
        name = "pump-0" if query else "pump-1"
        deleted = await here.http.delete(f"/sensors/{name}{query}", headers=ADMIN)
        assert deleted.status_code == 204
        await both()
    # The name of one that is gone, and a sensor that has never measured anything.
    await here.device("pump-0", network_identifier=network)
    await both()
    assert [each["device_id"] for each in asking.known] == ["pump-2", "pump-0"]
    # Another in its place, of which there is as little to say.
    await here.http.delete("/sensors/pump-0", headers=ADMIN)
    await here.device("valve", network_identifier=network)
    await both()


async def test_in_any_order(here, filled, monkeypatch):
    network, other, keys = filled
    asking, elsewhere = Asking(here, network), Asking(here, other)
    values, chance = here.services.latest, random.Random(3)
    monkeypatch.setattr(values, "_changed", deque(maxlen=3))
    names = list(keys)
    for _ in range(40):
        for _ in range(chance.randrange(4)):
            name = chance.choice(names)
            value = {chance.choice("abc"): chance.randrange(3)}
            await send(here, keys[name], name, chance.randrange(8), value)
        match chance.randrange(8):
            case 0:
                await change(here, chance.choice(names), network_identifier=other)
            case 1:
                await change(here, chance.choice(names), network_identifier=network)
            case 2:
                values.forget(chance.randrange(1, 4))
            case 3:
                values.forget_all()
            case 4:
                # Someone else reads what has come meanwhile.
                name = chance.choice(names)
                await here.http.get(f"/sensors/{name}/latest", headers=ADMIN)
        await chance.choice((asking, elsewhere)).ask()


@pytest.mark.parametrize("everybody", [True, False])
async def test_what_retention_removes_is_not_told(here, filled, monkeypatch, everybody):
    network, _, _ = filled
    asking = Asking(here, network)
    await asking.ask()
    number = here.services.registry.cached("pump-1").number
    # As a run does it once what is due has been rolled up.
    values = here.services.latest
    if everybody:
        # As after a partition is dropped.
        monkeypatch.setattr(values, "forget", lambda _: values.forget_all())
    await here.services.retention._remove(KeptKind.MEASUREMENTS, [Span(number, LEAST, now())])
    await asking.ask()
    assert [each["attributes"] == {} for each in asking.known] == [False, True, False]


@pytest.fixture
def questions(here, monkeypatch):
    """What was asked of the store, and of which sensors the values were."""
    asked = []
    store = here.services.store

    def watch(holder, name):
        real = getattr(holder, name)

        async def watched(*given, **named):
            asked.append((name, len(given[0])))
            return await real(*given, **named)

        monkeypatch.setattr(holder, name, watched)

    watch(store.measurements, "latest_of")
    watch(store.sensors, "numbers")
    watch(here.services.latest, "texts")
    return asked


async def test_nothing_is_read_twice(here, filled, questions):
    network, other, keys = filled
    path = f"/networks/{network}/latest"

    async def ask(path=path):
        questions.clear()
        assert (await here.http.get(path, headers=ADMIN)).status_code == 200
        return questions

    assert await ask() == [("numbers", 36), ("texts", 3), ("latest_of", 3)]
    assert await ask() == []
    await send(here, keys["pump-1"], "pump-1", 6, {"a": 7})
    assert await ask() == [("texts", 1)]
    assert await ask() == []
    # A change of the registry has the sensors listed anew; their values stay as they are.
    await change(here, "pump-1", name="Pump")
    assert await ask() == [("numbers", 36), ("texts", 3)]
    assert await ask(f"{path}?limit=2") == [("numbers", 36), ("texts", 2)]
    # What another network sends is none of this one's.
    key = await here.device("valve", network_identifier=other)
    await here.http.get("/sensors/valve/latest", headers=key)
    await ask()
    await send(here, key, "valve", 6, {"a": 7})
    assert await ask() == [("texts", 0)]


async def test_what_another_process_does_with_sensors_is_seen_at_once(here, filled):
    network, _, _ = filled
    asking = Asking(here, network)
    await asking.ask()
    store, members = here.services.store, {"network_identifier": network, "created_at": now()}
    await store.sensors.create(identifier="0" * 8 + "-0000-4000-8000-" + "0" * 12, **members)
    await asking.ask()
    assert len(asking.known) == 4
    await store.sensors.delete(here.services.registry.cached("pump-0").number, now())
    await asking.ask()


async def test_what_comes_while_it_is_read_is_in_the_next_answer(here, filled, monkeypatch):
    network, _, keys = filled
    measurements, chance = here.services.store.measurements, iter(range(6, 9))
    read = measurements.latest_of

    async def overtaken(numbers):
        found = await read(numbers)
        for name in ("pump-0", "pump-2"):
            await send(here, keys[name], name, next(chance), {"a": "new"})
        return found

    path = f"/networks/{network}/latest"
    with monkeypatch.context() as patch:
        patch.setattr(measurements, "latest_of", overtaken)
        assert (await here.http.get(path, headers=ADMIN)).status_code == 200
    assert (await here.http.get(path, headers=ADMIN)).json() == await expected(here, network)
    # And while those before it have been read already.
    monkeypatch.setattr(pages_module, "SENSORS_AT_ONCE", 1)
    here.services.latest.forget(here.services.registry.cached("pump-2").number)

    async def late(numbers):
        found = await read(numbers)
        await send(here, keys["pump-0"], "pump-0", next(chance), {"a": "newer"})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(measurements, "latest_of", late)
        assert (await here.http.get(f"{path}?limit=9", headers=ADMIN)).status_code == 200
    again = await here.http.get(f"{path}?limit=9", headers=ADMIN)
    assert again.json() == await expected(here, network)
    assert again.json()[0]["attributes"]["a"]["value"] == "newer"


@pytest.mark.parametrize("first", [True, False])
async def test_who_moves_away_while_it_is_read_is_not_told_of(here, filled, monkeypatch, first):
    network, other, keys = filled
    measurements = here.services.store.measurements
    read = measurements.latest_of
    if not first:
        await here.http.get(f"/networks/{network}/latest", headers=ADMIN)
        here.services.latest.forget(here.services.registry.cached("pump-1").number)

    async def leaving(numbers):
        monkeypatch.setattr(measurements, "latest_of", read)
        await change(here, "pump-1", network_identifier=other)
        await send(here, keys["pump-1"], "pump-1", 9, {"a": "for others"})
        return await read(numbers)

    monkeypatch.setattr(measurements, "latest_of", leaving)
    response = await here.http.get(f"/networks/{network}/latest", headers=ADMIN)
    assert response.json() == await expected(here, network)
    assert len(response.json()) == 2


async def test_who_asked_first_and_is_answered_last_spoils_nothing(here, filled, monkeypatch):
    network, _, keys = filled
    values, path = here.services.latest, f"/networks/{network}/latest"
    await here.http.get(path, headers=ADMIN)
    read = values.texts
    began, released = asyncio.Event(), asyncio.Event()

    async def slow(sensors):
        found = await read(sensors)
        monkeypatch.setattr(values, "texts", read)
        began.set()
        await released.wait()
        return found

    await send(here, keys["pump-0"], "pump-0", 6, {"a": 1})
    monkeypatch.setattr(values, "texts", slow)
    first = asyncio.create_task(here.http.get(path, headers=ADMIN))
    await began.wait()
    for number in (1, 2):
        name = f"pump-{number}"
        await send(here, keys[name], name, 6, {"a": 2})
        said = await expected(here, network)
        assert (await here.http.get(path, headers=ADMIN)).json() == said
    released.set()
    assert (await first).json()[0] == said[0]
    for _ in range(2):
        assert (await here.http.get(path, headers=ADMIN)).json() == said


async def test_an_outage_is_an_answer_and_leaves_nothing_behind(here, filled, monkeypatch):
    network, _, keys = filled
    asking = Asking(here, network)
    await asking.ask()
    await send(here, keys["pump-1"], "pump-1", 6, {"a": 7})
    here.services.latest.forget_all()

    async def away(_numbers):
        raise StoreUnavailableError("an outage to order")

    with monkeypatch.context() as patch:
        patch.setattr(here.services.store.measurements, "latest_of", away)
        response = await here.http.get(asking.path, headers=ADMIN)
        assert response.status_code == 503
    await asking.ask()


async def test_pages_are_bounded(here, filled, monkeypatch):
    network, _, _ = filled
    services = here.services
    pages = NewestPages(services.store, services.registry, services.latest)
    monkeypatch.setattr(pages_module, "MAXIMUM_PAGES", 2)
    for limit in (1, 2, 3, 2, 4):
        page = await pages.page(network, 0, limit, 1 << 20)
        assert page.size == len(page.body()) - 2
    assert [limit for _, _, limit in pages._pages] == [2, 4]
    monkeypatch.setattr(pages_module, "MAXIMUM_BYTES", 1)
    await pages.page(network, 0, 2, 1 << 20)
    assert [limit for _, _, limit in pages._pages] == [2]


async def test_the_tag_outlives_the_server(site, database_url):
    async with site(database_url=database_url) as here:
        network = await here.network("greenhouse")
        key = await here.device("pump-1", network_identifier=network)
        await send(here, key, "pump-1", 5, {"a": 1})
        path = f"/networks/{network}/latest"
        before = await here.http.get(path, headers=ADMIN)
    async with site(database_url=database_url) as other:
        after = await other.http.get(path, headers=ADMIN)
    assert (after.content, after.headers["etag"]) == (before.content, before.headers["etag"])


async def test_what_another_instance_commits_is_seen_soon(site, postgresql_url, monkeypatch):
    async with site(database_url=postgresql_url) as here, site(database_url=postgresql_url) as one:
        network = await here.network("greenhouse")
        key = await here.device("pump-1", network_identifier=network)
        monkeypatch.setattr(here.services.latest, "_fresh", 3_600)
        asking = Asking(here, network)
        await asking.ask()
        await one.services.registry.changed()
        await send(one, key, "pump-1", 5, {"a": 1})
        stale = await here.http.get(asking.path, headers=ADMIN)
        assert stale.headers["etag"] == asking.tag
        # What was read before counts no longer.
        monkeypatch.setattr(here.services.latest, "_fresh", 0)
        here.services.latest.forget_all()
        await asking.ask()
        await send(one, key, "pump-1", 6, {"a": 2})
        await asking.ask()


async def test_who_may_read_it(site, database_url):
    async with site(database_url=database_url) as here:
        ada, eve = await here.user("ada"), await here.user("eve")
        network = await here.network("greenhouse", ada="viewer")
        path = f"/networks/{network}/latest"
        tag = (await here.http.get(path, headers=ada)).headers["etag"]
        for headers, status in ((ada, 304), (eve, 404), ({}, 401)):
            response = await here.http.get(path, headers={**headers, "if-none-match": tag})
            assert response.status_code == status
        account = await here.services.store.accounts.find_username("ada")
        await here.services.store.networks.remove_member(network, account.identifier)
        await here.services.registry.changed()
        response = await here.http.get(path, headers={**ada, "if-none-match": tag})
        assert response.status_code == 404
