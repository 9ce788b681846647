"""Annotations as they are stored: each belongs to a sensor, and goes with its record."""

from typing import Any

import msgspec
from msgspec.structs import replace

from heliograph.model.annotation import MAXIMUM_ANNOTATIONS, Annotation
from heliograph.model.audit import SYSTEM, Actor, AuditAction
from heliograph.model.sensor import Sensor
from heliograph.model.time import to_rfc3339
from heliograph.store.audit import Changes, audited_change, enter
from heliograph.store.engine import Subject, Transaction
from heliograph.store.sensors import lock_sensor

_TIMES = {"starts_at": "start", "ends_at": "end"}


class TooManyAnnotationsError(Exception):
    """The sensor has `MAXIMUM_ANNOTATIONS`."""


class Annotations(Subject):
    """The annotations of all sensors."""

    async def page(
        self, sensor: int, *, start: int | None, end: int | None, offset: int, limit: int
    ) -> tuple[list[Annotation], int]:
        """Return a page of the sensor's annotations, by when they start, and how many there are.

        They are those about any of the time from `start` up to `end`, in microseconds; None: at
        all.
        """
        which = {"sensor": sensor, "start": start, "end": end}
        return await self._page(Annotation, "annotations", which, offset=offset, limit=limit)

    async def find(self, identifier: str, sensor: int) -> Annotation | None:
        """Return the sensor's annotation with this UUID (in any case)."""
        return await self._one(
            Annotation, "annotation_find", identifier=identifier.lower(), sensor=sensor
        )

    async def create(self, annotation: Annotation, *, actor: Actor = SYSTEM) -> Annotation | None:
        """Keep a new annotation; None: there is no such sensor.

        Raises:
            TooManyAnnotationsError: the sensor has as many as it may.
        """

        async def work(transaction: Transaction) -> Annotation | None:
            sensor = await lock_sensor(transaction, annotation.sensor)
            if sensor is None:
                return None
            [(count,)] = await transaction.fetch(
                "annotations_count", sensor=sensor.number, start=None, end=None
            )
            if count >= MAXIMUM_ANNOTATIONS:
                raise TooManyAnnotationsError
            await transaction.fetch("annotation_create", **msgspec.structs.asdict(annotation))
            await _enter(transaction, actor, AuditAction.ANNOTATION_CREATE, annotation, sensor)
            return annotation

        return await self._engine.change(work)

    async def change(
        self, annotation: Annotation, *, changed_at: int, actor: Actor = SYSTEM, **members: Any
    ) -> Annotation | None:
        """Change the members given; None: there is none any more. What is equal is not written."""

        async def work(transaction: Transaction) -> Annotation | None:
            sensor, before = await _locked(transaction, annotation)
            if sensor is None or before is None:
                return None
            if all(getattr(before, name) == value for name, value in members.items()):
                return before
            after = replace(before, **members, changed_at=changed_at)
            await transaction.fetch(
                "annotation_change",
                identifier=after.identifier,
                text=after.text,
                starts_at=after.starts_at,
                ends_at=after.ends_at,
                attribute=after.attribute,
                changed_at=after.changed_at,
            )
            changes = _changes(before, after)
            action = AuditAction.ANNOTATION_CHANGE
            await _enter(transaction, actor, action, after, sensor, changes)
            return after

        return await self._engine.change(work)

    async def delete(self, annotation: Annotation, *, actor: Actor = SYSTEM) -> bool:
        """Delete an annotation; tell whether there was one."""

        async def work(transaction: Transaction) -> bool:
            sensor, before = await _locked(transaction, annotation)
            if sensor is None or before is None:
                return False
            await transaction.fetch("annotation_delete", identifier=before.identifier)
            await _enter(transaction, actor, AuditAction.ANNOTATION_DELETE, before, sensor)
            return True

        return await self._engine.change(work)


async def _locked(
    transaction: Transaction, annotation: Annotation
) -> tuple[Sensor | None, Annotation | None]:
    """Lock an annotation's sensor, as whoever erases it does, and read the annotation again."""
    sensor = await lock_sensor(transaction, annotation.sensor)
    rows = await transaction.fetch(
        "annotation_find", identifier=annotation.identifier, sensor=annotation.sensor
    )
    return sensor, Annotation(*rows[0]) if rows else None


def _changes(before: Annotation, after: Annotation) -> Changes:
    """Return what differs, for the audit log: the text alone stays out, which may be erased."""
    changes: Changes = {}
    if before.text != after.text:
        changes["text"] = {}
    for name, shown in _TIMES.items():
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            changes[shown] = {
                "old": None if old is None else to_rfc3339(old),
                "new": None if new is None else to_rfc3339(new),
            }
    if before.attribute != after.attribute:
        changes["attribute"] = {"old": before.attribute, "new": after.attribute}
    return changes


async def _enter(
    transaction: Transaction,
    actor: Actor,
    action: AuditAction,
    annotation: Annotation,
    sensor: Sensor,
    changes: Changes | None = None,
) -> None:
    """Enter what was done, by the sensor's name: the text goes when the sensor is erased."""
    change = audited_change(action, sensor, changes or {})
    await enter(transaction, actor, [replace(change, identifier=annotation.identifier)])
