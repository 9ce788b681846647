"""Where a stream stands: up to which id of each server its client has been sent everything.

Each server commits in the order of its own ids, and in no order with the others. So one id says
where a client stands for its own server only; with several servers there is one of each.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeAlias

from heliograph.model.identifiers import INGEST_ID_STEP, MAXIMUM_INSTANCE

# By the instance number that their ids end in: the greatest id of those that were sent.
Position: TypeAlias = Mapping[int, int]

MAXIMUM_SERVERS = MAXIMUM_INSTANCE + 1
_LONGEST_ID = 19


class Watermarks:
    """Up to which ids everything has been published here: `own` returns this server's."""

    def __init__(self, own: Callable[[], int] = lambda: 0) -> None:
        """Begin without any other server."""
        self.own = own
        self.others: dict[int, int] = {}
        # Returns once all that servers with these numbers have committed by now is published.
        self.look: Callable[[Collection[int]], Awaitable[None]] | None = None

    @property
    def position(self) -> Position:
        """Where those stand who have been sent all of it."""
        own = self.own()
        return {**self.others, own & MAXIMUM_INSTANCE: own}

    async def reach(self, position: Position) -> None:
        """Return when all of the others' that lies before a position has been published.

        It has been committed. But nobody may ever tell that it was, nor that nothing lies between
        it and a position: its server may have been killed before.
        """
        others = self.others
        behind = [at for at, each in position.items() if others.get(at, each) < each]
        if behind and self.look is not None:
            await self.look(behind)

    def beside(self, number: int) -> bytes:
        """Return the ids of all servers but the one with this number, as they follow its own."""
        return beside(self.position, number) if self.others else b""


def beside(position: Position, number: int) -> bytes:
    """Return a position's ids but for the one of this number, as they follow that."""
    return b"".join(b",%d" % each for at, each in position.items() if at != number)


def parse(text: str) -> Position | None:
    """Return the position that `Last-Event-ID` names; None: it names none."""
    parts = text.split(",", MAXIMUM_SERVERS)
    position: dict[int, int] = {}
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) <= _LONGEST_ID):
            return None
        number = int(part)
        if number >= 1 << 63 or number & MAXIMUM_INSTANCE in position:
            return None
        position[number & MAXIMUM_INSTANCE] = number
    return position


def passed(after: Position, until: Position, ingest_id: int) -> bool:
    """Return whether an id lies between two positions.

    Of a server that the first does not know nothing was sent that is older than all that it
    knows; of one that the second does not know everything is meant.
    """
    number = ingest_id & MAXIMUM_INSTANCE
    least = after.get(number)
    if ingest_id <= (min(after.values()) if least is None else least):
        return False
    greatest = until.get(number)
    return greatest is None or ingest_id <= greatest


def on_the_way(
    after: Position, until: Position, ingest_id: int, met: Iterable[int] = ()
) -> Position:
    """Return where one stands who is sent what lies between, by ids, and has got to this one.

    `met` are the numbers of servers whose ids are among it.
    """
    own, least = ingest_id & MAXIMUM_INSTANCE, min(after.values())
    position: dict[int, int] = {own: ingest_id}
    for number in {*after, *until, *met}:
        if number != own:
            before = _before(ingest_id, number)
            first = after.get(number, _before(least, number))
            position[number] = max(min(before, until.get(number, before)), first)
    return position


def _before(ingest_id: int, number: int) -> int:
    """Return the greatest id of a server that is less than another server's."""
    base = ingest_id & ~MAXIMUM_INSTANCE
    is_less = number < ingest_id & MAXIMUM_INSTANCE
    return base + number if is_less else base - INGEST_ID_STEP + number
