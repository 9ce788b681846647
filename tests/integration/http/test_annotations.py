"""Annotations over HTTP: about a moment or a span, by range, refused by name."""

import pytest

from heliograph.model.annotation import LONGEST_ANNOTATION
from integration.http.conftest import ADMIN


@pytest.fixture
async def here(site):
    async with site() as running:
        running.http.headers.update(ADMIN)
        running.fields = await running.network("fields")
        await running.device("pump-1", network_identifier=running.fields)
        yield running


PATH = "/sensors/pump-1/annotations"


async def test_an_annotation_goes_with_its_sensor_and_is_found_by_range(here):
    body = {"text": "Cleaned", "start": "2026-01-15T10:00:00+01:00", "attribute": "flow"}
    made = await here.http.post(PATH, json=body)
    assert made.status_code == 201
    annotation = made.json()
    assert (annotation["start"], annotation["end"]) == ("2026-01-15T09:00:00.000000Z", None)
    assert annotation["author"] == "admin"
    path = f"{PATH}/{annotation['id']}"
    longer = await here.http.patch(path, json={"end": "2026-01-15T09:30:00Z"})
    assert longer.json()["text"] == "Cleaned"
    for query, count in (
        ("start=2026-01-15T09:29:00Z", 1),
        ("start=2026-01-15T09:30:00Z", 0),
        ("end=2026-01-15T09:00:00Z", 0),
    ):
        listed = await here.http.get(f"{PATH}?{query}")
        assert (len(listed.json()), listed.headers["x-total-count"]) == (count, str(count))
    again = await here.http.patch(path, json={"end": None, "attribute": None})
    assert (again.json()["end"], again.json()["attribute"]) == (None, None)
    # It moves with its sensor, and is read under the other network from then on.
    default = here.services.registry.default_network
    await here.http.patch("/sensors/pump-1", json={"network_identifier": default})
    moved = await here.http.get(f"/networks/{default}{path}")
    assert moved.json() == again.json()
    assert (await here.http.get(f"/networks/{here.fields}{path}")).status_code == 404
    assert (await here.http.delete(path)).status_code == 204
    assert (await here.http.get(path)).json()["code"] == "ANNOTATION_NOT_FOUND"


async def test_what_is_wrong_is_refused_by_name(here):
    right = {"text": "x", "start": 1_780_000_000}
    for wrong, at in (
        ({"text": ""}, "text"),
        ({"text": "x" * (LONGEST_ANNOTATION + 1)}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"start": "soon"}, "start"),
        ({"colour": "red"}, "colour"),
        ({"attribute": ""}, "attribute"),
    ):
        answer = await here.http.post(PATH, json={**right, **wrong})
        assert answer.status_code == 422, answer.text
        assert [each["loc"] for each in answer.json()["detail"]] == [["body", at]]
    answer = await here.http.post(PATH, json={**right, "end": right["start"]})
    assert (answer.status_code, answer.json()["detail"]) == (422, "end should be after start")
    made = (await here.http.post(PATH, json={**right, "end": right["start"] + 60})).json()
    late = await here.http.patch(f"{PATH}/{made['id']}", json={"start": right["start"] + 60})
    assert late.status_code == 422
    answer = await here.http.get(f"{PATH}?start=2&end=1")
    assert [each["msg"] for each in answer.json()["detail"]] == ["start is after end"]
