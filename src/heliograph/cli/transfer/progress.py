"""How far a transfer is: shown by a bar, and kept in a file for the run that goes on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from heliograph.printable import printable


class Bar:
    """A progress bar on standard error; a context manager.

    Off a terminal it prints what is said, and no bar.
    """

    def __init__(self, total: int | None) -> None:
        console = Console(stderr=True, highlight=False, markup=False)
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total, rows=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, completed: int, rows: int) -> None:
        """Show how much of the total is done, and how many rows that was."""
        self._progress.update(self._task, completed=completed, rows=rows)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(printable(line), soft_wrap=True, markup=False)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """Put at the path what is written, all of it or what was there before; return its bytes."""
    draft = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(descriptor)
            size = file.tell()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return size
