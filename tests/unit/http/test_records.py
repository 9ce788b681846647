"""A record's one definition: its JSON, and what OpenAPI says of it."""

from typing import Annotated, Any

import msgspec
import pytest

from heliograph.http import application  # noqa: F401 - loads all records
from heliograph.http.members import Body
from heliograph.http.records import Representation, components, descriptions, errors, ok
from heliograph.http.schemas import Text


class Buoy(Representation):
    """A buoy."""

    name: Annotated[str, "What people call it"]
    depth: Annotated[float | None, "Metres of water below it; null: not known"]
    moored_at: Annotated[str | None, "When it was moored (RFC 3339); absent: it drifts"] = None


class BuoyChange(Body):
    representation = Buoy
    is_change = True

    name: Text = ""


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    ok(Buoy)
    return components()


def test_what_is_described_is_what_is_encoded(schemas):
    shown = msgspec.json.decode(msgspec.json.encode(Buoy("north", 3.5)))
    assert schemas["Buoy"]["properties"].keys() == shown.keys()
    assert schemas["Buoy"]["required"] == ["name", "depth"]
    assert schemas["Buoy"]["properties"]["depth"]["description"].startswith("Metres of water")
    assert {"type": "null"} in schemas["Buoy"]["properties"]["depth"]["anyOf"]
    assert "default" not in schemas["Buoy"]["properties"]["moored_at"]


def test_every_member_of_every_record_is_described(schemas):
    assert len(schemas) > 30
    bare = [
        (name, member)
        for name, schema in schemas.items()
        for member, said in schema.get("properties", {}).items()
        if not isinstance(said.get("description"), str)
    ]
    assert bare == []


def test_an_answer_refers_to_the_record_that_it_shows():
    content = ok(list[Buoy], 201)[201]["content"]["application/json"]["schema"]
    assert content == {"type": "array", "items": {"$ref": "#/components/schemas/Buoy"}}
    (error,) = errors(404).values()
    schema = error["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}


def test_a_change_takes_its_descriptions_from_the_record_and_the_rest_as_read_only():
    properties = BuoyChange.model_json_schema()["properties"]
    assert properties["name"]["description"] == descriptions(Buoy)["name"]
    assert properties["depth"] == {"readOnly": True, "description": descriptions(Buoy)["depth"]}
