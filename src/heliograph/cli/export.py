"""`heliograph export`: reads the database itself, with or without a running server."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
import typer
from typer import Argument, Option

from heliograph.cli.database import with_store
from heliograph.cli.named import found_device, network_identifier
from heliograph.cli.output import echo, parse_time
from heliograph.cli.transfer.partial import PartialFile
from heliograph.cli.transfer.progress import Bar
from heliograph.errors import StartError
from heliograph.exchange.chosen_columns import (
    ChosenColumns,
    UnknownColumnError,
    choose,
)
from heliograph.exchange.formats import (
    EXPORTED_KINDS,
    Format,
    TableLayout,
    contradiction,
    heading,
    parquet,
)
from heliograph.exchange.pages import (
    EncodedPage,
    Position,
    Range,
    each_of,
    pages,
    sensors_of,
    wide_columns,
)
from heliograph.exchange.wide import Wide
from heliograph.model.counting import counted
from heliograph.model.records import Kind
from heliograph.model.time import LATEST, OLDEST
from heliograph.settings import load_settings
from heliograph.store import Store
from heliograph.store.chunks import LEFT_OUT
from heliograph.store.telemetry import ExportedSensor

SUFFIXES = {
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
}

app = typer.Typer(add_completion=False)


class _Wanted(NamedTuple):
    sensors: tuple[str, ...]
    network: str | None
    range: Range
    form: Format
    spreadsheet: bool = False
    layout: TableLayout = TableLayout.RECORDS
    columns: tuple[str, ...] = ()


@app.command()
def export(
    file: Annotated[
        Path,
        Argument(
            metavar="FILE", help="*.csv, *.jsonl (also *.gz) or *.parquet; - is standard output."
        ),
    ],
    *,
    sensor: Annotated[
        list[str] | None,
        Option("--sensor", help="UUID or device_id, repeatable; otherwise all sensors."),
    ] = None,
    network: Annotated[
        str | None, Option("--network", help="Of one network: its name or UUID.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        Option("--kind", help="measurement (the default), log, heartbeat; repeatable with jsonl."),
    ] = None,
    form: Annotated[
        Format | None, Option("--format", help="What FILE is; otherwise its name tells.")
    ] = None,
    start: Annotated[
        int | None,
        Option(parser=parse_time, metavar="TIME", help="Inclusive: RFC 3339 or epoch seconds."),
    ] = None,
    end: Annotated[
        int | None,
        Option(parser=parse_time, metavar="TIME", help="Exclusive: RFC 3339 or epoch seconds."),
    ] = None,
    layout: Annotated[
        TableLayout,
        Option(
            "--layout", help="csv, parquet: wide has a column for each attribute of measurements."
        ),
    ] = TableLayout.RECORDS,
    column: Annotated[
        list[str] | None,
        Option(
            "--column",
            help="csv, wide: these columns alone, in this order; repeatable: timestamp,"
            " sensor_identifier, device_id and attributes.",
        ),
    ] = None,
    spreadsheet: Annotated[
        bool,
        Option("--spreadsheet", help="csv: quote what a spreadsheet would take for a formula."),
    ] = False,
    restart: Annotated[bool, Option("--restart", help="Begin anew instead of going on.")] = False,
    force: Annotated[bool, Option("--force", help="Replace FILE if there is one.")] = False,
) -> None:
    """Write what was measured, logged and confirmed as CSV, JSON Lines or Parquet.

    Oldest first. It is written to FILE.part and gets its name when it is whole. Interrupted,
    the same command goes on where it was.
    """
    if sensor and network:
        raise typer.BadParameter("goes without --network", param_hint="--sensor")
    compress = file.suffix == ".gz"
    named = SUFFIXES.get(file.with_suffix("").suffix if compress else file.suffix)
    chosen = form or named or (Format.CSV if str(file) == "-" else None)
    if chosen is None:
        raise typer.BadParameter("needed: the name of FILE does not tell", param_hint="--format")
    if chosen is Format.PARQUET:
        if compress:
            raise typer.BadParameter("parquet is compressed in itself", param_hint="FILE")
        parquet()
    first = OLDEST if start is None else start
    after = LATEST + 1 if end is None else end
    if first > after:
        raise typer.BadParameter("is after --end", param_hint="--start")
    kinds = _kinds(kind, chosen)
    if found := contradiction(chosen, kinds, layout, column, spreadsheet=spreadsheet):
        raise typer.BadParameter(found[1], param_hint=f"--{found[0]}")
    wanted = _Wanted(
        tuple(sensor or ()),
        network,
        Range(kinds, first, after),
        chosen,
        spreadsheet,
        layout,
        tuple(column or ()),
    )
    settings = load_settings()
    damaged: set[int] = set()
    LEFT_OUT.set(damaged)
    if str(file) == "-":
        with_store(lambda store: _print(store, wanted), settings)
        _tell(damaged)
        return
    if file.exists() and not force:
        raise StartError(f"{file} exists; replace it with --force")
    # A text, so that a part of another export is told from one of this.
    signature = msgspec.json.encode(wanted).decode()
    with PartialFile(file, signature, compress=compress, restart=restart) as part:
        try:
            wide = with_store(lambda store: _write(store, wanted, part), settings)
            pack = None
            if chosen is Format.PARQUET:
                # Its pages can be gone on with, Parquet can't.
                pack = partial(parquet().pack, kinds[0], wide=wide)
            size = part.finish(pack)
        except KeyboardInterrupt:
            rows = counted(part.rows, "row")
            echo(f"interrupted behind {rows}: the same command goes on from there", err=True)
            raise
    echo(f"{counted(part.rows, 'row')}, {size:,} bytes in {file}", err=True)
    _tell(damaged)


def _tell(damaged: Collection[int]) -> None:
    """Say what was left out, if anything was; end with status 1 then."""
    if damaged:
        named = ", ".join(map(str, sorted(damaged)))
        echo(
            f"left out what is packed in damaged chunks: {named} (see heliograph doctor)", err=True
        )
        raise typer.Exit(1)


async def _write(store: Store, wanted: _Wanted, part: PartialFile) -> Wide | None:
    position = part.checkpoint.position if part.checkpoint else None
    total = await _count(store, wanted)
    # What is gone on with keeps its columns, whatever was measured since.
    kept = part.checkpoint.columns if part.checkpoint else None
    wide = await _columns(store, wanted) if kept is None else Wide(kept)
    part.begin(_heading(wanted, wide), None if wide is None else wide.columns)
    with Bar(total) as bar:
        done = 0

        async def counted() -> AsyncIterator[ExportedSensor]:
            nonlocal done
            async for sensor in await _sensors(store, wanted, position):
                yield sensor
                done += 1

        found = _pages(store, counted(), wanted, wide, position)
        async with aclosing(found):
            async for page in found:
                part.add(page)
                bar.show(done, part.rows)
    return wide


async def _print(store: Store, wanted: _Wanted) -> None:
    out = sys.stdout.buffer
    kind, wide = wanted.range.kinds[0], await _columns(store, wanted)
    packing = parquet().Packing(kind, wide) if wanted.form is Format.PARQUET else None

    def write(data: bytes, *, flush: bool = False) -> None:
        try:
            out.write(data)
            if flush:
                out.flush()
        except BrokenPipeError:
            raise  # who reads has enough
        except OSError as error:
            raise StartError(f"can't write: {error.strerror or error}") from error

    if packing is None:
        write(_heading(wanted, wide))
    found = _pages(store, await _sensors(store, wanted, None), wanted, wide)
    async with aclosing(found):
        async for page in found:
            write(page.data if packing is None else packing.add(page.data))
    write(b"" if packing is None else packing.end(), flush=True)


async def _columns(store: Store, wanted: _Wanted) -> Wide | None:
    """Return the columns for the sensors' attributes; None: none are wanted."""
    if wanted.layout is not TableLayout.WIDE:
        return None
    sensors = await _sensors(store, wanted, None)
    typed = wanted.form is Format.PARQUET
    return await wide_columns(store, sensors, typed=typed, spreadsheet=wanted.spreadsheet)


def _heading(wanted: _Wanted, wide: Wide | None) -> bytes:
    if wide is not None and wanted.columns:
        return _chosen(wide, wanted).heading()
    kind = wanted.range.kinds[0]
    return heading(wanted.form, kind, spreadsheet=wanted.spreadsheet, wide=wide)


def _pages(
    store: Store,
    sensors: AsyncIterator[ExportedSensor],
    wanted: _Wanted,
    wide: Wide | None,
    position: Position | None = None,
) -> AsyncGenerator[EncodedPage, None]:
    columns = _chosen(wide, wanted) if wide is not None and wanted.columns else None
    return pages(
        store,
        sensors,
        wanted.range,
        wanted.form,
        position,
        spreadsheet=wanted.spreadsheet,
        wide=wide,
        columns=columns,
    )


def _chosen(wide: Wide, wanted: _Wanted) -> ChosenColumns:
    try:
        return choose(wide, wanted.columns, spreadsheet=wanted.spreadsheet)
    except UnknownColumnError as error:
        raise typer.BadParameter(str(error), param_hint="--column") from error


async def _count(store: Store, wanted: _Wanted) -> int:
    """Return how many sensors there are to go through."""
    if wanted.sensors:
        return len(wanted.sensors)
    found = sensors_of(store, await network_identifier(store, wanted.network))
    return sum([1 async for _ in found])


async def _sensors(
    store: Store, wanted: _Wanted, position: Position | None
) -> AsyncIterator[ExportedSensor]:
    if not wanted.sensors:
        network = await network_identifier(store, wanted.network)
        return sensors_of(store, network, position)
    chosen: dict[int, ExportedSensor] = {}
    for name in wanted.sensors:
        found = await found_device(store, name)
        chosen[found.number] = ExportedSensor(found.number, found.identifier, found.device_id)
    first = position.sensor if position else 0
    return each_of(*[chosen[number] for number in sorted(chosen) if number >= first])


def _kinds(names: list[str] | None, form: Format) -> tuple[Kind, ...]:
    known = {kind.value: kind for kind in EXPORTED_KINDS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        _bad("--kind", f"{unknown[0]!r} is none of {', '.join(known)}")
    kinds = tuple(dict.fromkeys(known[name] for name in names or ("measurement",)))
    if form.has_one_kind and len(kinds) > 1:
        _bad("--kind", f"{form.value} has one kind a file; jsonl takes several")
    return kinds


def _bad(option: str, message: Any) -> NoReturn:
    raise typer.BadParameter(message, param_hint=option)
