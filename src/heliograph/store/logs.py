"""Log messages."""

from collections.abc import Sequence

from heliograph.model.records import Log
from heliograph.store.engine import Engine, Row
from heliograph.store.pages import Pages


def _logs(rows: Sequence[Row]) -> list[Log]:
    return [Log(*row) for row in rows]


class Logs(Pages[Log]):
    """What sensors logged."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "logs", _logs)
