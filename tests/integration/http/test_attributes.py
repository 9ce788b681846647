"""What a sensor has never measured is not found, and nothing is made up for it."""

import re

from integration.http.conftest import ADMIN

READINGS = [
    {"timestamp": 1_700_000_000, "value": {"temperature": 20, "air": {"humidity": 50, "dew": 9}}},
    {"timestamp": 1_700_000_060, "value": {"temperature": "warm", "wind.speed": 3}},
]
RANGE = {"start": 1_700_000_000, "end": 1_700_003_600}


async def filled(here):
    await here.device("pump-1")
    sent = await here.http.post("/sensors/pump-1/measurements", json=READINGS, headers=ADMIN)
    assert sent.json()["accepted"] == 2


async def ask(here, path, **parameters):
    return await here.http.get(path, params=parameters, headers=ADMIN)


WAYS = {
    "/sensors/pump-1/measurements": [{}, {"points": 10, **RANGE}],
    "/devices/pump-1/history": [{}, RANGE, {"points": 10, **RANGE}],
    "/sensors/pump-1/aggregates": [
        RANGE,
        *({"fill": fill, **RANGE} for fill in ("0", "null", "previous", "linear")),
    ],
}


async def test_an_attribute_that_the_sensor_never_had_is_not_found(site):
    async with site() as here:
        await filled(here)
        for name, hint in [
            ("temprature", " (did you mean `temperature`?)"),
            ("temp", " (did you mean `temperature`?)"),
            ("Temperature", " (did you mean `temperature`?)"),
            ("humidity", " (did you mean `air.humidity`?)"),
            ("air", " (did you mean `air.dew` or `air.humidity`?)"),
            ("wind.speed", " (did you mean `wind\\.speed`?)"),
            ("x", " (there are air.dew, air.humidity, temperature, wind\\.speed)"),
            ("x" * 80, " (there are air.dew, air.humidity, temperature, wind\\.speed)"),
        ]:
            shown = name if len(name) <= 40 else name[:40] + "…"
            expected = {
                "detail": f"Attribute {shown!r}{hint} not found",
                "code": "ATTRIBUTE_NOT_FOUND",
            }
            for path, ways in WAYS.items():
                for parameters in ways:
                    answer = await ask(here, path, attribute=name, **parameters)
                    assert (answer.status_code, answer.json()) == (404, expected), parameters


async def test_one_unknown_attribute_among_others_is_named(site):
    async with site() as here:
        await filled(here)
        names = ["temperature", "air.humidty", "wnd"]
        answer = await ask(here, "/sensors/pump-1/aggregates", attribute=names, **RANGE)
        assert answer.status_code == 404
        told = answer.json()["detail"]
        assert re.findall(r"'(.*?)'", told) == ["air.humidty", "wnd"]
        assert "`air.humidity`" in told


async def test_an_attribute_that_the_sensor_had_is_found_though_not_in_the_range(site):
    async with site() as here:
        await filled(here)
        later = {"start": 1_800_000_000, "end": 1_800_003_600}
        for name in ("temperature", "air.dew", "wind\\.speed", "\\temperature"):
            for path, ways in WAYS.items():
                for parameters in ways:
                    at = later if "start" in parameters else {}
                    answer = await ask(here, path, attribute=name, **{**parameters, **at})
                    assert answer.status_code == 200, answer.text
        pages = await ask(here, "/sensors/pump-1/measurements", attribute="wind\\.speed")
        assert [each["measurement"] for each in pages.json()] == [{"wind.speed": 3}]


async def test_a_sensor_that_measured_nothing_has_no_attribute(site):
    async with site() as here:
        await here.device("pump-1")
        answer = await ask(here, "/sensors/pump-1/aggregates", attribute="t", fill="0")
        assert answer.json() == {"detail": "Attribute 't' not found", "code": "ATTRIBUTE_NOT_FOUND"}
        assert (await ask(here, "/sensors/nobody/aggregates", attribute="t")).json()["code"] == (
            "SENSOR_NOT_FOUND"
        )


async def test_what_another_instance_has_stored_is_found(site, database_url):
    async with site(database_url=database_url) as here:
        await filled(here)
        # As if another server on the database had taken the measurements.
        here.services.registry.cached("pump-1").attributes.clear()
        answer = await ask(here, "/sensors/pump-1/measurements", attribute="temperature")
        assert len(answer.json()) == 2


async def test_of_a_sensor_with_more_attributes_than_are_known_any_may_be_there(site, monkeypatch):
    async with site() as here:
        monkeypatch.setattr("heliograph.ingest.attributes.MAXIMUM_ATTRIBUTES_OF_SENSOR", 2)
        monkeypatch.setattr("heliograph.http.attributes.MAXIMUM_ATTRIBUTES_OF_SENSOR", 2)
        await filled(here)
        answer = await ask(here, "/sensors/pump-1/measurements", attribute="wind\\.speed")
        assert [each["measurement"] for each in answer.json()] == [{"wind.speed": 3}]


async def test_every_range_that_starts_after_its_end_is_refused(site):
    async with site() as here:
        await filled(here)
        document = (await here.http.get("/openapi.json")).json()
        asked = 0
        rule = {"name": "hot", "condition": {"attribute": "temperature", "above": 30}}
        made = (await here.http.post("/rules", json=rule, headers=ADMIN)).json()
        network = here.services.registry.default_network
        for template, operations in document["paths"].items():
            path = template.replace("{network_identifier}", network)
            path = path.replace("{rule_id}", made["id"])
            path = re.sub(r"\{\w+\}", "pump-1", path)
            for method, operation in operations.items():
                names = {each["name"] for each in operation.get("parameters", ())}
                if not {"start", "end"} <= names:
                    continue
                asked += 1
                more = {"points": 10, "attribute": "temperature"} if "points" in names else {}
                if template.startswith("/api/v1/rules/"):
                    more = {"sensor": "pump-1"}
                body = rule if "requestBody" in operation else None
                for start, end, status in ((6, 5, 422), (5, 5, 200), (5, 6, 200)):
                    answer = await here.http.request(
                        method,
                        path,
                        params={"start": start, "end": end, **more},
                        json=body,
                        headers=ADMIN,
                    )
                    assert answer.status_code == status, (path, answer.text)
                    if status == 422:
                        (problem,) = answer.json()["detail"]
                        assert problem["loc"] == ["query", "start"]
                        assert problem["msg"] == "start is after end"
        assert asked >= 8
