"""Downloading what was measured, logged and confirmed, whole."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode
from heliograph.exchange.formats import (
    MEDIA_TYPES,
    Format,
    FormatUnavailableError,
    TableLayout,
    heading,
    parquet,
    without_wide,
)
from heliograph.exchange.pages import (
    EncodedPage,
    Range,
    one_sensor,
    pages,
    sensors_of,
    wide_columns,
)
from heliograph.exchange.wide import Wide
from heliograph.http.access import bearer
from heliograph.http.csv_answers import Spreadsheet
from heliograph.http.errors import validation_error
from heliograph.http.export_streams import ExportResponse, ExportSlots, in_turn
from heliograph.http.paths import PREFIX
from heliograph.http.ranges import check_order
from heliograph.http.resources import KnownCall, TheCall, not_found
from heliograph.http.schemas import End, Start
from heliograph.http.services import Services
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.model.time import LATEST, OLDEST
from heliograph.store import Store
from heliograph.store.telemetry import ExportedSensor

if TYPE_CHECKING:
    from heliograph.exchange.parquet import Packing

router = APIRouter(prefix=PREFIX)

_TEXT = {"schema": {"type": "string"}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rows, streamed; a failure on the way ends the connection early",
        "content": {
            "text/csv": _TEXT,
            "application/x-ndjson": _TEXT,
            "application/vnd.apache.parquet": _BINARY,
            "application/gzip": _BINARY,
        },
    },
}


class Wanted:
    """What is to be exported, and how."""

    def __init__(
        self,
        request: Request,
        form: Annotated[
            Format,
            Query(alias="format", description="`csv`, `parquet`: one kind a file; `jsonl`: any"),
        ] = Format.CSV,
        kind: Annotated[
            list[Literal["measurement", "log", "heartbeat"]] | None,
            Query(description="Repeatable with `jsonl`; measurements unless told otherwise"),
        ] = None,
        start: Start = None,
        end: End = None,
        layout: Annotated[
            TableLayout,
            Query(
                description="`csv`, `parquet`: `records` has the value as JSON in one column,"
                " `wide` a column for each attribute (measurements only)"
            ),
        ] = TableLayout.RECORDS,
        spreadsheet: Spreadsheet = False,
        compress: Annotated[
            Literal["gzip"] | None,
            Query(description="`gzip`: answer a `.gz` file, whatever Accept-Encoding says"),
        ] = None,
    ) -> None:
        check_order(start, end)
        kinds = tuple(Kind(name) for name in dict.fromkeys(kind or ["measurement"]))
        if form.has_one_kind and len(kinds) > 1:
            raise _refused("kind", f"{form.value} has one kind a file; jsonl takes several")
        if form is Format.PARQUET and compress is not None:
            raise _refused("compress", "parquet is compressed in itself")
        if form is not Format.CSV and spreadsheet:
            raise _refused("spreadsheet", "csv only")
        if layout is TableLayout.WIDE and (problem := without_wide(form, kinds)):
            raise _refused("layout", problem)
        self.form = form
        self.layout = layout
        self.spreadsheet = spreadsheet
        self.range = Range(
            kinds, OLDEST if start is None else start, LATEST + 1 if end is None else end
        )
        self.archive = compress is not None
        self.encoded = not self.archive and form is not Format.PARQUET and _accepts_gzip(request)

    async def columns(self, store: Store, sensors: AsyncIterator[ExportedSensor]) -> Wide | None:
        """Return the columns for the sensors' attributes; None: none are wanted."""
        if self.layout is not TableLayout.WIDE:
            return None
        typed = self.form is Format.PARQUET
        return await wide_columns(store, sensors, typed=typed, spreadsheet=self.spreadsheet)

    def pages(
        self, store: Store, sensors: AsyncIterator[ExportedSensor], wide: Wide | None
    ) -> AsyncGenerator[EncodedPage, None]:
        """Return what is wanted of the sensors."""
        return pages(store, sensors, self.range, self.form, spreadsheet=self.spreadsheet, wide=wide)

    def headers(self, name: str) -> dict[str, str]:
        """Return the answer's headers; `name` is what the file is called after."""
        kind = "-".join(kind.value for kind in self.range.kinds)
        suffix = ".gz" if self.archive else ""
        headers = {
            "Content-Type": "application/gzip" if self.archive else MEDIA_TYPES[self.form],
            "Content-Disposition": (
                f'attachment; filename="heliograph-{name}-{kind}.{self.form.value}{suffix}"'
            ),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
        }
        if self.encoded:
            headers["Content-Encoding"] = "gzip"
        return headers


def _refused(parameter: str, message: str) -> Exception:
    return validation_error(("query", parameter), "value_error", message)


def _accepts_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").split(","):
        name, _, weight = part.strip().partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


Export = Annotated[Wanted, Depends()]


@router.get(
    "/sensors/{identifier}/export", tags=["sensors"], response_class=Response, responses=_ANSWER
)
async def export_sensor(identifier: str, wanted: Export, call: TheCall) -> Response:
    """Download a sensor's data, oldest first, streamed.

    Times are exact and values are as stored, so that what is imported again changes nothing.
    """
    permit = _Permit(call)
    known = await call.readable(identifier)
    sensor = ExportedSensor(known.number, known.identifier, known.device_id)

    async def may_read(_number: int) -> bool:
        if (caller := await permit.renewed()) is not None:
            await call.access.readable(caller, known.identifier)
        return True

    export = _Export(wanted, call.services, lambda: one_sensor(sensor), may_read)
    return await _answer(call, export, known.device_id or known.identifier)


@router.get(
    "/networks/{network_identifier}/export",
    tags=["networks"],
    response_class=Response,
    responses=_ANSWER,
)
async def export_network(network_identifier: str, wanted: Export, call: TheCall) -> Response:
    """Download the data of all sensors of a network, one sensor after the other, streamed.

    What was kept of deleted sensors is downloaded from them alone.
    """
    permit = _Permit(call)
    network = await call.network(network_identifier)

    async def may_read(number: int) -> bool:
        if (caller := await permit.renewed()) is not None:
            await call.access.network(caller, network.identifier, Action.VIEW)
        if not permit.has_changed:
            return True
        sensor = await call.registry.find_number(number)
        return sensor is not None and sensor.network_identifier == network.identifier

    sensors = functools.partial(sensors_of, call.store, network.identifier)
    return await _answer(
        call, _Export(wanted, call.services, sensors, may_read), network.identifier
    )


class _Permit:
    """What a caller was allowed when they began, asked again as often as it may have ended."""

    def __init__(self, call: KnownCall) -> None:
        self.has_changed = False
        self._access = call.access
        self._scope = call.request.scope
        self._caller = call.caller
        self._generation = call.registry.generation

    async def renewed(self) -> Principal | None:
        """Return the caller if rights may have changed since the last time; None: they have not.

        Raises:
            HeliographError: the credential has ended.
        """
        if not self._access.may_have_ended(self._caller, self._generation):
            return None
        self.has_changed = True
        self._generation = self._access.registry.generation
        self._caller = await self._access.caller(self._scope)
        return self._caller


class _Export(NamedTuple):
    """What is exported of which sensors, and whether the caller may still read one of them."""

    wanted: Wanted
    services: Services
    sensors: Callable[[], AsyncIterator[ExportedSensor]]
    may_read: Callable[[int], Awaitable[bool]]

    async def _permitted(
        self, rows: AsyncGenerator[EncodedPage, None]
    ) -> AsyncGenerator[EncodedPage, None]:
        """Yield the pages of sensors for as long as the caller may read them.

        One that has left the network before its first page is left out.

        Raises:
            HeliographError: the right has ended; a sensor has left amid its pages.
        """
        began = 0
        async with aclosing(rows):
            async for page in rows:
                number = page.position.sensor
                if await self.may_read(number):
                    began = number
                    yield page
                elif number == began:
                    raise not_found(ErrorCode.SENSOR_NOT_FOUND)

    async def pieces(self, slots: ExportSlots) -> AsyncGenerator[bytes, None]:
        """Yield the file."""
        wanted, store = self.wanted, self.services.store
        kind = wanted.range.kinds[0]
        packing = await _packing() if wanted.form is Format.PARQUET else None
        wide = await wanted.columns(store, self.sensors())
        rows = self._permitted(wanted.pages(store, self.sensors(), wide))
        rows = in_turn(rows, slots, self.services.posts.state)
        if packing is None:
            begin = heading(wanted.form, kind, spreadsheet=wanted.spreadsheet, wide=wide)
            data = _data(rows)
        else:
            begin, data = b"", _packed(packing(kind, wide), rows)
        async with aclosing(data):
            yield begin + await anext(data, b"")
            async for piece in data:
                yield piece


async def _answer(call: KnownCall, export: _Export, name: str) -> Response:
    slots: ExportSlots = call.request.app.state.exports
    wanted, services = export.wanted, export.services
    pieces = _in_a_slot(slots, bearer(call.caller, call.request.scope), export.pieces(slots))
    # The first page before the answer begins: a database that is away is still a 503.
    beginning = await anext(pieces)
    compress = wanted.archive or wanted.encoded
    return ExportResponse(
        beginning,
        pieces,
        wanted.headers(name),
        compress=compress,
        is_ending=lambda: services.streams.closing,
    )


async def _packing() -> "type[Packing]":
    try:
        module = await asyncio.to_thread(parquet)
    except FormatUnavailableError as error:
        raise _refused("format", str(error)) from None
    packing: type[Packing] = module.Packing
    return packing


async def _data(rows: AsyncGenerator[EncodedPage, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rows):
        async for page in rows:
            yield page.data


async def _packed(
    packing: "Packing", rows: AsyncGenerator[EncodedPage, None]
) -> AsyncGenerator[bytes, None]:
    """Yield what is complete of the file, which is nothing after most pages."""
    async with aclosing(rows):
        async for page in rows:
            # In a thread: a row group takes a tenth of a second, and lets the interpreter go.
            yield await asyncio.to_thread(packing.add, page.data)
    yield await asyncio.to_thread(packing.end)


async def _in_a_slot(
    slots: ExportSlots, caller: int | str, pieces: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    slots.take(caller)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    finally:
        slots.release(caller)
