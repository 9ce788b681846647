"""The live rate display: a table on a terminal, plain lines elsewhere; on standard error."""

import asyncio
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from heliograph.cli.simulation.tally import Tally, total
from heliograph.printable import printable

TERMINAL_SECONDS = 0.5
LINE_SECONDS = 5.0


class Display:
    """Shows how a run goes until its task is cancelled."""

    def __init__(self, tally: Tally, connected: Callable[[], tuple[int, int]]) -> None:
        self._tally = tally
        self._connected = connected
        self._console = Console(stderr=True, highlight=False)
        self._started = self._at = time.monotonic()
        self._sent = self._acknowledged = 0

    async def run(self) -> None:
        """Show and refresh."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_SECONDS)
                self._console.print(printable(self._line()), soft_wrap=True, markup=False)
        with Live(self._table(), console=self._console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(TERMINAL_SECONDS)
                live.update(self._table(), refresh=True)

    def _figures(self) -> dict[str, str]:
        """Return the figures by name; rates are those since the last call."""
        tally, now = self._tally, time.monotonic()
        sent, acknowledged = total(tally.sent), total(tally.acknowledged)
        seconds = max(1e-3, now - self._at)
        connected, connections = self._connected()
        figures = {
            "seconds": f"{now - self._started:.0f}",
            "connected": f"{connected}/{connections}",
            "sent/s": f"{(sent - self._sent) / seconds:,.0f}",
            "acknowledged/s": f"{(acknowledged - self._acknowledged) / seconds:,.0f}",
            "acknowledged": f"{acknowledged:,}",
            "in flight": f"{tally.in_flight:,}",
            "refused": f"{total(tally.refused):,}",
            "errors": f"{tally.errors:,}",
        }
        self._at, self._sent, self._acknowledged = now, sent, acknowledged
        return figures

    def _line(self) -> str:
        line = "  ".join(f"{name} {value}" for name, value in self._figures().items())
        return f"{line}  last error: {self._tally.last_error}" if self._tally.errors else line

    def _table(self) -> Table:
        figures = self._figures()
        error = Text(printable(self._tally.last_error or ""))
        table = Table(caption=error or None, caption_justify="left")
        for name in figures:
            table.add_column(name, justify="right")
        table.add_row(*figures.values())
        return table
