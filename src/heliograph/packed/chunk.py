"""A chunk: up to 4,096 measurements of one sensor, as columns.

The store keeps its head and its body. Rows are in their order, (timestamp, fingerprint); a row is
told by its position, from 0.
"""

import functools
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from operator import add, ge, itemgetter, sub
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from heliograph.model.aggregation import NUMERIC, Aggregate, Number, aggregate
from heliograph.model.attributes import WHOLE, column, columns, escape, keys_of, value_at, values_at
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import measurement_fingerprint, telling_text
from heliograph.model.identifiers import INGEST_ID_TIME_BIT, MAXIMUM_INSTANCE
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_MEASUREMENT, MeasurementRow
from heliograph.packed.head import (
    DEVICE_TIMESTAMPS,
    DOCUMENTS,
    ELEMENT_IDS,
    IDS,
    KEPT,
    RECEIPTS,
    REVISIONS,
    SHAPES,
    TIMES,
    AttributeHead,
    ChunkHead,
    ColumnPlace,
    DamagedChunkError,
    column_of,
    read_places,
    write_head,
)
from heliograph.packed.integers import (
    Integers,
    StoredIntegers,
    deflate,
    from_planes,
    inflate,
    pack_integers,
    to_planes,
)
from heliograph.packed.values import Values, pack_values

MAXIMUM_ROWS: Final = 4_096
# What the values of a chunk come to, in characters, unless it is a single row.
MAXIMUM_CHARACTERS: Final = 8 << 20

# Without an element's own id.
_FRAME: Final = 8
# Its value is told as if it were not wrapped.
_WRAPPED: Final = dict.fromkeys(WHOLE)
_INSTANCE_BITS: Final = MAXIMUM_INSTANCE.bit_length()
# So few rows are made one by one.
_FEW: Final = 32

T = TypeVar("T")

_decode = msgspec.json.decode
_encode_shape = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class _Receipts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Receipt times: as what they are later than the timestamps, or as they are."""

    is_relative: bool
    numbers: StoredIntegers


class _Ids(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ingest ids: their sequence, counted from the receipt's millisecond, and their instance."""

    sequences: StoredIntegers
    instances: StoredIntegers


class _Shapes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the values are but for their attributes' own: JSON lines with null for each of these.

    And which one each row has, as planes of 16-bit numbers, if there are several.
    """

    shapes: bytes
    codes: bytes | None


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row that could not be made again: its position, its fingerprint and its value's text."""

    position: int
    fingerprint: int
    text: str


class RowFrame(NamedTuple):
    """What a row has beside its value."""

    id: int
    timestamp: int
    receipt_timestamp: int
    revision: int | None


class NewChunk(NamedTuple):
    """A chunk to be stored, of the first `rows` rows.

    `kept` is how many of them could not be made again from its columns. They are in the chunk as
    they were, and cost as much as a row does.
    """

    head: bytes
    body: bytes
    rows: int
    kept: int


def pack(rows: Sequence[MeasurementRow]) -> NewChunk:
    """Return the rows as a chunk, or the first of them if they are large or many.

    Each row is made again from the columns, its canonical text and its fingerprint too, and
    compared; what differs is kept as it is. So `PackedRows` gives back what came in, to the byte.

    Raises:
        ValueError: no rows, of several sensors, not in their order, or a value that is no JSON.
    """
    rows = _fitting(rows)
    ids, sensors, times, fingerprints, receipts, revisions, device_timestamps, texts = zip(
        *[row[:_FRAME] for row in rows], strict=True
    )
    if len(set(sensors)) > 1:
        raise ValueError("rows of several sensors")
    keys = list(zip(times, fingerprints, strict=True))
    if any(map(ge, keys, keys[1:])):
        raise ValueError("rows that do not ascend by timestamp and fingerprint")
    made = {TIMES: _pack(pack_integers(times))}
    try:
        documents = _decode(f"[{','.join(texts)}]")
    except msgspec.DecodeError as error:
        raise ValueError(f"a value that is no JSON: {error}") from error
    if len(documents) != len(rows):
        raise ValueError("a value that is no JSON")
    made |= _pack_documents(documents)
    made[RECEIPTS] = _pack_receipts(times, receipts)
    made[IDS] = _pack_ids(ids, receipts)
    element_ids: list[str | None] = []
    if max(map(len, rows)) > _FRAME:
        # A database has null for what a row without an id lacks.
        rows = [row[:_FRAME] if len(row) > _FRAME and row[_FRAME] is None else row for row in rows]
        element_ids = [row[_FRAME] if len(row) > _FRAME else None for row in rows]
    for name, values in (
        (REVISIONS, revisions),
        (DEVICE_TIMESTAMPS, device_timestamps),
        (ELEMENT_IDS, element_ids),
    ):
        if any(value is not None for value in set(values)):
            made[name] = pack_values(values)
    places = {name: ColumnPlace(len(each), zlib.crc32(each)) for name, each in made.items()}
    head = ChunkHead(sensors[0], times[0], times[-1], len(rows), min(ids), max(ids), {}, places)
    body = b"".join(made.values())
    again = PackedRows(head, body)
    names = [name[1:] for name in made if name.startswith(column_of(""))]
    head = msgspec.structs.replace(head, attributes={name: again.summary(name) for name in names})
    kept = _differing(rows, again.rows())
    if kept:
        found = deflate(msgspec.json.encode(kept))
        head.columns[KEPT] = ColumnPlace(len(found), zlib.crc32(found))
        body += found
        if _differing(rows, PackedRows(head, body).rows()):
            raise ValueError("rows that a chunk can't hold")
    return NewChunk(write_head(head), body, len(rows), len(kept))


def _fitting(rows: Sequence[MeasurementRow]) -> Sequence[MeasurementRow]:
    """Return as many of the first rows as a chunk takes."""
    if not rows:
        raise ValueError("no rows")
    return rows[: max(fitting_rows([len(row[7]) for row in rows[:MAXIMUM_ROWS]]), 1)]


def fitting_rows(lengths: Sequence[int]) -> int:
    """Return how many of the first values, of so many characters each, fit into a chunk."""
    return bisect_right(list(accumulate(lengths)), MAXIMUM_CHARACTERS)


def _differing(rows: Sequence[MeasurementRow], again: Sequence[MeasurementRow]) -> list[_Kept]:
    if list(rows) == again:
        return []
    return [
        _Kept(position, row[3], row[7])
        for position, (row, other) in enumerate(zip(rows, again, strict=True))
        if row != other
    ]


def _pack_receipts(times: Sequence[int], receipts: Sequence[int]) -> bytes:
    # Rows that came together have one receipt.
    if 2 * len(set(receipts)) < len(receipts):
        return _pack(_Receipts(False, pack_integers(receipts)))
    return _pack(_Receipts(True, pack_integers(list(map(sub, receipts, times)))))


def _pack_ids(ids: Sequence[int], receipts: Sequence[int]) -> bytes:
    first = [receipt // 1_000 << INGEST_ID_TIME_BIT for receipt in receipts]
    later = list(map(sub, ids, first))
    sequences = [each >> _INSTANCE_BITS for each in later]
    instances = [each & MAXIMUM_INSTANCE for each in later]
    return _pack(_Ids(pack_integers(sequences), pack_integers(instances)))


def _pack_documents(documents: list[Any]) -> dict[str, bytes]:
    """Return the columns of the values, or the one column of whole documents."""
    members = set(map(tuple, documents)) if set(map(type, documents)) == {dict} else set()
    if len(members) == 1:
        # What most sensors send: the same members always, none of them an object.
        (keys,) = members
        found = list(zip(*map(dict.values, documents), strict=True))
        if not any(dict in set(map(type, values)) for values in found):
            shapes = _pack(_Shapes(deflate(_encode_shape(dict.fromkeys(keys))), None))
            names = map(column_of, map(escape, keys))
            return {SHAPES: shapes, **dict(zip(names, map(pack_values, found), strict=True))}
    return _pack_shapes(documents) or {DOCUMENTS: pack_values(documents)}


def _pack_shapes(documents: list[Any]) -> dict[str, bytes] | None:
    """Return the columns of values of any shapes; None: they have too many attributes."""
    shapes: dict[bytes, int] = {}
    codes: list[int] = []
    by_name: dict[str, list[Any]] = {}
    by_code: list[list[list[Any]]] = []
    for document in documents:
        leaves: list[Any] = []
        shape = _encode_shape(_shape(document, leaves))
        code = shapes.setdefault(shape, len(shapes))
        if code == len(by_code):
            names = _names(_decode(shape))
            by_code.append([by_name.setdefault(name, []) for name in names])
            if len(by_name) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
                return None
        codes.append(code)
        for values, leaf in zip(by_code[code], leaves, strict=True):
            values.append(leaf)
    stored = to_planes(array("H", codes)) if len(shapes) > 1 else None
    made = {SHAPES: _pack(_Shapes(deflate(b"\n".join(shapes)), stored))}
    return made | {column_of(name): pack_values(values) for name, values in by_name.items()}


def _shape(document: Any, leaves: list[Any]) -> Any:
    """Return the document with null for each attribute's value, which is appended to `leaves`."""
    if type(document) is dict:
        return {key: _shape(member, leaves) for key, member in document.items()}
    leaves.append(document)
    return None


def _names(shape: Any, prefix: str | None = None) -> Iterator[str]:
    """Yield the names of the shape's attributes, in the order of its leaves."""
    if shape is None:
        yield WHOLE[0] if prefix is None else prefix
        return
    for key, member in shape.items():
        yield from _names(member, escape(key) if prefix is None else f"{prefix}.{escape(key)}")


def _template(shape: Any) -> bytes:
    """Return the text of a document of that shape, with `%b` for the text of each leaf."""
    if shape is None:
        return b"%b"
    members = [
        canonical(key).replace(b"%", b"%%") + b":" + _template(member)
        for key, member in shape.items()
    ]
    return b"{" + b",".join(members) + b"}"


def read_times(head: bytes, body: bytes) -> StoredIntegers:
    """Return the column of the timestamps (microseconds, ascending), without reading all the head.

    `body`: as much of it as has that column, its first.

    Raises:
        DamagedChunkError: head or column are not as they were written, or the body ends before.
    """
    found = _column_bytes(read_places(head), TIMES, body)
    return msgspec.msgpack.decode(found, type=StoredIntegers)


def _column_bytes(places: Mapping[str, ColumnPlace], name: str, body: bytes) -> bytes:
    """Return a column's bytes, verified."""
    place = places.get(name)
    if place is None:
        raise DamagedChunkError(name, "there is no such column")
    offset = 0
    for each, before in places.items():
        if each == name:
            break
        offset += before.length
    found = body[offset : offset + place.length]
    if len(found) < place.length:
        raise DamagedChunkError(name, "the body ends before it does")
    if zlib.crc32(found) != place.checksum:
        raise DamagedChunkError(name, "the checksum is another")
    return found


class PackedRows:
    """The rows of a chunk. Columns are verified and decoded when they are first asked for.

    Every method raises `DamagedChunkError` if a column that it needs is not as it was written; the
    other columns can still be read.
    """

    def __init__(self, head: ChunkHead, body: bytes) -> None:
        """Take the body, or as much of it as `head.needed` tells."""
        self.head = head
        self._body = body
        self._known_times: Integers | None = None
        self._values: dict[str, Values] = {}
        self._newest: tuple[int, int, list[int]] | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.head.count

    def _bytes(self, name: str) -> bytes:
        """Return a column's bytes, verified."""
        return _column_bytes(self.head.columns, name, self._body)

    def _struct(self, name: str, kind: type[T]) -> T:
        return msgspec.msgpack.decode(self._bytes(name), type=kind)

    def _column(self, name: str) -> Values:
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = Values(self._bytes(name))
        return found

    @property
    def _times(self) -> Integers:
        # No cached property: up to Python 3.11 one takes a lock, in nearly every read of a chunk.
        known = self._known_times
        if known is None:
            known = self._known_times = Integers(self._struct(TIMES, StoredIntegers))
        return known

    @functools.cached_property
    def _receipts(self) -> tuple[bool, Integers]:
        found = self._struct(RECEIPTS, _Receipts)
        return found.is_relative, Integers(found.numbers)

    @functools.cached_property
    def _ids(self) -> tuple[Integers, Integers]:
        found = self._struct(IDS, _Ids)
        return Integers(found.sequences), Integers(found.instances)

    @functools.cached_property
    def _shapes(self) -> tuple[list[Any], Sequence[int] | None]:
        """The shapes, and which one each row has; None: the first."""
        found = self._struct(SHAPES, _Shapes)
        codes = None if found.codes is None else from_planes(found.codes, "H")
        return [_decode(line) for line in inflate(found.shapes).split(b"\n")], codes

    @functools.cached_property
    def _names_of_shapes(self) -> list[frozenset[str]]:
        return [frozenset(_names(shape)) for shape in self._shapes[0]]

    @functools.cached_property
    def _kept(self) -> dict[int, _Kept]:
        if KEPT not in self.head.columns:
            return {}
        found = msgspec.json.decode(inflate(self._bytes(KEPT)), type=list[_Kept])
        return {each.position: each for each in found}

    @functools.cached_property
    def _ranks(self) -> dict[str, list[int]]:
        """Of attributes that not all rows have: how many have it before each one, and in all."""
        return {}

    def _ranks_of(self, name: str) -> list[int] | None:
        """Return how many rows before each position have the attribute, and in all; None: all."""
        if len(self._column(column_of(name))) == self.head.count:
            return None
        ranks = self._ranks.get(name)
        if ranks is None:
            _, codes = self._shapes
            having = [name in names for names in self._names_of_shapes]
            codes = codes or [0] * len(self)
            ranks = self._ranks[name] = list(accumulate(map(having.__getitem__, codes), initial=0))
        return ranks

    @property
    def times(self) -> Sequence[int]:
        """The timestamps (microseconds), ascending."""
        return self._times.all

    def positions(self, moments: Sequence[int]) -> list[int]:
        """Return the position of the first row at or after each of the moments (microseconds).

        It is the number of rows where there is none.
        """
        return self._times.places(moments)

    def times_between(self, first: int, last: int) -> list[int]:
        """Return the timestamps of the rows from one position to before another."""
        return self._times.part(first, last)

    def times_among(self, moments: Sequence[int]) -> set[int]:
        """Return those of the moments (microseconds) of which there are rows."""
        return self._times.among(moments)

    def times_at(self, positions: Sequence[int]) -> list[int]:
        """Return the timestamps of the rows at these positions."""
        return self._times.chosen(positions)

    def _receipts_of(self, first: int, last: int, times: Sequence[int]) -> list[int]:
        is_relative, numbers = self._receipts
        found = numbers.part(first, last)
        return list(map(add, times, found)) if is_relative else found

    def _ids_of(self, first: int, last: int, receipts: Sequence[int]) -> list[int]:
        sequences, instances = self._ids
        return _made_ids(receipts, sequences.part(first, last), instances.part(first, last))

    def ids_between(self, since: int, before: int) -> list[tuple[int, int]]:
        """Return the ingest ids from `since` to before `before`, each with its row's position.

        In the order of positions. Ids follow from receipts, which are so much later than times: the
        rows of other times are not looked at.
        """
        first, last = 0, len(self)
        is_relative, receipts = self._receipts
        if is_relative:
            delays, later = receipts.all, self._ids[0].all
            # Of an id, without its sequence and its instance.
            least = since - (max(later) << _INSTANCE_BITS) - MAXIMUM_INSTANCE
            most = before - (min(later) << _INSTANCE_BITS)
            first, last = self.positions(
                (
                    (least >> INGEST_ID_TIME_BIT) * 1_000 - max(delays),
                    ((most >> INGEST_ID_TIME_BIT) + 1) * 1_000 - min(delays),
                )
            )
        found = self._ids_of(
            first, last, self._receipts_of(first, last, self._times.part(first, last))
        )
        return [(each, at) for at, each in enumerate(found, first) if since <= each < before]

    def fingerprints(self, positions: Sequence[int]) -> list[int]:
        """Return the fingerprints of the rows at these positions.

        They are made again from the rows' values: a microsecond each. Whoever looks for a repeat
        asks for those alone whose time is the same.
        """
        return [row[3] for row in self.rows_at(positions)]

    def fingerprints_at(self, time: int) -> tuple[int, list[int]]:
        """Return the position of the first row at or after a time, and the fingerprints at it.

        They are kept until another time is asked for: thousands of rows may have one.
        """
        known = self._newest
        if known is None or known[0] != time:
            first, last = self.positions((time, time + 1))
            known = self._newest = time, first, self.fingerprints(range(first, last))
        return known[1:]

    def rows_at(self, positions: Sequence[int]) -> list[MeasurementRow]:
        """Return the rows at these positions."""
        if len(positions) > _FEW:
            return list(map(self.rows().__getitem__, positions))
        return [self.rows(position, position + 1)[0] for position in positions]

    def frames_at(self, positions: Sequence[int], times: Sequence[int]) -> list[RowFrame]:
        """Return the rows at these positions, of these times, without their values."""
        is_relative, numbers = self._receipts
        receipts = numbers.chosen(positions)
        if is_relative:
            receipts = list(map(add, times, receipts))
        sequences, instances = [each.chosen(positions) for each in self._ids]
        ids = _made_ids(receipts, sequences, instances)
        revisions: list[int | None] = [None] * len(positions)
        if REVISIONS in self.head.columns:
            column = self._column(REVISIONS)
            revisions = [column.part(at, at + 1)[0] for at in positions]
        return list(map(RowFrame, ids, times, receipts, revisions))

    @property
    def is_columns_alone(self) -> bool:
        """Whether all rows are made again of the columns of their attributes."""
        return self.head.columns.keys().isdisjoint((KEPT, DOCUMENTS))

    def is_bare(self, position: int) -> bool:
        """Return whether the value of the row at this position is no object."""
        shapes, codes = self._shapes
        return shapes[codes[position] if codes else 0] is None

    def rows(self, first: int = 0, last: int | None = None) -> list[MeasurementRow]:
        """Return the rows from the position `first` to before `last`, as they came in."""
        first, last, _ = slice(first, last).indices(len(self))
        if first >= last:
            return []
        times = self._times.part(first, last)
        receipts = self._receipts_of(first, last, times)
        ids = self._ids_of(first, last, receipts)
        revisions = self._optional(REVISIONS, first, last)
        device_timestamps = self._optional(DEVICE_TIMESTAMPS, first, last)
        element_ids = self._optional(ELEMENT_IDS, first, last)
        texts, tellings = self._texts(first, last)
        fingerprints = list(map(measurement_fingerprint, revisions, tellings, element_ids))
        values = [text.decode() for text in texts]
        for position, kept in self._kept.items():
            if first <= position < last:
                fingerprints[position - first] = kept.fingerprint
                values[position - first] = kept.text
        found: list[MeasurementRow] = list(
            zip(
                ids, repeat(self.head.sensor), times, fingerprints, receipts, revisions,
                device_timestamps, values,
            )
        )  # fmt: skip
        if ELEMENT_IDS in self.head.columns:
            return [
                row if each is None else (*row[:8], each)
                for row, each in zip(found, element_ids, strict=True)
            ]
        return found

    def _optional(self, name: str, first: int, last: int) -> list[Any]:
        if name not in self.head.columns:
            return [None] * (last - first)
        return self._column(name).part(first, last)

    def _texts(self, first: int, last: int) -> tuple[list[bytes], list[bytes]]:
        """Return the values' canonical texts, and what of them goes into fingerprints."""
        if DOCUMENTS in self.head.columns:
            documents = self._documents(first, last)
            texts = list(map(canonical, documents))
            return texts, list(map(telling_text, documents, texts))
        shapes, codes = self._shapes
        templates = list(map(_template, shapes))
        if codes is None:
            leaves = [
                self._column(column_of(name)).texts(first, last) for name in _names(shapes[0])
            ]
            if not leaves:
                return [templates[0]] * (last - first), [templates[0]] * (last - first)
            texts = list(map(templates[0].__mod__, zip(*leaves, strict=True)))
            return texts, leaves[0] if shapes[0] == _WRAPPED else texts
        by_name: dict[str, Iterator[bytes]] = {}
        by_code: dict[int, list[Iterator[bytes]]] = {}
        for code in set(codes[first:last]):
            names = list(_names(shapes[code]))
            for name in names:
                if name not in by_name:
                    values, ranks = self._column(column_of(name)), self._ranks_of(name)
                    part = (first, last) if ranks is None else (ranks[first], ranks[last])
                    by_name[name] = iter(values.texts(*part))
            by_code[code] = [by_name[name] for name in names]
        texts, tellings = [], []
        for code in codes[first:last]:
            found = tuple(map(next, by_code[code]))
            texts.append(templates[code] % found)
            tellings.append(found[0] if shapes[code] == _WRAPPED else texts[-1])
        return texts, tellings

    def _documents(self, first: int, last: int) -> list[Any]:
        return self._column(DOCUMENTS).part(first, last)

    def summary(self, name: str) -> AttributeHead:
        """Return what the head tells of the attribute, from its column."""
        values = self._column(column_of(name))
        (known,) = values.aggregates([(0, len(values))])
        if known is None:
            return AttributeHead(len(values), 0, None, None, None, None, None, None)
        numbers = self._numbers(name, 0, len(self))
        found = [each for each in numbers if each is not None]
        least, greatest = numbers.index(min(found)), numbers.index(max(found))
        return AttributeHead(
            len(values),
            known.count,
            known.minimum,
            known.maximum,
            known.total,
            known.last,
            (least, self.times[least] - self.head.first),
            (greatest, self.times[greatest] - self.head.first),
        )

    def aggregates(
        self,
        segments: Sequence[tuple[int, int]],
        names: Collection[str] | None = None,
        ats: Sequence[int] | None = None,
    ) -> dict[str, list[Aggregate | None]]:
        """Return what is known of the numbers of attributes in each segment; None: there is none.

        Segments are positions (first, behind the last), none of them empty. Without names, of all
        attributes; one that no row has is left out. `ats` are what `at` becomes in each segment;
        without them it is the time of the segment's last row, which is read. A segment that is the
        whole chunk is answered from the head.
        """
        if DOCUMENTS in self.head.columns:
            return self._aggregates_of_documents(segments, names)
        wanted = self.head.attributes if names is None else names
        is_whole = list(segments) == [(0, self.head.count)]
        found: dict[str, list[Aggregate | None]] = {}
        for name in wanted:
            known = self.head.attributes.get(name)
            if known is None:
                continue
            if known.minimum is None:
                found[name] = [None] * len(segments)
            elif is_whole:
                found[name] = [known.aggregate(self.head.last)]
            else:
                if ats is None:
                    ats = self.times_at([last - 1 for _, last in segments])
                found[name] = self._aggregates_of(name, segments, ats)
        return found

    def _aggregates_of(
        self, name: str, segments: Sequence[tuple[int, int]], ats: Sequence[int]
    ) -> list[Aggregate | None]:
        ranks = self._ranks_of(name)
        parts = segments
        if ranks is not None:
            parts = [(ranks[first], ranks[last]) for first, last in segments]
        found = self._column(column_of(name)).aggregates(parts)
        for known, at in zip(found, ats, strict=True):
            if known is not None:
                known.at = at
        return found

    def _aggregates_of_documents(
        self, segments: Sequence[tuple[int, int]], names: Collection[str] | None
    ) -> dict[str, list[Aggregate | None]]:
        found: dict[str, list[Aggregate | None]] = {}
        for at, (first, last) in enumerate(segments):
            documents = self._documents(first, last)
            if names is None:
                by_name = columns(documents)
            else:
                by_name = {name: column(documents, keys_of(name)) for name in names}
            for name, values in by_name.items():
                if values:
                    known = aggregate(values)
                    if known is not None:
                        known.at = self.times[last - 1]
                    found.setdefault(name, [None] * len(segments))[at] = known
        return found

    def values(self, name: str, first: int, last: int) -> list[Any]:
        """Return an attribute's values of the rows that have it, among these."""
        if DOCUMENTS in self.head.columns:
            return column(self._documents(first, last), keys_of(name))
        ranks = self._ranks_of(name)
        if ranks is not None:
            first, last = ranks[first], ranks[last]
        return self._column(column_of(name)).part(first, last)

    def numbers(self, name: str, first: int = 0, last: int | None = None) -> list[Number | None]:
        """Return the attribute's numbers by position; None where there is none."""
        first, last, _ = slice(first, last).indices(len(self))
        if DOCUMENTS in self.head.columns:
            keys = keys_of(name)
            return [_number(value_at(each, keys)) for each in self._documents(first, last)]
        if name not in self.head.attributes:
            return [None] * max(last - first, 0)
        return self._numbers(name, first, last)

    def column(self, name: str, first: int = 0, last: int | None = None) -> list[Any]:
        """Return the attribute's values by position; None where there is none."""
        first, last, _ = slice(first, last).indices(len(self))
        if DOCUMENTS in self.head.columns:
            return values_at(self._documents(first, last), keys_of(name))
        if name not in self.head.attributes:
            return [None] * max(last - first, 0)
        return self._by_position(name, first, last, Values.part)

    def _numbers(self, name: str, first: int, last: int) -> list[Number | None]:
        return self._by_position(name, first, last, Values.numbers)

    def _by_position(
        self, name: str, first: int, last: int, read: Callable[[Values, int, int], list[T]]
    ) -> list[T | None]:
        """Return what is read of a column by position; None where a row lacks the attribute."""
        ranks = self._ranks_of(name)
        values = self._column(column_of(name))
        if ranks is None:
            return [*read(values, first, last)]
        found = read(values, ranks[first], ranks[last])
        start = ranks[first]
        return [
            found[ranks[at] - start] if ranks[at] < ranks[at + 1] else None
            for at in range(first, last)
        ]

    def extremes(self, name: str, among: int) -> dict[int, Number]:
        """Return the least and the greatest of each so many of an attribute's numbers in a row.

        Or of nearly as many. By their positions, ascending, and the first and the last number.
        """
        if name in self.head.attributes and self._ranks_of(name) is None:
            found = self._column(column_of(name)).extremes(among)
            if found is not None:
                return dict(sorted(found.items()))
        known = [(at, each) for at, each in enumerate(self.numbers(name)) if each is not None]
        chosen: set[tuple[int, Number]] = set()
        for start in range(0, len(known), among):
            part = known[start : start + among]
            chosen |= {min(part, key=itemgetter(1)), max(part, key=itemgetter(1))}
        return dict(sorted([*chosen, *known[:1], *known[-1:]]))

    def verify(self) -> None:
        """Verify every column.

        Raises:
            DamagedChunkError: one of them is not as it was written; the first is named.
        """
        for name in self.head.columns:
            self._bytes(name)
        if len(self._body) != self.head.length:
            raise DamagedChunkError("body", "it goes on behind the last column")


def _made_ids(
    receipts: Sequence[int], sequences: Sequence[int], instances: Sequence[int]
) -> list[int]:
    return [
        (receipt // 1_000 << INGEST_ID_TIME_BIT) + (sequence << _INSTANCE_BITS) + instance
        for receipt, sequence, instance in zip(receipts, sequences, instances, strict=True)
    ]


def _number(value: Any) -> Number | None:
    return value if type(value) in NUMERIC else None
