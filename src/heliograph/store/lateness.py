"""Which measurements come late: behind what the rollups hold already, or may soon."""

from collections.abc import Collection, Sequence

from heliograph.model.records import MeasurementRow
from heliograph.model.time import HOUR, MINUTE, now

# Several instances write to PostgreSQL, and one rolls up what is older than LAG. What is older
# than LATE when a write begins is marked; between the two lies the time that a write takes at
# most (30 seconds for a statement, as much for its commit) and what clocks may differ by.
LATE = 3 * MINUTE
LAG = 5 * MINUTE


class Lateness:
    """What is older than `floor` is late: the frontier, or where it is about to be."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: other instances may move the frontier too."""
        self.floor = 0
        self._shared = shared

    def raise_floor(self, floor: int) -> None:
        """Take everything before for late, in every write that begins from now on."""
        self.floor = max(self.floor, floor)

    def before(self) -> int:
        """Return the time before which a row is late, for a write that begins now."""
        return max(self.floor, now() - LATE) if self._shared else self.floor


def late_hours(
    rows: Sequence[MeasurementRow], before: int, repeats: Collection[int] = ()
) -> list[tuple[int, int]]:
    """Return each sensor and hour that late rows, but for repeats, are of."""
    late = [row for row in rows if row[2] < before]
    if repeats:
        late = [row for row in late if row[0] not in repeats]
    # Sorting tuples takes five times as long; rows come sorted.
    return list(dict.fromkeys([(row[1], row[2] - row[2] % HOUR) for row in late]))
