"""Annotations: what people know of a time, beside what a sensor measured then."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import not_found
from heliograph.http.lists import listed
from heliograph.http.members import Body
from heliograph.http.ranges import check_order
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Refusals, Resource, TheCall, found, refusals
from heliograph.http.schemas import End, ListLimit, Offset, Start, Storable, Time
from heliograph.ingest.attributes import LONGEST_NAME
from heliograph.model.annotation import LONGEST_ANNOTATION, MAXIMUM_ANNOTATIONS, Annotation
from heliograph.model.time import now, to_rfc3339
from heliograph.store.annotations import TooManyAnnotationsError

router = Resource("sensors", "/sensors/{identifier}/annotations")

REFUSALS: Refusals = {
    TooManyAnnotationsError: (
        ErrorCode.TOO_MANY_ANNOTATIONS,
        f"The sensor has {MAXIMUM_ANNOTATIONS:,} annotations already: delete some",
    )
}
Words = Annotated[str, Field(min_length=1, max_length=LONGEST_ANNOTATION), Storable]
AttributeName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), Storable]
# By the names that the API gives them, as the store has them.
_COLUMNS = {"text": "text", "start": "starts_at", "end": "ends_at", "attribute": "attribute"}


class AnnotationRepresentation(Representation):
    """An annotation."""

    id: Annotated[str, "Its UUID"]
    sensor_identifier: Annotated[str, "The UUID of its sensor"]
    text: Annotated[str, "What somebody knows of that time"]
    start: Annotated[str, "The moment that it is about, or when its span starts (RFC 3339, UTC)"]
    end: Annotated[
        str | None, "When its span ends, exclusive (RFC 3339, UTC); null: it is about a moment"
    ]
    attribute: Annotated[
        str | None, "The name of the attribute that it is about; null: all of the sensor"
    ]
    author: Annotated[str | None, "Who made it, as in the audit log"]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]
    changed_at: Annotated[str, "When it was changed last (RFC 3339, UTC)"]

    @classmethod
    def of(cls, annotation: Annotation, sensor_identifier: str) -> Self:
        """Return the annotation as it is shown."""
        return cls(
            annotation.identifier,
            sensor_identifier,
            annotation.text,
            to_rfc3339(annotation.starts_at),
            None if annotation.ends_at is None else to_rfc3339(annotation.ends_at),
            annotation.attribute,
            annotation.author,
            to_rfc3339(annotation.created_at),
            to_rfc3339(annotation.changed_at),
        )


class NewAnnotation(Body):
    """A remark on a moment, or on a span of time."""

    representation = AnnotationRepresentation

    text: Words
    start: Time = Field(
        description="The moment that it is about, or when its span starts: epoch seconds or RFC"
        " 3339"
    )
    end: Time | None = Field(
        default=None,
        description="When its span ends, exclusive: epoch seconds or RFC 3339; null: it is about"
        " a moment",
    )
    attribute: AttributeName | None = None


class AnnotationChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = AnnotationRepresentation
    is_change = True

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    text: Words = Field(default_factory=str)
    start: Time = Field(default_factory=int)
    end: Time | None = None
    attribute: AttributeName | None = None


@router.route("", "POST", faults=[404, 409])
async def create_annotation(
    identifier: str, new: NewAnnotation, call: TheCall
) -> AnnotationRepresentation:
    """Remark something on a moment or a span of a sensor's time."""
    sensor = await call.changeable(identifier, Action.CONFIGURE)
    _check(new.start, new.end)
    moment = now()
    annotation = Annotation(
        str(uuid.uuid4()),
        sensor.number,
        new.text,
        new.start,
        new.end,
        new.attribute,
        call.actor.name,
        moment,
        moment,
    )
    with refusals(REFUSALS):
        made = await call.store.annotations.create(annotation, actor=call.actor)
    return AnnotationRepresentation.of(found(made, ErrorCode.SENSOR_NOT_FOUND), sensor.identifier)


@router.route("", "GET", shown=list[AnnotationRepresentation])
async def list_annotations(
    identifier: str,
    call: TheCall,
    start: Start = None,
    end: End = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List a sensor's annotations about any of a time, by when they start.

    `X-Total-Count` says how many there are.
    """
    sensor = await call.readable(identifier)
    check_order(start, end)

    async def read(offset: int, limit: int) -> tuple[Sequence[AnnotationRepresentation], int]:
        page, total = await call.store.annotations.page(
            sensor.number, start=start, end=end, offset=offset, limit=limit
        )
        return [AnnotationRepresentation.of(each, sensor.identifier) for each in page], total

    return await listed(call, offset, limit, read)


@router.route("/{annotation_id}", "GET")
async def read_annotation(
    identifier: str, annotation_id: str, call: TheCall
) -> AnnotationRepresentation:
    """Read an annotation."""
    sensor = await call.readable(identifier)
    annotation = await _found(call, sensor.number, annotation_id)
    return AnnotationRepresentation.of(annotation, sensor.identifier)


@router.route("/{annotation_id}", "PUT", "PATCH")
async def change_annotation(
    identifier: str, annotation_id: str, change: AnnotationChange, call: TheCall
) -> AnnotationRepresentation:
    """Change an annotation; members that are absent stay as they are."""
    sensor = await call.changeable(identifier, Action.CONFIGURE)
    annotation = await _found(call, sensor.number, annotation_id)
    change.check_read_only(AnnotationRepresentation.of(annotation, sensor.identifier))
    given = change.model_dump(include=change.model_fields_set)
    members = {_COLUMNS[name]: value for name, value in given.items()}
    _check(
        members.get("starts_at", annotation.starts_at), members.get("ends_at", annotation.ends_at)
    )
    changed = await call.store.annotations.change(
        annotation, changed_at=now(), actor=call.actor, **members
    )
    return AnnotationRepresentation.of(
        found(changed, ErrorCode.ANNOTATION_NOT_FOUND), sensor.identifier
    )


@router.route("/{annotation_id}", "DELETE")
async def delete_annotation(identifier: str, annotation_id: str, call: TheCall) -> None:
    """Delete an annotation."""
    sensor = await call.changeable(identifier, Action.CONFIGURE)
    annotation = await _found(call, sensor.number, annotation_id)
    if not await call.store.annotations.delete(annotation, actor=call.actor):
        raise not_found(ErrorCode.ANNOTATION_NOT_FOUND)


def _check(start: int, end: int | None) -> None:
    """Check what an annotation is about.

    Raises:
        HeliographError: VALIDATION_FAILED.
    """
    if end is not None and end <= start:
        raise HeliographError(ErrorCode.VALIDATION_FAILED, "end should be after start")


async def _found(call: KnownCall, sensor: int, annotation_id: str) -> Annotation:
    """Return the annotation of the sensor of this number.

    Raises:
        HeliographError: ANNOTATION_NOT_FOUND.
    """
    annotation = await call.store.annotations.find(annotation_id, sensor)
    return found(annotation, ErrorCode.ANNOTATION_NOT_FOUND)
