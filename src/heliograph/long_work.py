"""Long work on the event loop, a few milliseconds at a time."""

import asyncio
import time

# After so long others have a turn.
TURN_SECONDS = 0.005


class LongWork:
    """A piece of work that may be long: it begins now."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def pause(self) -> None:
        """Let others have a turn if it has gone on for long enough."""
        if time.monotonic() - self._since > TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = time.monotonic()
