"""Many measurements in one: by bucket of time, over a range, and of log messages."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, tzinfo
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import PlainValidator, WithJsonSchema

from heliograph.http.answers import Answer, encode, encoded
from heliograph.http.attributes import check_attributes
from heliograph.http.csv_answers import CSV, AskedForm, TheForm, csv_answer, table
from heliograph.http.errors import validation_error
from heliograph.http.pages import page_headers
from heliograph.http.paths import PREFIX
from heliograph.http.ranges import AskedRange, TheRange, check_order
from heliograph.http.records import Representation, ok
from heliograph.http.resources import KnownCall, ReadRoute, TheCall
from heliograph.http.schemas import End, Start, Text
from heliograph.model.aggregation import (
    FUNCTIONS,
    Aggregate,
    Fill,
    Function,
    Number,
    average_of,
    fill_gaps,
    value_of,
    values_of,
)
from heliograph.model.buckets import (
    MAXIMUM_BUCKETS,
    Bucket,
    TooManyBucketsError,
    bucket_starts,
    parse_bucket,
    parse_zone,
    show,
)
from heliograph.model.records import LogAggregate
from heliograph.model.time import EARLIEST, LATEST, to_epoch_seconds
from heliograph.rollups.aggregates import MAXIMUM_VALUES, Series
from heliograph.store.measurements import RangeTooLargeError
from heliograph.store.pages import LEAST

router = APIRouter(prefix=PREFIX, route_class=ReadRoute)

LONGEST_LIST = 100
# Of more buckets the answer is made beside the event loop.
AT_ONCE = 1_000

_LENGTHS = "How long a bucket is: like 10s, 15m, 1h, 1d, 1w (from Monday), 1mo"
_BUCKET = {"type": "string", "pattern": "^[1-9][0-9]{0,5}(s|m|h|d|w|mo)$"}
_ZONES = "The time zone whose clocks and calendar buckets follow"
AskedBucket = Annotated[Bucket, PlainValidator(parse_bucket), WithJsonSchema(_BUCKET)]
Zone = Annotated[
    tzinfo,
    PlainValidator(parse_zone),
    WithJsonSchema({"type": "string", "default": "UTC", "description": _ZONES}),
    Query(description=_ZONES, default_factory=lambda: UTC),
]


class AggregateBucket(Representation):
    """The functions asked for over a bucket; null where there is nothing to say."""

    start: Annotated[str, "When the bucket begins (RFC 3339, with the zone's offset)"]
    avg: Annotated[float | None, "Average, in the attribute's own unit"] = None
    min: Annotated[float | None, "Minimum, in the attribute's own unit"] = None
    max: Annotated[float | None, "Maximum, in the attribute's own unit"] = None
    sum: Annotated[
        float | None, "Sum, in the attribute's own unit; null where it is beyond a 64-bit float"
    ] = None
    count: Annotated[int | None, "Number of values counted"] = None
    last: Annotated[float | None, "The last value, in the attribute's own unit"] = None


class MetricAggregate(Representation, gc=False):
    """An attribute's numbers over a range."""

    min: Annotated[float, "Minimum, in the attribute's own unit"]
    max: Annotated[float, "Maximum, in the attribute's own unit"]
    avg: Annotated[float | None, "Average, in the attribute's own unit"]
    count: Annotated[int, "Number of values counted"]


class DeviceAggregate(Representation):
    """A device's readings over a range, and the numbers of each attribute."""

    device_id: Annotated[str, "The device's `device_id`, or its UUID where it has none"]
    start: Annotated[str, "Where the range begins, inclusive (RFC 3339)"]
    end: Annotated[str, "Where it ends, exclusive (RFC 3339)"]
    count: Annotated[int, "Number of readings in the range"]
    metrics: Annotated[
        dict[str, MetricAggregate], "By the attribute's name; nested ones as dotted paths"
    ]


class LogAggregateEntry(Representation):
    """How often a sensor logged a subject; times are epoch seconds."""

    sensor_identifier: Annotated[str, "The sensor's UUID"]
    severity: Annotated[str, "`warning` or `error`"]
    subject: Annotated[str, "What it is about"]
    min_revision: Annotated[int | None, "The lowest revision among them; null: none said"]
    max_revision: Annotated[int | None, "The highest revision among them"]
    min_creation_timestamp: Annotated[float, "When the first was made (epoch seconds)"]
    max_creation_timestamp: Annotated[float, "When the last was made (epoch seconds)"]
    count: Annotated[int, "Number of messages"]


@router.get(
    "/sensors/{identifier}/aggregates",
    tags=["sensors"],
    responses=ok(dict[str, list[AggregateBucket]], media=CSV),
)
async def read_aggregates(
    call: TheCall,
    identifier: str,
    asked: TheRange,
    form: TheForm,
    *,
    attribute: Annotated[
        list[Text] | None,
        Query(max_length=LONGEST_LIST, description="Repeatable; by default every one with numbers"),
    ] = None,
    bucket: Annotated[
        AskedBucket,
        WithJsonSchema({**_BUCKET, "default": "1h"}),
        Query(description=_LENGTHS, default_factory=partial(parse_bucket, "1h")),
    ],
    tz: Zone,
    function: Annotated[
        list[Function] | None,
        Query(max_length=LONGEST_LIST, description="Repeatable; by default all"),
    ] = None,
    fill: Annotated[
        Fill | None, Query(description="What stands for empty buckets, else left out")
    ] = None,
) -> Answer:
    """Read functions of a sensor's attributes by bucket of time, oldest first.

    A bucket that the range begins or ends in counts what of it is in the range. Booleans count
    as 0 and 1; what is no number is not counted. At most 10,000 buckets, and 100,000 of all
    attributes together. As CSV a row is a bucket of an attribute.
    """
    sensor = await call.readable(identifier)
    if attribute:
        await check_attributes(call.store, sensor, attribute)
    names = None if attribute is None else list(dict.fromkeys(attribute))
    is_filled = fill is not None
    series = await _read(call, sensor.number, asked, bucket, tz, names, is_filled=is_filled)
    functions = tuple(dict.fromkeys(function or FUNCTIONS))
    size = len(series.attributes) * len(series.rows)
    body = partial(_aggregates, series, functions, tz, fill, form)
    return await _answer(call, size, body, form)


@router.get(
    "/devices/{device_id}/aggregate",
    tags=["devices"],
    responses=ok(DeviceAggregate | list[DeviceAggregate], media=CSV),
)
async def read_device_aggregate(
    call: TheCall,
    device_id: str,
    asked: TheRange,
    form: TheForm,
    *,
    bucket: Annotated[AskedBucket | None, Query(description=_LENGTHS)] = None,
    tz: Zone,
) -> Answer:
    """Read minimum, maximum, average and count of a device's metrics over a range.

    With `bucket` a list of such, one for each bucket that has readings, oldest first. As CSV a
    row is a metric of one.
    """
    sensor = await call.device(device_id)
    series = await _read(call, sensor.number, asked, bucket, tz)
    name = sensor.device_id or sensor.identifier
    body = partial(_device, name, series, tz, form, is_list=bucket is not None)
    return await _answer(call, max(series.values, len(series.rows)), body, form)


@router.get(
    "/sensors/{identifier}/logs/aggregates",
    tags=["sensors"],
    responses=ok(list[LogAggregateEntry], media=CSV),
)
async def read_log_aggregates(
    call: TheCall,
    identifier: str,
    form: TheForm,
    start: Start = None,
    end: End = None,
) -> Answer:
    """Read how often a sensor logged each warning and error, the last seen last.

    Of its newest million log messages, up to 10,000 and 8 Mi characters of subjects: where there
    are more, the answer has `X-Page-Truncated`.
    """
    check_order(start, end)
    sensor = await call.readable(identifier)
    found = await call.store.logs.aggregates(
        sensor.number,
        start=LEAST if start is None else start,
        end=LATEST + 1 if end is None else end,
        hold=call.held.hold,
    )

    def entries(part: Sequence[LogAggregate]) -> list[LogAggregateEntry]:
        return [
            LogAggregateEntry(
                sensor.identifier,
                each.severity,
                each.subject,
                each.minimum_revision,
                each.maximum_revision,
                to_epoch_seconds(each.minimum_timestamp),
                to_epoch_seconds(each.maximum_timestamp),
                each.count,
            )
            for each in part
        ]

    headers = page_headers(None, found)
    if form.is_csv:
        rows = map(msgspec.structs.astuple, entries(found))
        text = await asyncio.to_thread(
            table, LogAggregateEntry.__struct_fields__, rows, spreadsheet=form.spreadsheet
        )
        return csv_answer(text, headers)
    body = await encoded(found, entries, found.size)
    return Answer(200, body, headers)


async def _answer(call: KnownCall, size: int, body: Callable[[], bytes], form: AskedForm) -> Answer:
    text = await asyncio.to_thread(body) if size > AT_ONCE else body()
    call.held.at_least(len(text))
    return csv_answer(text) if form.is_csv else Answer(200, text)


async def _read(
    call: KnownCall,
    sensor: int,
    asked: AskedRange,
    bucket: Bucket | None,
    zone: tzinfo,
    names: Sequence[str] | None = None,
    *,
    is_filled: bool = False,
) -> Series:
    """Return the aggregates of the range by bucket, or of all of it in one.

    Raises:
        RequestValidationError: that is more than an answer may be.
    """
    aggregates, (start, end) = call.services.aggregates, (asked.start, asked.end)
    standing = await aggregates.standing(sensor)
    if asked.is_open and standing.newest is not None:
        end = max(end, standing.newest + 1)
    starts = [start, end]
    try:
        if bucket is not None:
            first = start
            if start < EARLIEST:
                # Whoever asks for all there is gets no buckets for centuries before it.
                oldest = await aggregates.oldest(sensor)
                first = max(start, EARLIEST if oldest is None else min(oldest, EARLIEST))
            starts = bucket_starts(bucket, zone, first, end)
        if is_filled and names is not None:
            _check_filled(len(names), starts)
        series = await aggregates.read(
            sensor, starts, names, start=start, end=end, standing=standing
        )
    except TooManyBucketsError:
        message = f"The range has more than {MAXIMUM_BUCKETS:,} of these buckets"
        raise validation_error(("query", "bucket"), "bucket", message) from None
    except RangeTooLargeError as error:
        message = f"The range has {error}"
        raise validation_error(("query", "start"), "range", message) from None
    if is_filled:
        _check_filled(len(series.attributes), starts)
    return series


def _check_filled(attributes: int, starts: Sequence[int]) -> None:
    # The last of the starts is an end.
    if attributes * (len(starts) - 1) > MAXIMUM_VALUES:
        message = f"More than {MAXIMUM_VALUES:,} buckets of all attributes together to fill"
        raise validation_error(("query", "fill"), "fill", message)


def _aggregates(
    series: Series,
    functions: tuple[Function, ...],
    zone: tzinfo,
    fill: Fill | None,
    form: AskedForm,
) -> bytes:
    """Return functions of the attributes by bucket: an object of lists, or rows of CSV."""
    entry = _entry(functions)
    text_of = functools.cache(lambda index: show(series.starts[index], zone))
    shown: dict[str, list[msgspec.Struct]] = {}
    for name, found in sorted(series.attributes.items()):
        indexes: Iterable[int] = found
        columns: list[Sequence[Number | None]]
        if fill is None:
            # What is beyond a float is encoded as null.
            columns = [values_of(found.values(), function) for function in functions]
        else:
            indexes = range(len(series.rows))
            columns = [_filled(found, function, series.starts, fill) for function in functions]
        shown[name] = list(map(entry, map(text_of, indexes), *columns))
    if not form.is_csv:
        return encode(shown)
    rows = (
        (start, name, *values)
        for name, buckets in shown.items()
        for start, *values in map(msgspec.structs.astuple, buckets)
    )
    return table(("start", "attribute", *functions), rows, spreadsheet=form.spreadsheet)


def _filled(
    found: dict[int, Aggregate], function: Function, starts: Sequence[int], fill: Fill
) -> Sequence[Number | None]:
    """Return the function's value in every bucket; the last of `starts` is an end."""
    known = [index in found for index in range(len(starts) - 1)]
    values = [
        value_of(found[index], function) if is_known else None
        for index, is_known in enumerate(known)
    ]
    # A bucket that is filled still counts nothing.
    return fill_gaps(values, known, starts[:-1], "0" if function == "count" else fill)


@functools.lru_cache(maxsize=256)
def _entry(functions: tuple[Function, ...]) -> type[msgspec.Struct]:
    """Return what a bucket is in an answer: made and encoded faster than a dictionary."""
    fields = [("start", str), *((each, int | float | None) for each in functions)]
    return msgspec.defstruct("Entry", fields, gc=False)


def _device(
    device_id: str, series: Series, zone: tzinfo, form: AskedForm, *, is_list: bool
) -> bytes:
    """Return what is shown of a device's metrics: of each bucket that has readings, or of one."""
    if not (is_list or form.is_csv):
        zone = UTC
    text_of = functools.cache(lambda index: show(series.starts[index], zone))
    metrics: dict[int, dict[str, MetricAggregate]] = {}
    for name, found in sorted(series.attributes.items()):
        for index, known in found.items():
            metric = MetricAggregate(known.minimum, known.maximum, average_of(known), known.count)
            metrics.setdefault(index, {})[name] = metric
    if form.is_csv:
        heading = ("device_id", "start", "end", "attribute", *MetricAggregate.__struct_fields__)
        rows = (
            (device_id, text_of(index), text_of(index + 1), name, *msgspec.structs.astuple(metric))
            for index, named in sorted(metrics.items())
            for name, metric in named.items()
        )
        return table(heading, rows, spreadsheet=form.spreadsheet)
    shown = [
        DeviceAggregate(
            device_id, text_of(index), text_of(index + 1), count, metrics.get(index, {})
        )
        for index, count in enumerate(series.rows)
        if count or not is_list
    ]
    return encode(shown if is_list else shown[0])
