"""The head of a chunk: what is known of its rows without reading them, and where its columns are.

As stored, a head is a byte that tells the format, the CRC-32 of all else (four bytes, the lowest
first), and JSON, which can be read without this program.
"""

import zlib
from collections.abc import Collection
from typing import Final

import msgspec

from heliograph.model.aggregation import Aggregate, Number

FORMAT: Final = 1
_JSON_AT: Final = 5

# Columns of rows. An attribute's column is called by its name with a dot before it.
TIMES: Final = "times"
SHAPES: Final = "shapes"
DOCUMENTS: Final = "documents"
RECEIPTS: Final = "receipts"
IDS: Final = "ids"
REVISIONS: Final = "revisions"
DEVICE_TIMESTAMPS: Final = "device_timestamps"
ELEMENT_IDS: Final = "element_ids"
KEPT: Final = "kept"


class DamagedChunkError(Exception):
    """A chunk is not as it was written; `part` is "head", "body", or the column that is damaged."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part


class AttributeHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of an attribute: how many rows have it, and how many as a number.

    And the least, the greatest, the sum and the last of these; None where there is none. Of the
    first rows with the least and the greatest there are the position and how much later they are
    than the chunk's first row (microseconds): so a chart of years is drawn from heads.
    """

    count: int
    numbers: int
    minimum: Number | None
    maximum: Number | None
    total: Number | None
    last: Number | None
    minimum_at: tuple[int, int] | None
    maximum_at: tuple[int, int] | None

    def aggregate(self, at: int) -> Aggregate | None:
        """Return what is known of the numbers, the last of which is of the time `at`."""
        minimum, maximum, total, last = self.minimum, self.maximum, self.total, self.last
        if minimum is None or maximum is None or total is None or last is None:
            return None
        return Aggregate(self.numbers, total, minimum, maximum, last, at)


class ColumnPlace(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many bytes a column has, and their CRC-32. Columns follow one another in the body."""

    length: int
    checksum: int


class ChunkHead(msgspec.Struct, frozen=True):
    """What is known of a chunk.

    Times are in microseconds: `first` and `last` are those of the first and the last row,
    `first_id` and `last_id` the least and the greatest ingest id. `attributes` are by name, in the
    order of their columns; there are none if the chunk has whole documents, for having too many.
    """

    sensor: int
    first: int
    last: int
    count: int
    first_id: int
    last_id: int
    attributes: dict[str, AttributeHead]
    columns: dict[str, ColumnPlace]

    @property
    def length(self) -> int:
        """How many bytes the body has."""
        return sum([place.length for place in self.columns.values()])

    def needed(self, names: Collection[str] | None = None) -> int:
        """Return how much of a body (bytes, from its beginning) aggregates need.

        Of the attributes with these names; without names, of all.
        """
        if names is None:
            wanted = {column_of(name) for name in self.attributes}
        else:
            wanted = {column_of(name) for name in names if name in self.attributes}
        wanted |= {TIMES, SHAPES, DOCUMENTS}
        at = needed = 0
        for name, place in self.columns.items():
            at += place.length
            if name in wanted:
                needed = at
        return needed

    def needed_whole(self) -> int:
        """Return the same for aggregates of all its rows together."""
        return self.needed() if DOCUMENTS in self.columns else 0


def column_of(name: str) -> str:
    """Return what the attribute's column is called."""
    return "." + name


class _Places(msgspec.Struct):
    """Of a head what tells where columns are."""

    columns: dict[str, ColumnPlace]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ChunkHead).decode
_decode_places = msgspec.json.Decoder(_Places).decode


def write_head(head: ChunkHead) -> bytes:
    """Return the head as it is stored."""
    text = _encode(head)
    return bytes((FORMAT,)) + _checksum(FORMAT, text) + text


def read_head(stored: bytes) -> ChunkHead:
    """Return the head.

    Raises:
        DamagedChunkError: it is not as it was written, or of a later format.
    """
    return _decode(_verified(stored))


def read_places(stored: bytes) -> dict[str, ColumnPlace]:
    """Return of a head the columns alone, which takes half of the time.

    Raises:
        DamagedChunkError: as `read_head`.
    """
    return _decode_places(_verified(stored)).columns


def _verified(stored: bytes) -> bytes:
    text = stored[_JSON_AT:]
    if not text or stored[1:_JSON_AT] != _checksum(stored[0], text):
        raise DamagedChunkError("head", "the checksum is another")
    if stored[0] != FORMAT:
        raise DamagedChunkError("head", f"format {stored[0]} is of a later version")
    return text


def _checksum(version: int, text: bytes) -> bytes:
    return zlib.crc32(text, zlib.crc32(bytes((version,)))).to_bytes(4, "little")
