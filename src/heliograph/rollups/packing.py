"""Rollups as they are stored: columns, of days as JSON, which views read, else as MessagePack.

Of many attributes only those are decoded that are asked for. Numbers of one type are an array, so
that those of a year's rollups can be read as one; a column that follows from another (one row a
minute is its own minimum, maximum and total) is left out.
"""

import sys
from array import array
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
from msgspec.msgpack import Ext

from heliograph.model.aggregation import Aggregate, Number, as_float
from heliograph.rollups.rollup import Rollup

# A row with more attributes keeps the first by name, and is incomplete.
MAXIMUM_ATTRIBUTES_OF_ROLLUP = 1_000

# An array has the code of its type in the standard library's `array` as its extension's, and is
# little-endian: a number is as many bytes as stand here.
FLOATS = ord("d")
WIDTH = {FLOATS: 8, ord("b"): 1, ord("h"): 2, ord("i"): 4, ord("q"): 8}
_WHOLE = tuple((chr(code), 8 * width - 1) for code, width in WIDTH.items() if code != FLOATS)
_SWAPPED = sys.byteorder == "big"

# What is of several types, or of more than 64 bits with the sign, is a list. Before there were
# arrays everything was.
Numbers: TypeAlias = Ext | list[int | float]
# A sum that is beyond a float is an extension among the numbers: all bytes of a whole number.
Totals: TypeAlias = Ext | list[int | float | Ext]
_WHOLE_TOTAL = ord("w")
# 64 bits more than a float's largest.
_TOTAL_BYTES = 140


class PackedColumns(msgspec.Struct, array_like=True, gc=False):
    """What is None is as the rollup's own (slots, counts) or as `lasts` (the others)."""

    slots: Numbers | None
    counts: Numbers | None
    totals: Totals | None
    minima: Numbers | None
    maxima: Numbers | None
    lasts: Numbers


class Packed(msgspec.Struct, array_like=True, gc=False):
    """A rollup whose attributes are yet to be decoded."""

    slots: Numbers
    counts: Numbers
    complete: bool
    attributes: dict[str, msgspec.Raw]


class _PackedText(msgspec.Struct, array_like=True, gc=False):
    """The same as JSON, which has no extensions: all numbers are lists."""

    slots: list[int | float]
    counts: list[int | float]
    complete: bool
    attributes: dict[str, msgspec.Raw]


_encode = msgspec.msgpack.Encoder().encode
_encode_text = msgspec.json.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode
_decode_text = msgspec.json.Decoder(_PackedText).decode
_decode_columns = msgspec.msgpack.Decoder(PackedColumns).decode
_decode_any = msgspec.json.Decoder().decode
# How JSON begins here, and MessagePack never.
_TEXT = ord("[")


def decode(packed: bytes) -> Packed:
    """Return a rollup as far as it is decoded without its attributes."""
    if packed[0] != _TEXT:
        return _decode(packed)
    found = _decode_text(packed)
    return Packed(found.slots, found.counts, found.complete, found.attributes)


def decode_columns(raw: msgspec.Raw) -> PackedColumns:
    """Return the columns of an attribute."""
    if memoryview(raw)[0] != _TEXT:
        return _decode_columns(raw)
    return PackedColumns(*_decode_any(raw))


def pack(rollup: Rollup, *, text: bool = False) -> bytes:
    """Return the rollup as it is stored: as JSON or as MessagePack."""
    complete, attributes = rollup.complete, rollup.attributes
    if len(attributes) > MAXIMUM_ATTRIBUTES_OF_ROLLUP:
        complete = False
        attributes = {
            name: attributes[name] for name in sorted(attributes)[:MAXIMUM_ATTRIBUTES_OF_ROLLUP]
        }
    if text:
        named = {name: _columns(rollup.rows, each, list) for name, each in attributes.items()}
        return _encode_text([list(rollup.rows), list(rollup.rows.values()), complete, named])
    packed: dict[str, msgspec.Raw] = {}
    for name, found in attributes.items():
        try:
            packed[name] = msgspec.Raw(_encode(_columns(rollup.rows, found)))
        except OverflowError:
            # Whole numbers beyond 64 bits, which MessagePack has no place for.
            complete = False
            packed[name] = msgspec.Raw(_encode(_columns(rollup.rows, list(map(_as_floats, found)))))
    slots, counts = _packed(list(rollup.rows)), _packed(list(rollup.rows.values()))
    return _encode(Packed(slots, counts, complete, packed))


def unpack(packed: bytes) -> Rollup:
    """Return the rollup."""
    found = decode(packed)
    rows = dict(zip(unpacked(found.slots), unpacked(found.counts), strict=True))
    attributes = {
        name: _aggregates(rows, decode_columns(raw)) for name, raw in found.attributes.items()
    }
    return Rollup(rows, attributes, found.complete)


def _columns(
    rows: dict[int, int],
    found: list[Aggregate],
    packed: Callable[[list[Any]], Any] | None = None,
) -> PackedColumns:
    slots = [each.at for each in found]
    counts = [each.count for each in found]
    has_all_slots = slots == list(rows)
    single = len(counts) == sum(counts)
    of, of_totals = packed or _packed, packed or _packed_totals
    return PackedColumns(
        None if has_all_slots else of(slots),
        None if has_all_slots and counts == list(rows.values()) else of(counts),
        None if single else of_totals([each.total for each in found]),
        None if single else of([each.minimum for each in found]),
        None if single else of([each.maximum for each in found]),
        of([each.last for each in found]),
    )


def _aggregates(rows: dict[int, int], packed: PackedColumns) -> list[Aggregate]:
    lasts = unpacked(packed.lasts)
    return list(
        map(
            Aggregate,
            rows.values() if packed.counts is None else unpacked(packed.counts),
            map(as_float, lasts) if packed.totals is None else unpacked(totals_of(packed)),
            lasts if packed.minima is None else unpacked(packed.minima),
            lasts if packed.maxima is None else unpacked(packed.maxima),
            lasts,
            rows if packed.slots is None else unpacked(packed.slots),
        )
    )


def _packed(numbers: list[Any]) -> Numbers:
    types = set(map(type, numbers))
    if types == {float}:
        return _array("d", numbers)
    if types == {int}:
        low, high = min(numbers), max(numbers)
        for code, bits in _WHOLE:
            if -(1 << bits) <= low and high < 1 << bits:
                return _array(code, numbers)
    return numbers


def _packed_totals(totals: list[Number]) -> Totals:
    packed = _packed(totals)
    if isinstance(packed, Ext):
        return packed
    return [
        Ext(_WHOLE_TOTAL, total.to_bytes(_TOTAL_BYTES, "little", signed=True))
        if isinstance(total, int)
        else total
        for total in packed
    ]


def totals_of(packed: PackedColumns) -> Numbers:
    """Return the totals, those beyond a float as whole numbers; `lasts` where they follow."""
    totals = packed.lasts if packed.totals is None else packed.totals
    if isinstance(totals, Ext):
        return totals
    return [
        int.from_bytes(total.data, "little", signed=True) if isinstance(total, Ext) else total
        for total in totals
    ]


def _array(code: str, numbers: list[Any]) -> Ext:
    made = array(code, numbers)
    if _SWAPPED:
        made.byteswap()
    return Ext(ord(code), made.tobytes())


def unpacked(numbers: Numbers) -> list[Any]:
    """Return the numbers."""
    if not isinstance(numbers, Ext):
        return numbers
    made = array(chr(numbers.code))
    made.frombytes(numbers.data)
    if _SWAPPED:
        made.byteswap()
    return made.tolist()


def _as_floats(known: Aggregate) -> Aggregate:
    minimum, maximum, last = map(as_float, (known.minimum, known.maximum, known.last))
    return Aggregate(known.count, known.total, minimum, maximum, last, known.at)
