"""Lists by offset: bounded in rows and in bytes, and made a part at a time beside other work."""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from fastapi import Depends, Query
from starlette.responses import Response

from heliograph.http.answers import Answer, encode
from heliograph.http.bodies import HeldBytes
from heliograph.http.representation import representations
from heliograph.http.resources import KnownCall
from heliograph.http.schemas import ListLimit, Offset, Tag, Text
from heliograph.http.services import Services
from heliograph.store.pages import LARGEST_PAGE
from heliograph.store.sensors import NOTHING_UNWRITTEN

# Read and encoded at a time, at first and at most. One may come to 7 KB, of six texts of 255
# characters, and takes some times that while it is made.
ENTRIES_AT_FIRST = 64
ENTRIES_AT_ONCE = 1_000
BYTES_AT_ONCE = 1 << 20

# Returns up to so many entries from an offset on, as they are shown, and how many there are.
Read: TypeAlias = Callable[[int, int], Awaitable[tuple[Sequence[Any], int]]]


Sort = Literal[
    "created_at",
    "-created_at",
    "device_id",
    "-device_id",
    "sensor_name",
    "-sensor_name",
    "name",
    "-name",
    "serial_number",
    "-serial_number",
    "manufacturer",
    "-manufacturer",
    "model",
    "-model",
    "modality",
    "-modality",
    "last_seen_at",
    "-last_seen_at",
    "last_measurement_at",
    "-last_measurement_at",
]


def _only(which: str) -> Any:
    return Query(description=f"Only those {which}")


@dataclasses.dataclass
class SensorFilters:
    """Which sensors are listed, and in which order; FastAPI collects it."""

    offset: Offset = 0
    limit: ListLimit = 1_000
    serial_number: Annotated[Text | None, _only("of this serial number")] = None
    manufacturer: Annotated[Text | None, _only("of this maker")] = None
    model: Annotated[Text | None, _only("of this model")] = None
    modality: Annotated[Text | None, _only("that measure this")] = None
    node_id: Annotated[Text | None, _only("that this node carries, by its UUID")] = None
    tag: Annotated[list[Tag] | None, _only("with this tag; given again: with all of them")] = None
    text: Annotated[
        Text | None,
        _only(
            "with this text, in any case, in `id`, `device_id`, `sensor_name`, `name`,"
            " `serial_number`, `manufacturer`, `model` or `modality`"
        ),
    ] = None
    connected: Annotated[bool | None, _only("that are connected; false: all others")] = None
    late: Annotated[
        bool | None,
        _only(
            "of which nothing was seen for longer than their `expected_interval`; false: all others"
        ),
    ] = None
    sort: Annotated[
        Sort | None,
        Query(
            description="In the order of this member, with `-` from the greatest on; those"
            " without it come last. By default in the order of their creation"
        ),
    ] = None

    @property
    def which(self) -> dict[str, Any]:
        """What is asked for, as the store takes it."""
        members = dict(vars(self))
        node = members.pop("node_id")
        tags = members.pop("tag") or ()
        del members["offset"], members["limit"]
        node = None if node is None else node.lower()
        return {**members, "tags": tags, "node_identifier": node}


Filters = Annotated[SensorFilters, Depends()]


class Listed(NamedTuple):
    """A part of a list as JSON, in pieces: where it ends, and how many entries there are."""

    pieces: list[bytes]
    end: int
    total: int


def sensors(services: Services, **which: Any) -> Read:
    """Return what reads sensors: `which` of them is what the store's list takes."""
    asks_memory = any(which.get(name) is not None for name in ("connected", "late", "sort"))
    unwritten = services.registry.unwritten() if asks_memory else NOTHING_UNWRITTEN

    async def read(offset: int, limit: int) -> tuple[Sequence[Any], int]:
        found, total = await services.store.sensors.list(
            offset=offset, limit=limit, unwritten=unwritten, **which
        )
        return await representations(found, services), total

    return read


async def gather(held: HeldBytes, offset: int, limit: int, read: Read) -> Listed:
    """Return up to `limit` entries; it ends early where it would exceed 16 MiB.

    Raises:
        HeliographError: TOO_MANY_LARGE_ANSWERS.
    """
    pieces: list[bytes] = []
    at, stop, size, is_over, count = offset, offset + limit, 0, False, ENTRIES_AT_FIRST
    while not is_over:
        wanted = min(count, stop - at)
        entries, total = await read(at, wanted)
        text = encode(entries)[1:-1]
        if pieces and size + len(text) > LARGEST_PAGE:
            break
        if entries:
            pieces.append((b"," if pieces else b"[") + text)
        size += len(text)
        held.at_least(size)
        at += len(entries)
        is_over = len(entries) < wanted or at >= stop
        average = size // max(at - offset, 1) + 1
        count = min(ENTRIES_AT_ONCE, max(1, BYTES_AT_ONCE // average))
    pieces.append(b"]" if pieces else b"[]")
    return Listed(pieces, at, total)


async def listed(call: KnownCall, offset: int, limit: int, read: Read) -> Response:
    """Answer with a part of a list, how long the list is, and a link to where it goes on.

    Raises:
        HeliographError: as `gather`.
    """
    found = await gather(call.held, offset, limit, read)
    headers = [(b"x-total-count", b"%d" % found.total)]
    if offset < found.end < found.total:
        query = [each for each in call.request.query_params.multi_items() if each[0] != "offset"]
        headers.append(call.link_to_next([*query, ("offset", found.end)]))
    return Answer(200, found.pieces, headers)


async def listed_sensors(
    call: KnownCall,
    filters: SensorFilters,
    networks: Sequence[str] | None,
    *,
    only_devices: bool = False,
) -> Response:
    """Answer with a part of the list of sensors of these networks; None: of all.

    Raises:
        HeliographError: as `gather`.
    """
    read = sensors(call.services, networks=networks, only_devices=only_devices, **filters.which)
    return await listed(call, filters.offset, filters.limit, read)
