"""Many measurements in one: by bucket of time, over a range, and of log messages."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, WithJsonSchema

from heliograph.http.answers import encoded
from heliograph.http.attributes import check_attributes
from heliograph.http.csv_answers import CSV, AskedForm, TheForm, csv_answer, table
from heliograph.http.errors import Answer, encode, validation_error
from heliograph.http.pages import page_headers
from heliograph.http.paths import PREFIX
from heliograph.http.ranges import Range, check_order, check_range, range_length
from heliograph.http.records import Representation, ok
from heliograph.http.resources import KnownCall, ReadRoute, TheCall
from heliograph.http.schemas import End, Start, Text
from heliograph.model.aggregation import (
    FUNCTIONS,
    Aggregate,
    Fill,
    Function,
    average_of,
    fill_gaps,
    value_of,
    values_of,
)
from heliograph.model.buckets import (
    MAXIMUM_BUCKETS,
    TooManyBucketsError,
    bucket_starts,
    parse_bucket,
    parse_zone,
    show,
)
from heliograph.model.records import LogAggregate
from heliograph.model.time import EARLIEST, LATEST, now, to_epoch_seconds, to_rfc3339
from heliograph.rollups.aggregates import MAXIMUM_VALUES, Aggregates, Series
from heliograph.store import Store
from heliograph.store.measurements import RangeTooLargeError
from heliograph.store.pages import LEAST

router = APIRouter(prefix=PREFIX, route_class=ReadRoute)

LONGEST_LIST = 100
# Of more buckets the answer is made beside the event loop.
AT_ONCE = 1_000


def _bucket(text: str) -> str:
    parse_bucket(text)
    return text


def _zone(name: str) -> str:
    parse_zone(name)
    return name


_LENGTHS = "How long a bucket is: like 10s, 15m, 1h, 1d, 1w (from Monday), 1mo"
Bucket = Annotated[
    str,
    AfterValidator(_bucket),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,5}(s|m|h|d|w|mo)$"}),
    Query(description=_LENGTHS),
]
Zone = Annotated[
    str,
    AfterValidator(_zone),
    Query(description="The time zone whose clocks and calendar buckets follow"),
]


class AskedRange:
    """The range of time that a request is about, as FastAPI collects it."""

    def __init__(
        self, request: Request, start: Start = None, end: End = None, length: Range = "24h"
    ) -> None:
        check_range(request, start, end)
        self._start = start
        self._end = end
        self._length = length

    async def bounds(self, store: Store, sensor: int) -> tuple[int, int]:
        """Return start (inclusive) and end (exclusive) in microseconds.

        Without `end` nothing is too new: a device's clock may be ahead of the server's.
        """
        moment = now() if self._end is None else self._end
        start = moment - range_length(self._length) if self._start is None else self._start
        if self._end is None:
            newest = await store.measurements.newest(sensor)
            if newest is not None:
                moment = max(moment, newest.timestamp + 1)
        return start, moment


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


TheRange = Annotated[AskedRange, Depends()]


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
    attribute: Annotated[
        list[Text] | None,
        Query(max_length=LONGEST_LIST, description="Repeatable; by default every one with numbers"),
    ] = None,
    bucket: Bucket = "1h",
    tz: Zone = "UTC",
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
    start, end = await asked.bounds(call.store, sensor.number)
    zone = parse_zone(tz)
    starts = await _starts(call.services.aggregates, sensor.number, bucket, zone, start, end)
    names = None if attribute is None else list(dict.fromkeys(attribute))
    if names is not None and fill is not None:
        _check_filled(len(names), starts)
    series = await _series(call.services.aggregates, sensor.number, starts, names, start, end)
    if fill is not None:
        _check_filled(len(series.attributes), starts)
    functions = tuple(dict.fromkeys(function or FUNCTIONS))
    found = _Table(series, functions, _Shown(starts, zone), fill)
    size = len(series.attributes) * len(starts)
    as_csv = partial(found.as_csv, spreadsheet=form.spreadsheet)
    return await _answer(call, size, as_csv if form.is_csv else found.as_json, form)


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
    bucket: Annotated[Bucket | None, Query(description=_LENGTHS)] = None,
    tz: Zone = "UTC",
) -> Answer:
    """Read minimum, maximum, average and count of a device's metrics over a range.

    With `bucket` a list of such, one for each bucket that has readings, oldest first. As CSV a
    row is a metric of one.
    """
    sensor = await call.device(device_id)
    start, end = await asked.bounds(call.store, sensor.number)
    name = sensor.device_id or sensor.identifier
    zone = parse_zone(tz)
    whole = [start, end] if start < end else []
    starts = whole
    if bucket is not None:
        starts = await _starts(call.services.aggregates, sensor.number, bucket, zone, start, end)
    series = await _series(call.services.aggregates, sensor.number, starts, None, start, end)
    shown = _Shown(starts, zone)
    if form.is_csv:
        rows = partial(_device_table, name, series, shown, spreadsheet=form.spreadsheet)
        return await _answer(call, series.values, rows, form)
    if bucket is None:
        count = series.rows[0] if series.rows else 0
        head = {"device_id": name, "start": to_rfc3339(start), "end": to_rfc3339(end)}
        metrics = _metrics(series).get(0, {})
        return Answer(200, encode({**head, "count": count, "metrics": metrics}))
    body = partial(_encoded_device, name, series, shown)
    return await _answer(call, max(series.values, len(starts)), body, form)


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
        hold=call.held.at_least,
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


async def _starts(
    aggregates: Aggregates, sensor: int, bucket: str, zone: tzinfo, start: int, end: int
) -> list[int]:
    if start < EARLIEST:
        # Whoever asks for all there is gets no buckets for centuries before it.
        oldest = await aggregates.oldest(sensor)
        start = max(start, EARLIEST if oldest is None else min(oldest, EARLIEST))
    try:
        return bucket_starts(parse_bucket(bucket), zone, start, end)
    except TooManyBucketsError:
        message = f"The range has more than {MAXIMUM_BUCKETS:,} of these buckets"
        raise validation_error(("query", "bucket"), "bucket", message) from None


async def _series(
    aggregates: Aggregates,
    sensor: int,
    starts: Sequence[int],
    names: Sequence[str] | None,
    start: int,
    end: int,
) -> Series:
    try:
        return await aggregates.read(sensor, starts, names, start=start, end=end)
    except RangeTooLargeError as error:
        message = f"The range has {error}"
        raise validation_error(("query", "start"), "range", message) from None


def _check_filled(attributes: int, starts: Sequence[int]) -> None:
    # The last of the starts is an end.
    if attributes * (len(starts) - 1) > MAXIMUM_VALUES:
        message = f"More than {MAXIMUM_VALUES:,} buckets of all attributes together to fill"
        raise validation_error(("query", "fill"), "fill", message)


class _Table(NamedTuple):
    """Functions of attributes by bucket."""

    series: Series
    functions: tuple[Function, ...]
    shown: "_Shown"
    fill: Fill | None

    def as_json(self) -> bytes:
        """Return an object with a list of buckets for each attribute."""
        return encode(dict(self._attributes()))

    def as_csv(self, *, spreadsheet: bool) -> bytes:
        """Return a row a bucket of an attribute, one attribute after the other."""
        rows = (
            (start, name, *values)
            for name, buckets in self._attributes()
            for start, *values in map(msgspec.structs.astuple, buckets)
        )
        return table(("start", "attribute", *self.functions), rows, spreadsheet=spreadsheet)

    def _attributes(self) -> Iterator[tuple[str, list[msgspec.Struct]]]:
        _, functions, shown, fill = self
        for name, found in sorted(self.series.attributes.items()):
            if fill is None:
                yield name, _buckets(found, functions, shown)
            else:
                yield name, _filled(found, functions, shown, fill)


class _Shown(dict[int, str]):
    """The buckets' starts as they are shown, by the bucket's index, each made once."""

    def __init__(self, starts: Sequence[int], zone: tzinfo) -> None:
        super().__init__()
        self.starts = starts
        self._zone = zone

    def __missing__(self, index: int) -> str:
        self[index] = text = show(self.starts[index], self._zone)
        return text


def _buckets(
    found: dict[int, Aggregate], functions: tuple[Function, ...], shown: _Shown
) -> list[msgspec.Struct]:
    known = found.values()
    # What is beyond a float is encoded as null.
    columns = [values_of(known, each) for each in functions]
    return list(map(_entry(functions), map(shown.__getitem__, found), *columns))


def _filled(
    found: dict[int, Aggregate], functions: tuple[Function, ...], shown: _Shown, fill: Fill
) -> list[msgspec.Struct]:
    starts = shown.starts[:-1]
    known = [index in found for index in range(len(starts))]
    columns: list[list[Any]] = []
    for function in functions:
        values = [
            value_of(found[index], function) if index in found else None
            for index in range(len(starts))
        ]
        # A bucket that is filled still counts nothing.
        is_count = function == "count"
        columns.append(fill_gaps(values, known, starts, "0" if is_count else fill))
    texts = map(shown.__getitem__, range(len(starts)))
    return list(map(_entry(functions), texts, *columns))


@lru_cache(maxsize=256)
def _entry(functions: tuple[Function, ...]) -> type[msgspec.Struct]:
    """Return what a bucket is in an answer: made and encoded faster than a dictionary."""
    fields = [("start", str), *((each, int | float | None) for each in functions)]
    return msgspec.defstruct("Entry", fields, gc=False)


def _encoded_device(device_id: str, series: Series, shown: _Shown) -> bytes:
    metrics = _metrics(series)
    return encode(
        [
            {
                "device_id": device_id,
                "start": shown[index],
                "end": shown[index + 1],
                "count": count,
                "metrics": metrics.get(index, {}),
            }
            for index, count in enumerate(series.rows)
            if count
        ]
    )


def _device_table(device_id: str, series: Series, shown: _Shown, *, spreadsheet: bool) -> bytes:
    rows = (
        (device_id, shown[index], shown[index + 1], name, *msgspec.structs.astuple(metric))
        for index, metrics in sorted(_metrics(series).items())
        for name, metric in metrics.items()
    )
    heading = ("device_id", "start", "end", "attribute", *MetricAggregate.__struct_fields__)
    return table(heading, rows, spreadsheet=spreadsheet)


def _metrics(series: Series) -> dict[int, dict[str, MetricAggregate]]:
    """Return what is shown of a device's metrics, by bucket and by name."""
    shown: dict[int, dict[str, MetricAggregate]] = {}
    for name, found in sorted(series.attributes.items()):
        for index, known in found.items():
            metric = MetricAggregate(known.minimum, known.maximum, average_of(known), known.count)
            shown.setdefault(index, {})[name] = metric
    return shown
