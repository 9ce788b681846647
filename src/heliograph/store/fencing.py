"""What a transaction relies on: that its server still has the duty under which it writes."""

from contextvars import ContextVar
from typing import NamedTuple


class Fence(NamedTuple):
    """A duty as its holder was given it; `number` is raised whenever somebody else gets it."""

    duty: str
    holder: str
    number: int


# Within which all transactions of a task are; None: within none.
FENCE: ContextVar[Fence | None] = ContextVar("fence", default=None)
