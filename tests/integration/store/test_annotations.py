"""Annotations, on both engines."""

import uuid

import pytest
from msgspec.structs import replace

from heliograph.model.annotation import Annotation
from heliograph.model.audit import Actor, ActorKind
from heliograph.store import annotations as annotations_module
from heliograph.store.annotations import TooManyAnnotationsError
from rows import NOON

ALICE = Actor(ActorKind.USER, "alice", "::1")


@pytest.fixture
async def sensor(store):
    return await store.sensors.create(identifier=str(uuid.uuid4()), device_id="pump", created_at=1)


def annotation(sensor, start=NOON, end=None, text="Moved"):
    identifier = str(uuid.uuid4())
    return Annotation(identifier, sensor, text, start, end, "flow", "alice", NOON, NOON)


async def test_an_annotation_is_kept_changed_and_deleted_and_each_is_entered(store, sensor):
    annotations, number = store.annotations, sensor.number
    made = annotation(number)
    assert await annotations.create(made, actor=ALICE) == made
    assert await annotations.find(made.identifier.upper(), number) == made
    # It is another sensor's as little as nobody's.
    assert await annotations.find(made.identifier, number + 1) is None
    same = await annotations.change(made, changed_at=NOON + 1, text="Moved", ends_at=None)
    assert same == made
    members = {"text": "Cleaned", "ends_at": NOON + 5}
    after = await annotations.change(made, changed_at=NOON + 2, actor=ALICE, **members)
    assert after == replace(made, **members, changed_at=NOON + 2)
    assert await annotations.find(made.identifier, number) == after
    assert await annotations.delete(made, actor=ALICE)
    assert not await annotations.delete(made, actor=ALICE)
    assert await annotations.change(made, changed_at=NOON, text="x") is None
    entries = await store.audit.list(resource=made.identifier, limit=10)
    assert [each.action for each in entries] == [
        "annotation.delete",
        "annotation.change",
        "annotation.create",
    ]
    assert {each.resource_name for each in entries} == {"pump"}
    changes = b'{"text":{},"end":{"old":null,"new":"2026-01-15T12:00:00.000005Z"}}'
    assert bytes(entries[1].changes) == changes


async def test_those_about_any_of_a_time_are_found(store, sensor):
    moment, span = annotation(sensor.number, NOON + 10), annotation(sensor.number, NOON, NOON + 10)
    for each in (moment, span):
        await store.annotations.create(each)
    for start, end, expected in (
        (None, None, [span, moment]),
        (None, NOON, []),
        (None, NOON + 1, [span]),
        (NOON + 9, NOON + 10, [span]),
        (NOON + 9, NOON + 11, [span, moment]),
        (NOON + 10, None, [moment]),
        (NOON + 11, None, []),
    ):
        found = await store.annotations.page(
            sensor.number, start=start, end=end, offset=0, limit=10
        )
        assert found == (expected, len(expected)), (start, end)
    which = {"start": None, "end": None, "offset": 1, "limit": 10}
    assert await store.annotations.page(sensor.number, **which) == ([moment], 2)


async def test_a_sensor_has_so_many_and_they_go_with_its_record(store, sensor, monkeypatch):
    monkeypatch.setattr(annotations_module, "MAXIMUM_ANNOTATIONS", 1)
    made = await store.annotations.create(annotation(sensor.number))
    with pytest.raises(TooManyAnnotationsError):
        await store.annotations.create(annotation(sensor.number))
    assert await store.annotations.create(annotation(sensor.number + 1)) is None
    await store.sensors.delete(sensor.number, NOON)
    assert await store.annotations.find(made.identifier, sensor.number) == made
    await store.sensors.delete(sensor.number, NOON, erases=True)
    await store.sensors.erase(sensor.number)
    assert await store.annotations.find(made.identifier, sensor.number) is None
