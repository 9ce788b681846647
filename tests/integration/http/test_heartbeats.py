"""Heartbeats over HTTP, on both engines: pages as of measurements, and the flag."""

import re

import pytest

from engines import SQLITE_FIRST
from server import running

START = 1_700_000_000.0


@pytest.fixture(params=SQLITE_FIRST)
def engine(request):
    return request.param


@pytest.fixture
async def server(tmp_path, database_url):
    async with running(tmp_path, database_url=database_url, mqtt_listen=()) as server:
        yield server


def link(response, rel):
    found = re.search(rf'<([^>]+)>; rel="{rel}"', response.headers.get("link", ""))
    return found and found[1]


async def sent(server, device, *heartbeats):
    path = f"/sensors/{device.identifier}/heartbeats"
    answer = await server.http.post(path, json=list(heartbeats))
    assert (answer.status_code, answer.json()["accepted"]) == (201, len(heartbeats))
    return path


async def test_those_of_an_unknown_revision_are_flagged(server):
    device = await server.device()
    await server.http.post(
        f"/sensors/{device.identifier}/configurations", json={"configuration": 1}
    )
    path = await sent(
        server,
        device,
        {"revision": 0, "timestamp": START, "success": True},
        {"revision": 7, "timestamp": START + 1, "success": False},
        {"timestamp": START + 2, "battery": {"percent": 80}},
    )
    answer = await server.http.get(path)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert all(each.pop("receipt_timestamp") > START for each in page)
    names = ("revision", "creation_timestamp", "success", "details", "flagged")
    assert page == [
        dict(zip(names, row, strict=True))
        for row in (
            (0, START, True, None, False),
            (7, START + 1, False, None, True),
            (None, START + 2, None, {"battery": {"percent": 80}}, False),
        )
    ]
    # Made later, the revision does not make it an answer.
    for _ in range(8):
        await server.http.post(
            f"/sensors/{device.identifier}/configurations", json={"configuration": 2}
        )
    assert [each["flagged"] for each in (await server.http.get(path)).json()] == [
        False,
        True,
        False,
    ]


async def test_they_are_read_in_pages(server):
    device = await server.device()
    path = await sent(server, device, *({"timestamp": START + n // 2, "n": n} for n in range(12)))

    async def read(where):
        answer = await server.http.get(where)
        assert answer.status_code == 200, answer.text
        return [each["creation_timestamp"] - START for each in answer.json()], answer

    assert (await read(path))[0] == [n // 2 for n in range(12)]
    # Never between two of one time.
    assert (await read(f"{path}?limit=3"))[0] == [4, 4, 5, 5]
    first, answer = await read(f"{path}?limit=3&direction=next")
    assert first == [0, 0, 1, 1]
    following, _ = await read(link(answer, "next"))
    assert following == [2, 2, 3, 3]
    assert (await read(f"{path}?creation_timestamp={START + 4}"))[0] == [5, 5]


async def test_a_device_reads_its_own_only(server):
    device, other = await server.device(), await server.device("other")
    path = await sent(server, device, {"timestamp": START})
    assert len((await server.http.get(path, headers={"x-api-key": device.key})).json()) == 1
    foreign = await server.http.get(path, headers={"x-api-key": other.key})
    unknown = await server.http.get("/sensors/nobody/heartbeats")
    assert (foreign.status_code, foreign.json()) == (404, unknown.json())
