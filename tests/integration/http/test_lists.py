"""Lists of sensors, devices, nodes and networks: bounded in bytes, with a link to the rest."""

import re

import pytest

from heliograph.http import answers, bodies, lists
from integration.http.conftest import ADMIN

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

COUNT, FITTING = 11, 4


async def filled(here):
    """Make so many of each, large ones."""
    node = None
    for at in range(COUNT):
        name = f"{at:02}" + "\N{GRINNING FACE}" * 250
        body = {"serial_number": name, "firmware_version": name, "name": name}
        made = await here.http.post("/nodes", json=body, headers=ADMIN)
        node = node or made.json()["id"]
        texts = dict.fromkeys(("name", "sensor_name", "serial_number", "model"), name)
        await here.device(f"pump-{at}", node_id=node, **texts)
        await here.http.post("/networks", json={"network_name": name}, headers=ADMIN)
    return node


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(lists, "ENTRIES_AT_FIRST", 2)
    monkeypatch.setattr(lists, "BYTES_AT_ONCE", 10_000)
    monkeypatch.setattr(lists, "LARGEST_PAGE", 5 * 5_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "path", ["/devices", "/sensors?node_id={node}", "/networks/{network}/sensors"]
)
async def test_a_list_ends_early_by_bytes_and_its_link_leads_on(site, path):
    async with site() as here:
        node = await filled(here)
        network = here.services.registry.default_network
        path, found, counts = path.format(node=node, network=network), [], []
        while path:
            response = await here.http.get(path, headers=ADMIN)
            assert response.status_code == 200
            assert len(response.content) <= lists.LARGEST_PAGE + 20
            assert response.headers["x-total-count"] == str(COUNT)
            found += [each["device_id"] for each in response.json()]
            counts.append(len(response.json()))
            link = re.search('<([^>]+)>; rel="next"', response.headers.get("link", ""))
            path = link and link[1]
        assert found == [f"pump-{at}" for at in range(COUNT)]
        assert counts == [FITTING, FITTING, COUNT - 2 * FITTING]


@pytest.mark.usefixtures("small")
async def test_of_a_node_with_too_many_sensors_the_first_are_shown_which_is_said(site):
    async with site() as here:
        node = await filled(here)
        response = await here.http.get(f"/nodes/{node}/full", headers=ADMIN)
        assert response.headers["x-page-truncated"] == "true"
        assert len(response.json()["sensors"]) == FITTING
        other = (await here.http.get("/nodes?limit=2", headers=ADMIN)).json()[1]["id"]
        response = await here.http.get(f"/nodes/{other}/full", headers=ADMIN)
        assert "x-page-truncated" not in response.headers
        assert response.json()["sensors"] == []


async def test_lists_are_among_the_large_answers_that_are_bounded_together(site, monkeypatch):
    monkeypatch.setattr(answers.Answering.__init__, "__defaults__", (8_000,))
    monkeypatch.setattr(bodies, "UNCOUNTED", 1_000)
    async with site() as here:
        node = await filled(here)
        network = here.services.registry.default_network
        for path in (
            *("/devices", "/sensors", "/nodes", "/networks"),
            *(f"/networks/{network}/sensors", f"/nodes/{node}/full"),
        ):
            response = await here.http.get(path, headers=ADMIN)
            assert (response.status_code, response.json()["code"]) == (
                503,
                "TOO_MANY_LARGE_ANSWERS",
            ), path
        assert (await here.http.get("/nodes?limit=1", headers=ADMIN)).status_code == 200
