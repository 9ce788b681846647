"""Libraries that most servers never use: imported when somebody does, in a thread.

httpx takes a tenth of a second, for which nobody would be answered if the event loop imported it.
What has awaited `load` imports them by the statement, which finds them there.
"""

import asyncio
import importlib

_loaded: set[str] = set()


async def load(name: str) -> None:
    """Import a library in a thread, unless that has been done."""
    if name not in _loaded:
        await asyncio.to_thread(importlib.import_module, name)
        _loaded.add(name)
