"""A table of CSV is shown as it would be stored, and what is shown can be sent as it is."""

import pytest

from integration.http.conftest import ADMIN

TABLE = "Zeit;Temperatur\n01.05.2026 12:00;21,5\n01.05.2026 12:10;\n13.05.2026 12:20;x\n"


@pytest.fixture
async def here(site):
    async with site() as running:
        running.http.headers.update(ADMIN)
        made = await running.http.post("/networks", json={"network_name": "fields"})
        running.network = made.json()["network_identifier"]
        for name, network in (("roof", running.network), ("foreign", None)):
            body = {"device_id": name, **({"network_identifier": network} if network else {})}
            await running.http.post("/devices", json=body)
        running.preview = f"/networks/{running.network}/import-preview"
        yield running


async def test_what_is_shown_is_stored_when_it_is_sent(here):
    body = {"table": TABLE, "sensor": "roof"}
    asked = (await here.http.post(here.preview, json=body)).json()
    # Nobody has said of which zone the times are.
    assert [each["options"] for each in asked["questions"] if "--time-zone" in each["options"]]
    assert asked["rows"] == []
    said = {"time_zone": "Europe/Berlin", "missing": ["x"]}
    answer = await here.http.post(here.preview, json={**body, **said})
    shown = answer.json()
    assert (answer.status_code, shown["questions"], shown["array"]) == (200, [], "readings")
    assert shown["rows"][0]["value"] == {"Temperatur": 21.5}
    assert (shown["lines"], shown["empty_count"]) == ([2], 2)
    assert any(found["subject"] == "heading" for found in shown["findings"])
    # By this a page reads what comes after the table's first megabyte.
    assert shown["taken_for"] == {
        "decimal": ",",
        "time_format": "day-first",
        "precision": None,
        "kinds": {"Temperatur": "number"},
        "value_kinds": {},
    }
    for accepted in (len(shown["rows"]), 0):
        sent = await here.http.post("/ingest/batch", json={"readings": shown["rows"]})
        assert sent.json()["accepted"] == accepted
    stored = (
        await here.http.get(
            "/devices/roof/history?start=2026-05-01T00:00:00Z&end=2026-05-02T00:00:00Z"
        )
    ).json()
    assert stored[0]["timestamp"] == "2026-05-01T10:00:00.000000Z"


async def test_lines_of_a_piece_are_told_by_their_numbers_in_the_file(here):
    heading = "time,device_id,t\n"
    rows = [f"2026-05-01T12:{minute:02}:00Z,roof,{minute}\n" for minute in range(40)]
    piece = {"table": heading + "".join(rows) + "never,roof,2\n", "lines_left_out": 5_000}
    shown = (await here.http.post(here.preview, json=piece)).json()
    assert shown["lines"] == [*range(5_002, 5_042)]
    assert [row["line"] for row in shown["bad"]] == [5_042]
    piece["table"] = heading + "".join(rows) + "2026-05-01T13:00:00Z,roof,full\n"
    [asked] = (await here.http.post(here.preview, json=piece)).json()["questions"]
    assert "('full' in line 5042)" in asked["what"]
    # What we have exported ourselves is read without a look at all of it.
    exported = "sensor_identifier,device_id,timestamp,value\n,roof,2026-05-01T12:00:00Z,1\n"
    body = {"table": exported, "lines_left_out": 7}
    shown = (await here.http.post(here.preview, json=body)).json()
    assert shown["lines"] == [9]
    answer = await here.http.post(here.preview, json={**piece, "lines_left_out": -1})
    assert answer.status_code == 422


async def test_what_can_not_be_stored_is_told_with_its_line(here):
    table = "time,device_id,t\n2026-05-01T12:00:00Z,roof,1\nnever,roof,2\n"
    table += "2026-05-01T12:00:00Z,foreign,3\n2026-05-01T12:00:00Z,nobody,4\n"
    shown = (await here.http.post(here.preview, json={"table": table})).json()
    assert shown["lines"] == [2]
    assert [row["line"] for row in shown["bad"]] == [3, 4, 5]
    # One of another network is as one that is not there.
    reasons = [row["reason"].replace("foreign", "nobody") for row in shown["bad"][1:]]
    assert reasons == ["the network has no sensor nobody"] * 2
    for member, body in (
        ("table", {"table": "PK\x03\x04"}),
        ("time_zone", {"table": table, "time_zone": "Mars"}),
        ("time_format", {"table": table, "time_format": "%H"}),
        ("tabel", {"tabel": table}),
    ):
        refused = await here.http.post(here.preview, json=body)
        assert refused.status_code == 422
        assert member in [each["loc"][-1] for each in refused.json()["detail"]]
