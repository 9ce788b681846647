"""What rows take in the database, and what their removal gives back: pure arithmetic.

On SQLite what pages become free in the file, to be used again; on PostgreSQL what the rows and
their index entries take, which goes back with the month's partition, or stays for new rows in it.
"""

from typing import Final, NamedTuple

from heliograph.store.removal import KeptKind


class RowBytes(NamedTuple):
    """Bytes of a row in its table, and of its entries in the indexes."""

    table: float
    indexes: float


# Beside their content, from the file's format: id, keys and times, header, pointer.
_SQLITE_ROW: Final = {
    KeptKind.MEASUREMENTS: 46,
    KeptKind.LOGS: 48,
    KeptKind.HEARTBEATS: 47,
    KeptKind.ROLLUPS: 25,
}
_SQLITE_INDEXES: Final = {
    KeptKind.MEASUREMENTS: 38,
    KeptKind.LOGS: 38,
    KeptKind.HEARTBEATS: 38,
    KeptKind.ROLLUPS: 28,
}
_POSTGRESQL_ROW: Final = {
    KeptKind.MEASUREMENTS: 74,
    KeptKind.LOGS: 78,
    KeptKind.HEARTBEATS: 78,
    KeptKind.ROLLUPS: 58,
}
# From 48 with many sensors to 69 with few: how full the index is depends on how they mix.
_POSTGRESQL_INDEXES: Final = 58

# Of SQLite's pages: what cells may fill of one, the largest part of a row that stays in it, and
# what stays of a larger one at least.
PAGE: Final = 4_096
_CELLS, _LOCAL, _LEAST, _OVERFLOW = PAGE - 8, PAGE - 35, 489, PAGE - 4
# A page is joined with its neighbours once more than two thirds of it are free; such pages are
# filled about so far in the end.
_JOINED_BELOW: Final = 1 / 3
_FILLED: Final = 0.55


def row_bytes(engine: str, kind: KeptKind, content: int) -> RowBytes:
    """Return what a row with so many bytes of content takes, as its pages are usually filled."""
    if engine == "postgresql":
        return RowBytes(_POSTGRESQL_ROW[kind] + content, _POSTGRESQL_INDEXES)
    cell, overflow = _SQLITE_ROW[kind] + content, 0
    if cell > _LOCAL:
        local = _LEAST + (cell - _LEAST) % _OVERFLOW
        local = local if local <= _LOCAL else _LEAST
        overflow = -(-(cell - local) // _OVERFLOW) * PAGE
        cell = local
    return RowBytes(PAGE / max(_CELLS // cell, 1) + overflow, _SQLITE_INDEXES[kind])


def rows_a_page(table_bytes: float) -> int:
    """Return how many rows of this size a page of SQLite holds."""
    return max(int(PAGE / max(table_bytes, 1)), 1)


def given_back(left: float) -> float:
    """Return the part of what is removed from a page of SQLite that becomes free pages.

    `left` is the part of the page's rows that stays: a page that is not empty enough stays too.
    """
    if left >= _JOINED_BELOW:
        return 0.0
    return (1 - left / _FILLED) / (1 - left)
