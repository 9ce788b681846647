"""Configurations over HTTP."""

import asyncio
import uuid

import pytest

from integration.http.conftest import ADMIN
from unit.configuration.test_merge_patch import EXAMPLES


async def configure(here, name, configuration, headers=ADMIN):
    return await here.http.post(
        f"/sensors/{name}/configurations", json={"configuration": configuration}, headers=headers
    )


async def pages(here, name, query="", headers=ADMIN):
    response = await here.http.get(f"/sensors/{name}/configurations{query}", headers=headers)
    assert response.status_code == 200, response.text
    return response


async def revisions(here, name, query=""):
    return [entry["revision"] for entry in (await pages(here, name, query)).json()]


async def configure_network(here, network, body, headers=ADMIN):
    return await here.http.post(f"/networks/{network}/configurations", json=body, headers=headers)


def default(here):
    return here.services.registry.default_network


async def test_a_revision_and_its_entry(site):
    async with site() as here:
        await here.device("pump")
        identifier = (await here.http.get("/devices/pump", headers=ADMIN)).json()["id"]
        created = await configure(here, "pump", {"b": 1, "a": [None]})
        assert created.status_code == 201
        assert created.json() == {"sensor_identifier": identifier, "revision": 0}
        assert (await configure(here, identifier, None)).json()["revision"] == 1
        first, second = (await pages(here, "pump")).json()
        assert first.pop("creation_timestamp") > 1_700_000_000
        published, duration = first.pop("publication_timestamp"), first.pop("publication_duration")
        assert (published is None) == (duration is None)
        assert first.pop("state") == "superseded"
        assert first == {
            "revision": 0,
            "configuration": {"b": 1, "a": [None]},
            "acknowledgment_timestamp": None,
            "receipt_timestamp": None,
            "success": None,
            "acknowledgment_duration": None,
            "author": "admin",
        }
        assert (second["configuration"], second["state"] in ("pending", "published")) == (
            None,
            True,
        )


async def test_50_at_once_leave_no_gap(site):
    async with site() as here:
        await here.device("pump")
        answers = await asyncio.gather(*(configure(here, "pump", at) for at in range(50)))
        assert sorted(answer.json()["revision"] for answer in answers) == list(range(50))
        stored = {e["revision"]: e["configuration"] for e in (await pages(here, "pump")).json()}
        assert stored == {answer.json()["revision"]: at for at, answer in enumerate(answers)}


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        "1",
        '{"configuration": NaN}',
        '{"configuration": 1e999}',
        '{"configuration": -Infinity}',
        '{"configuration": "\\u0000"}',
        '{"configuration": {"\\ud800": 1}}',
        '{"configuration": 18446744073709551616}',
        f'{{"configuration": {"[" * 33}1{"]" * 33}}}',
    ],
)
async def test_what_no_configuration_is(site, body):
    async with site() as here:
        await here.device("pump")
        networks = f"/networks/{default(here)}/configurations"
        for path in ("/sensors/pump/configurations", networks):
            answer = await here.http.post(path, content=body, headers=ADMIN)
            assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
        assert await revisions(here, "pump") == []


async def test_pages_and_their_links(site):
    async with site() as here:
        await here.device("pump")
        for at in range(5):
            await configure(here, "pump", at)
        for query, expected in {
            "": [0, 1, 2, 3, 4],
            "?limit=2": [3, 4],
            "?limit=2&direction=next": [0, 1],
            "?limit=2&revision=1": [2, 3],
            "?limit=2&revision=1&direction=previous": [0],
            "?limit=2&revision=-1": [0, 1],
            "?revision=4": [],
        }.items():
            assert await revisions(here, "pump", query) == expected, query
        seen, path = [], "?limit=2"
        while path:
            page = await pages(here, "pump", path)
            seen = [entry["revision"] for entry in page.json()] + seen
            link = page.links.get("previous")
            path = "?" + link["url"].partition("?")[2] if link else None
        assert seen == [0, 1, 2, 3, 4]
        seen, path = [], "?limit=2&direction=next"
        while path:
            page = await pages(here, "pump", path)
            seen += [entry["revision"] for entry in page.json()]
            link = page.links.get("next")
            path = "?" + link["url"].partition("?")[2] if link else None
        assert seen == [0, 1, 2, 3, 4]
        for query in ("limit=0", "limit=1001", "revision=x", f"revision={2**63}", "direction=up"):
            answer = await here.http.get(f"/sensors/pump/configurations?{query}", headers=ADMIN)
            assert answer.status_code == 422, query


async def test_a_device_pulls_its_current_one(site):
    async with site() as here:
        key, other = await here.device("pump"), await here.device("valve")
        path = "/sensors/pump/configurations/current"
        missing = await here.http.get(path, headers=key)
        assert (missing.status_code, missing.json()["code"]) == (404, "CONFIGURATION_NOT_FOUND")
        await configure(here, "pump", {"a": 1})
        answer = await here.http.get(path, headers=key)
        assert answer.json() == {"revision": 0, "configuration": {"a": 1}}
        tag = answer.headers["etag"]
        for header in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await here.http.get(path, headers={**key, "if-none-match": header})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        await configure(here, "pump", {"a": 2})
        newer = await here.http.get(path, headers={**key, "if-none-match": tag})
        assert (newer.status_code, newer.json()["revision"]) == (200, 1)
        assert newer.headers["etag"] != tag
        foreign = await here.http.get(path, headers=other)
        assert (foreign.status_code, foreign.json()["code"]) == (404, "SENSOR_NOT_FOUND")
        assert (await configure(here, "pump", 1, headers=key)).status_code == 403


async def test_the_tag_of_a_name_that_another_has_taken_is_another(site):
    async with site() as here:
        await here.device("pump")
        await configure(here, "pump", 1)
        path = "/sensors/pump/configurations/current"
        tag = (await here.http.get(path, headers=ADMIN)).headers["etag"]
        renamed = {"device_id": "old"}
        assert (await here.http.patch("/devices/pump", json=renamed, headers=ADMIN)).is_success
        await here.device("pump")
        await configure(here, "pump", 2)
        answer = await here.http.get(path, headers={**ADMIN, "if-none-match": tag})
        assert (answer.status_code, answer.json()["configuration"]) == (200, 2)


async def test_a_network_is_configured_at_once(site):
    async with site() as here:
        for name in ("a", "b", "c"):
            await here.device(name)
        await configure(here, "b", {"interval": 60, "led": True})
        await here.http.delete("/devices/c", headers=ADMIN)
        body = {"patch": {"interval": 5, "led": None}, "dry_run": True}
        tried = await configure_network(here, default(here), body)
        assert tried.status_code == 200
        assert [(e["device_id"], e["revision"], e["configuration"]) for e in tried.json()] == [
            ("a", 0, {"interval": 5}),
            ("b", 1, {"interval": 5}),
        ]
        assert (await revisions(here, "a"), await revisions(here, "b")) == ([], [0])
        done = await configure_network(here, default(here), {**body, "dry_run": False})
        assert (done.status_code, done.json()) == (201, tried.json())
        assert (await pages(here, "b")).json()[-1]["configuration"] == {"interval": 5}
        replaced = await configure_network(here, default(here), {"configuration": None})
        assert [entry["configuration"] for entry in replaced.json()] == [None, None]
        assert await revisions(here, "c") == []


async def test_a_selection_by_any_name_each_once(site):
    async with site() as here:
        for name in ("a", "b", "c"):
            await here.device(name)
        identifier = (await here.http.get("/devices/a", headers=ADMIN)).json()["id"]
        chosen = {"sensors": ["c", identifier.upper(), "a"], "configuration": 1}
        done = await configure_network(here, default(here), chosen)
        assert [entry["device_id"] for entry in done.json()] == ["a", "c"]
        assert [await revisions(here, name) for name in ("a", "b", "c")] == [[0], [], [0]]
        elsewhere = await here.network("elsewhere")
        for network, sensors in (
            (default(here), ["a", "nobody"]),
            (default(here), [str(uuid.uuid4())]),
            (elsewhere, ["a"]),
        ):
            body = {"sensors": sensors, "configuration": 2}
            answer = await configure_network(here, network, body)
            assert (answer.status_code, answer.json()["code"]) == (404, "SENSOR_NOT_FOUND")
        assert [await revisions(here, name) for name in ("a", "b", "c")] == [[0], [], [0]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"configuration": 1, "patch": {}},
        {"configuration": 1, "sensors": []},
        {"configuration": 1, "sensors": "a"},
        {"configuration": 1, "sensors": [1]},
        {"configuration": 1, "sensors": ["\0"]},
        {"configuration": 1, "dry_run": "perhaps"},
        {"configuration": 1, "sensors": ["x"] * 10_001},
    ],
)
async def test_bad_requests_for_a_network(site, body):
    async with site() as here:
        await here.device("a")
        answer = await configure_network(here, default(here), body)
        assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
        assert await revisions(here, "a") == []


async def test_what_it_comes_to_is_bounded(site, monkeypatch):
    async with site() as here:
        for name in ("a", "b"):
            await here.device(name)
        monkeypatch.setattr("heliograph.http.configurations.MAXIMUM_BYTES", 1_000)
        for body in ({"configuration": "x" * 600}, {"patch": {"a": "x" * 600}}):
            answer = await configure_network(here, default(here), body)
            assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
            assert (
                await configure_network(here, default(here), {**body, "sensors": ["a"]})
            ).is_success
        monkeypatch.setattr("heliograph.http.configurations.MAXIMUM_SENSORS", 1)
        answer = await configure_network(here, default(here), {"configuration": 1})
        assert answer.status_code == 413
        monkeypatch.setattr("heliograph.http.configurations.MAXIMUM_PAYLOAD_BYTES", 700)
        grown = {"patch": {"b": "x" * 200}, "sensors": ["a"]}
        assert (await configure_network(here, default(here), grown)).status_code == 413
        assert (await revisions(here, "a"), await revisions(here, "b")) == ([0, 1], [])


async def test_the_rfcs_patches_through_the_route(site):
    async with site() as here:
        await here.device("a")
        for original, patch, result in EXAMPLES:
            await here.http.post(
                "/sensors/a/configurations",
                content=f'{{"configuration": {original}}}',
                headers=ADMIN,
            )
            answer = await here.http.post(
                f"/networks/{default(here)}/configurations",
                content=f'{{"patch": {patch}}}',
                headers=ADMIN,
            )
            assert answer.status_code == 201, answer.text
            current = await here.http.get("/sensors/a/configurations/current", headers=ADMIN)
            assert current.text.endswith(f'"configuration":{result}}}')


async def test_without_mqtt_it_is_published_at_once_and_acknowledged_over_http(site):
    async with site() as here:
        key = await here.device("pump")
        await configure(here, "pump", 1)
        beat = {"revision": 0, "timestamp": 1_700_000_000, "success": False}
        for success, state in ((False, "failed"), (True, "acknowledged"), (False, "acknowledged")):
            beat = {**beat, "timestamp": beat["timestamp"] + 1, "success": success}
            sent = await here.http.post("/sensors/pump/heartbeats", json=beat, headers=key)
            assert sent.status_code == 201
            (entry,) = (await pages(here, "pump")).json()
            assert (entry["state"], entry["success"]) == (state, state == "acknowledged")
        assert entry["acknowledgment_timestamp"] == 1_700_000_002
        assert entry["acknowledgment_duration"] >= 0


async def test_who_made_a_revision(site):
    async with site() as here:
        anna = await here.user("anna")
        network = await here.network("hers", anna="editor")
        body = {"device_id": "pump", "network_identifier": network}
        assert (await here.http.post("/devices", json=body, headers=anna)).status_code == 201
        assert (await configure(here, "pump", 1, headers=anna)).status_code == 201
        await configure_network(here, network, {"configuration": 2}, headers=anna)
        authors = [entry["author"] for entry in (await pages(here, "pump", headers=anna)).json()]
        assert authors == ["user:anna", "user:anna"]


async def test_a_deleted_sensor_gets_no_configuration_and_keeps_its_old_ones(site):
    async with site() as here:
        await here.device("pump-1")
        await here.device("pump-2")
        assert (await configure(here, "pump-1", {"a": 1})).status_code == 201
        deleted = await here.http.delete("/sensors/pump-1", headers=ADMIN)
        assert deleted.status_code == 204
        refused = await configure(here, "pump-1", {"a": 2})
        assert (refused.status_code, refused.json()["code"]) == (404, "SENSOR_NOT_FOUND")
        networks = (await here.http.get("/networks", headers=ADMIN)).json()
        network = networks[0]["network_identifier"]
        for names in (["pump-1"], ["pump-2", "pump-1"]):
            body = {"configuration": {"a": 3}, "sensors": names}
            refused = await configure_network(here, network, body)
            assert (refused.status_code, refused.json()["code"]) == (404, "SENSOR_NOT_FOUND")
        assert await revisions(here, "pump-1") == [0]
        assert await revisions(here, "pump-2") == []
        # One that is out of service is configured for when it is in service again.
        off = await here.http.patch("/sensors/pump-2", json={"is_active": False}, headers=ADMIN)
        assert off.status_code == 200
        assert (await configure(here, "pump-2", {"a": 4})).status_code == 201
