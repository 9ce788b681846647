"""Views of hours and days: the rollups that they read become JSON.

What is here of how rollups were stored stays as it is, whatever becomes of them.
"""

from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy
from alembic import op
from msgspec.msgpack import Ext

from heliograph.store.migrations.statements import run_script

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_AT_ONCE = 1_000
_WHOLE_TOTAL = ord("w")
_TOTAL_BYTES = 140
# What MessagePack has a place for.
_LEAST, _GREATEST = -(1 << 63), (1 << 64) - 1


def upgrade() -> None:
    """Write the rollups of days anew, and make the views."""
    _rewrite(_as_text)
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Undo both."""
    run_script(__file__, "downgrade")
    _rewrite(_as_lists)


def _rewrite(written: Callable[[bytes], bytes]) -> None:
    connection = op.get_bind()
    at = {"sensor": -1, "start": 0, "limit": _AT_ONCE}
    while rows := connection.execute(
        sqlalchemy.text(
            "SELECT sensor, start, packed FROM rollup"
            " WHERE level = 3600 AND (sensor, start) > (:sensor, :start)"
            " ORDER BY sensor, start LIMIT :limit"
        ),
        at,
    ).fetchall():
        changes = [
            {"sensor": sensor, "start": start, "packed": written(bytes(packed))}
            for sensor, start, packed in rows
        ]
        connection.execute(
            sqlalchemy.text(
                "UPDATE rollup SET packed = :packed"
                " WHERE sensor = :sensor AND level = 3600 AND start = :start"
            ),
            changes,
        )
        at |= {"sensor": rows[-1][0], "start": rows[-1][1]}


def _as_text(packed: bytes) -> bytes:
    slots, counts, complete, attributes = msgspec.msgpack.decode(packed)
    named = {name: list(map(_numbers, columns)) for name, columns in attributes.items()}
    return msgspec.json.encode([_numbers(slots), _numbers(counts), complete, named])


def _numbers(column: Any) -> Any:
    if isinstance(column, list):
        return list(map(_numbers, column))
    if not isinstance(column, Ext):
        return column
    if column.code == _WHOLE_TOTAL:
        return int.from_bytes(column.data, "little", signed=True)
    numbers = array(chr(column.code))
    numbers.frombytes(column.data)
    return numbers.tolist()


def _as_lists(packed: bytes) -> bytes:
    slots, counts, complete, attributes = msgspec.json.decode(packed)
    for columns in attributes.values():
        # Totals alone had a place for what has more than 64 bits.
        columns[2] = columns[2] and [
            Ext(_WHOLE_TOTAL, number.to_bytes(_TOTAL_BYTES, "little", signed=True))
            if isinstance(number, int) and not _LEAST <= number <= _GREATEST
            else number
            for number in columns[2]
        ]
        for at in (3, 4, 5):
            columns[at] = columns[at] and [
                float(number)
                if isinstance(number, int) and not _LEAST <= number <= _GREATEST
                else number
                for number in columns[at]
            ]
    return msgspec.msgpack.encode([slots, counts, complete, attributes])
