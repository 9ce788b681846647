"""The server, whose rollups stand still: what they cost is measured against it."""

import asyncio
import sys

from heliograph.cli.main import run
from heliograph.rollups.task import RollupTask


async def stand_still(self: RollupTask) -> None:
    """Do nothing for ever."""
    del self
    await asyncio.Event().wait()


if __name__ == "__main__":
    setattr(RollupTask, "run", stand_still)  # noqa: B010 - a method is not assigned to otherwise
    sys.argv[1:] = ["serve"]
    run()
