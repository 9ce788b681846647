"""Reading rows in order, a bounded number of bytes at a time.

A row may be a thousand times as large as most are: the database leaves out the texts of what
would be too much with all others of its chunk, and reading goes on from there with fewer.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

from heliograph.store.engine import Row

P = TypeVar("P")
# Returns rows beyond a position, up to so many, without the texts of those whose texts are longer
# than so many characters together. The last column of each is how long they are.
Fetch: TypeAlias = Callable[[P, int, int], Awaitable[Sequence[Row]]]

# So many rows are read whatever their size, which is 1 MiB at most.
FEW = 8
ANY_SIZE = (1 << 31) - 1


async def row_chunks(
    fetch: Fetch[P],
    at: P,
    position: Callable[[Row], P],
    *,
    size: int,
    most: int,
    first: int | None = None,
    total: int | None = None,
) -> AsyncGenerator[Sequence[Row], None]:
    """Yield the rows beyond a position, up to `total`; `position` tells each row's own.

    Up to `most` at a time (`first` at first) and never none, whose texts have up to `size`
    characters together, or `FEW`.
    """
    left, limit, growth = total, first or most, most
    while left is None or left > 0:
        if left is not None:
            limit = min(limit, left)
        longest = longest_of(limit, size)
        rows = await fetch(at, limit, longest)
        ends = len(rows) < limit
        lengths = [row[-1] for row in rows]
        if max(lengths, default=0) > longest:
            rows = rows[: next(place for place, each in enumerate(lengths) if each > longest)]
            ends, limit, growth = False, FEW, 4
        elif limit < most and rows:
            # As large ones are to take a part of it only: the next may be larger.
            average = sum(lengths) // len(rows) + 1
            limit = min(most, growth * limit, max(FEW, size // 8 // average))
        if rows:
            at = position(rows[-1])
            if left is not None:
                left -= len(rows)
            yield rows
        if ends:
            return


def longest_of(limit: int, size: int) -> int:
    """Return how long the texts of so many rows may be, each row's, to come to `size` at most."""
    return size // limit if limit > FEW else ANY_SIZE
