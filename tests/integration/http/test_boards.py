"""Boards over HTTP: what they show is of their network, and bounded."""

import pytest

from heliograph.model.board import MAXIMUM_PANELS, MAXIMUM_SERIES
from integration.http.conftest import ADMIN


@pytest.fixture
async def here(site):
    async with site() as running:
        running.http.headers.update(ADMIN)
        running.fields = await running.network("fields")
        running.boards = f"/networks/{running.fields}/boards"
        await running.device("pump-1", network_identifier=running.fields)
        await running.device("foreign-1")
        yield running


def chart(sensor="pump-1", **members):
    return {"kind": "chart", "series": [{"sensor": sensor, "attribute": "flow"}], **members}


async def test_a_board_keeps_what_was_chosen(here):
    body = {"name": "Lobby", "panels": [chart(title="Flow", range="7d")]}
    made = await here.http.post(here.boards, json=body)
    assert made.status_code == 201
    board = made.json()
    identifier = (await here.http.get("/sensors/pump-1")).json()["sensor_identifier"]
    series = [{"sensor": identifier, "attribute": "flow"}]
    assert board["panels"] == [
        {"kind": "chart", "series": series, "title": "Flow", "range": "7d", "wide": False}
    ]
    path = f"{here.boards}/{board['id']}"
    assert (await here.http.get(path)).json() == board
    assert (await here.http.get(here.boards)).json() == [board]
    renamed = await here.http.put(path, json={"name": "Hall"})
    assert renamed.json()["panels"] == board["panels"]
    # A sensor that has left the network stays on the boards that show it, and comes on no other.
    default = here.services.registry.default_network
    await here.http.patch("/sensors/pump-1", json={"network_identifier": default})
    kept = [*board["panels"], chart(identifier, kind="values")]
    assert (await here.http.put(path, json={"panels": kept})).status_code == 200
    other = await here.http.post(here.boards, json={"name": "x", "panels": kept})
    assert (other.status_code, other.json()["code"]) == (404, "SENSOR_NOT_FOUND")


async def test_what_is_wrong_is_refused_by_name(here):
    for panels, at in (
        ([chart(kind="map")], ("panels", 0, "kind")),
        ([chart(range="soon")], ("panels", 0, "range")),
        ([chart(colour="red")], ("panels", 0, "colour")),
        ([{**chart(), "series": []}], ("panels", 0, "series")),
        (
            [{**chart(), "series": chart()["series"] * (MAXIMUM_SERIES + 1)}],
            ("panels", 0, "series"),
        ),
        ([chart()] * (MAXIMUM_PANELS + 1), ("panels",)),
    ):
        answer = await here.http.post(here.boards, json={"name": "x", "panels": panels})
        assert answer.status_code == 422, answer.text
        assert [tuple(each["loc"]) for each in answer.json()["detail"]] == [("body", *at)]
    foreign = await here.http.post(here.boards, json={"name": "x", "panels": [chart("foreign-1")]})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "SENSOR_NOT_FOUND")
    assert (await here.http.get(here.boards)).json() == []
