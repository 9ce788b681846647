"""Downloading what was measured, logged and confirmed, whole.

An export is streamed with constant memory, ended with the client, and cut when it fails: a page is
read, encoded and sent before the next is read. A slow client slows the reading, and what waits in
between is what the socket's own buffers hold.

Damaged chunks are left out, and named in the header. One that is met later cuts the answer once all
else is sent, unless the caller has all looked through before it begins.
"""

import asyncio
import dataclasses
import zlib
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
)
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import structlog
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError
from heliograph.exchange.chosen_columns import (
    ChosenColumns,
    UnknownColumnError,
    choose,
)
from heliograph.exchange.formats import (
    MEDIA_TYPES,
    Format,
    FormatUnavailableError,
    TableLayout,
    contradiction,
    heading,
    parquet,
)
from heliograph.exchange.pages import (
    EncodedPage,
    Range,
    each_of,
    pages,
    sensors_of,
    wide_columns,
)
from heliograph.exchange.wide import Wide
from heliograph.http.access import Rights, bearer, not_found
from heliograph.http.csv_answers import Spreadsheet, weights
from heliograph.http.direct import cut_off, disconnected
from heliograph.http.errors import validation_error
from heliograph.http.paths import PREFIX
from heliograph.http.ranges import check_order
from heliograph.http.records import BINARY
from heliograph.http.resources import KnownCall, TheCall
from heliograph.http.schemas import End, Start
from heliograph.ingest.state import PipelineState
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.model.time import LATEST, OLDEST
from heliograph.store.chunks import LEFT_OUT
from heliograph.store.telemetry import ExportedSensor

if TYPE_CHECKING:
    from heliograph.exchange.parquet import Packing

router = APIRouter(prefix=PREFIX)

# Exports at once: of one caller, and of all. Each keeps a reading connection busy.
AT_ONCE_EACH = 2
AT_ONCE = 6
RETRY_SECONDS = 10
# A client that takes nothing for so long is taken for gone.
STALL_SECONDS = 60.0
# The longest wait for ingest after a page.
LONGEST_TURN_SECONDS = 5.0

GZIP = 16 + zlib.MAX_WBITS
# Twice as quick as the usual 6, and a tenth larger.
GZIP_LEVEL = 4
T = TypeVar("T")

log = structlog.get_logger()


_TEXT = {"schema": {"type": "string"}}
_BINARY = {"schema": BINARY}
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
        column: Annotated[
            list[str] | None,
            Query(
                description="Repeatable, `csv` of layout `wide`: these columns alone, in this"
                " order: `timestamp`, `sensor_identifier`, `device_id` and attributes"
            ),
        ] = None,
        compress: Annotated[
            Literal["gzip"] | None,
            Query(description="`gzip`: answer a `.gz` file, whatever Accept-Encoding says"),
        ] = None,
        damaged: Annotated[
            Literal["skip"] | None,
            Query(
                description="`skip`: look for damaged chunks before anything is sent, so that"
                " X-Damaged-Chunks names each; else one met later cuts the answer at its end"
            ),
        ] = None,
    ) -> None:
        check_order(start, end)
        kinds = tuple(Kind(name) for name in dict.fromkeys(kind or ["measurement"]))
        if form.has_one_kind and len(kinds) > 1:
            raise _refused("kind", f"{form.value} has one kind a file; jsonl takes several")
        if form is Format.PARQUET and compress is not None:
            raise _refused("compress", "parquet is compressed in itself")
        if found := contradiction(form, kinds, layout, column, spreadsheet=spreadsheet):
            raise _refused(*found)
        self.form = form
        self.layout = layout
        self.spreadsheet = spreadsheet
        self.columns = column or []
        self.range = Range(
            kinds, OLDEST if start is None else start, LATEST + 1 if end is None else end
        )
        self.archive = compress is not None
        self.skips_damaged = damaged is not None
        encodings = weights(request.headers.get("accept-encoding", ""))
        accepts_gzip = encodings.get("gzip", 0.0) > 0
        self.encoded = not self.archive and form is not Format.PARQUET and accepts_gzip

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
            "Vary": "Accept-Encoding",
        }
        if self.encoded:
            headers["Content-Encoding"] = "gzip"
        return headers


def _refused(parameter: str, message: str) -> Exception:
    return validation_error(("query", parameter), "value_error", message)


Export = Annotated[Wanted, Depends()]


@router.get(
    "/sensors/{identifier}/export", tags=["sensors"], response_class=Response, responses=_ANSWER
)
async def export_sensor(identifier: str, wanted: Export, call: TheCall) -> Response:
    """Download a sensor's data, oldest first, streamed.

    Times are exact and values are as stored, so that what is imported again changes nothing.
    """
    generation = call.registry.generation
    known = await call.readable(identifier)
    sensor = ExportedSensor(known.number, known.identifier, known.device_id)
    export = _Export(
        call,
        wanted,
        generation,
        lambda: each_of(sensor),
        lambda caller: Rights(caller, call.registry).readable(known.identifier),
    )
    return await export.answer(known.device_id or known.identifier)


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
    generation = call.registry.generation
    network = (await call.network(network_identifier)).identifier
    export = _Export(
        call,
        wanted,
        generation,
        lambda: sensors_of(call.store, network),
        lambda caller: Rights(caller, call.registry).network(network),
        network,
    )
    return await export.answer(network)


class ExportSlots:
    """How many exports run at once, with a bound for each caller and for all."""

    def __init__(self) -> None:
        self._running: Counter[int | str] = Counter()

    @property
    def running(self) -> int:
        """How many run now."""
        return self._running.total()

    @contextmanager
    def taken(self, name: int | str) -> Iterator[None]:
        """Count an export while it runs.

        Raises:
            HeliographError: RATE_LIMITED, there are too many.
        """
        if self._running[name] >= AT_ONCE_EACH or self._running.total() >= AT_ONCE:
            raise HeliographError(
                ErrorCode.RATE_LIMITED,
                f"Too many exports at once: {AT_ONCE_EACH} a caller, {AT_ONCE} in all",
                retry_after=RETRY_SECONDS,
            )
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]


async def in_turn(
    pages: AsyncGenerator[T, None], slots: ExportSlots, ingest: PipelineState
) -> AsyncGenerator[T, None]:
    """Yield the pages; while ingest is busy, wait after each for as long as all exports may work.

    One then works half of the time, which is little beside what arrives on the event loop
    meanwhile; several work together hardly more than that.
    """
    loop = asyncio.get_running_loop()
    async with aclosing(pages):
        began, commits = loop.time(), ingest.commits_total
        async for page in pages:
            worked = loop.time() - began
            yield page
            if ingest.depth or ingest.commits_total != commits:
                await asyncio.sleep(min(worked * slots.running, LONGEST_TURN_SECONDS))
            began, commits = loop.time(), ingest.commits_total


@dataclasses.dataclass
class _Export:
    """An export for a caller, who is asked for their right again as often as it may have ended.

    `generation` is the one in which they were asked for it; `check` raises when they may not have
    all of it any more. Of a `network` only what is still in it is exported.
    """

    call: KnownCall
    wanted: Wanted
    generation: int
    sensors: Callable[[], AsyncIterator[ExportedSensor]]
    check: Callable[[Principal], Awaitable[object]]
    network: str | None = None
    has_changed: bool = False

    async def answer(self, name: str) -> Response:
        """Return the answer, a file that is called after `name`."""
        app, streams = self.call.request.app, self.call.services.streams
        pieces = self._pieces(app.state.exports)
        if self.wanted.archive or self.wanted.encoded:
            pieces = _compressed(pieces)
        # The first page before the answer begins: a database that is away is still a 503.
        beginning = await anext(pieces)
        headers = self.wanted.headers(name)
        return ExportResponse(beginning, pieces, headers, lambda: streams.closing)

    async def _pieces(self, slots: ExportSlots) -> AsyncGenerator[bytes, None]:
        """Yield the file. Of Parquet nothing is complete after most pages."""
        wanted, form, store = self.wanted, self.wanted.form, self.call.store
        kind, spreadsheet, wide, columns = wanted.range.kinds[0], wanted.spreadsheet, None, None
        with slots.taken(bearer(self.call.caller, self.call.request.scope)):
            packing = await _packing() if form is Format.PARQUET else None
            if wanted.layout is TableLayout.WIDE:
                typed = packing is not None
                wide = await wide_columns(
                    store, self.sensors(), typed=typed, spreadsheet=spreadsheet
                )
                if wanted.columns:
                    columns = _chosen(wide, wanted)
            rows = pages(
                store,
                self.sensors(),
                wanted.range,
                form,
                spreadsheet=spreadsheet,
                wide=wide,
                columns=columns,
            )
            if wanted.skips_damaged and Kind.MEASUREMENT in wanted.range.kinds:
                async for sensor in self.sensors():
                    await store.chunks.verify(sensor.number, wanted.range.start, wanted.range.end)
            rows = in_turn(self._permitted(rows), slots, self.call.services.http_ingest.state)
            if columns is not None:
                begin, data = columns.heading(), _data(rows)
            elif packing is None:
                begin, data = heading(form, kind, spreadsheet=spreadsheet, wide=wide), _data(rows)
            else:
                begin, data = b"", _packed(packing(kind, wide), rows)
            async with aclosing(data):
                yield begin + await anext(data, b"")
                async for piece in data:
                    yield piece

    async def _permitted(
        self, rows: AsyncGenerator[EncodedPage, None]
    ) -> AsyncGenerator[EncodedPage, None]:
        """Yield the pages of sensors for as long as the caller may read them.

        One that has left the network before its first page is left out.

        Raises:
            HeliographError: the right has ended; a sensor has left amid its pages.
        """
        began, access, caller = 0, self.call.access, self.call.caller
        async with aclosing(rows):
            async for page in rows:
                if access.may_have_ended(caller, self.generation):
                    self.has_changed, self.generation = True, access.registry.generation
                    caller = await access.caller(self.call.request.scope)
                    await self.check(caller)
                number = page.position.sensor
                if await self._is_in_network(number):
                    began = number
                    yield page
                elif number == began:
                    raise not_found(ErrorCode.SENSOR_NOT_FOUND)

    async def _is_in_network(self, number: int) -> bool:
        if self.network is None or not self.has_changed:
            return True
        sensor = await self.call.registry.find_number(number)
        return sensor is not None and sensor.network_identifier == self.network


def _chosen(wide: Wide, wanted: Wanted) -> ChosenColumns:
    try:
        return choose(wide, wanted.columns, spreadsheet=wanted.spreadsheet)
    except UnknownColumnError as error:
        raise _refused("column", str(error)) from error


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


async def _compressed(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the pieces as one gzip archive."""
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=GZIP)
    async with aclosing(pieces):
        async for piece in pieces:
            # In a thread: it takes as long as reading, and lets the interpreter go meanwhile.
            yield await asyncio.to_thread(compressor.compress, piece)
    yield compressor.flush()


def _left_out() -> Collection[int]:
    return LEFT_OUT.get() or ()


class _DamagedError(Exception):
    """Chunks were left out that the header does not name."""

    def __init__(self, chunks: Collection[int]) -> None:
        super().__init__(f"damaged chunks were left out: {', '.join(map(str, sorted(chunks)))}")


class _StalledError(Exception):
    """The client takes nothing."""


class ExportResponse(Response):
    """Sends what the generator yields, each piece before the next is asked for."""

    def __init__(
        self,
        beginning: bytes,
        pieces: AsyncGenerator[bytes, None],
        headers: dict[str, str],
        is_ending: Callable[[], bool],
    ) -> None:
        """Send the beginning and the pieces after it.

        The generator has yielded the beginning already: what has begun is closed for certain.
        `is_ending` returns whether the server ends, which waits for a while and then cuts it off.
        """
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._beginning = beginning
        self._pieces = pieces
        self._is_ending = is_ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the client stays for."""
        sending = asyncio.create_task(self._send(send), name="export")
        leaving = asyncio.create_task(disconnected(receive), name="export-client")
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                # An error ends the connection without the last chunk: half is not taken for all.
                await sending
        except asyncio.CancelledError:
            if not self._is_ending():
                raise
            await self._cut_off(scope, receive, "the server ends")
        except _StalledError:
            await self._cut_off(scope, receive, "its client takes nothing")
        except _DamagedError as error:
            await self._cut_off(scope, receive, str(error))
        except HeliographError as error:
            await self._cut_off(scope, receive, f"the right to it has ended: {error.detail}")
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._pieces.aclose()

    @staticmethod
    async def _cut_off(scope: Scope, receive: Receive, reason: str) -> None:
        log.warning("export cut off", reason=reason)
        await cut_off(scope, receive)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # The header has named these by now.
        told = {*_left_out()}
        await self._send_piece(send, self._beginning)
        async for piece in self._pieces:
            await self._send_piece(send, piece)
        if untold := {*_left_out()} - told:
            raise _DamagedError(untold)
        await self._send_piece(send, b"", is_last=True)

    async def _send_piece(self, send: Send, piece: bytes, *, is_last: bool = False) -> None:
        if not (piece or is_last):
            return
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        except TimeoutError as error:
            raise _StalledError from error
