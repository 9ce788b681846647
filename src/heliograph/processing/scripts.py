"""Scripts: executables of the administrator in SCRIPTS_DIR, run when a rule says so."""

import asyncio
import os
import stat
from pathlib import Path

from heliograph.errors import DeliveryError
from heliograph.processing.programs import Bounds, run
from heliograph.processing.supervisor import CANNOT_RUN

LONGEST_NAME = 255
LONGEST_OUTPUT = 64 << 10
LONGEST_REASON = 1_024


def check_name(name: str) -> None:
    """Check that a name is one that a script of the folder may have, be there one or not.

    Raises:
        ValueError: it is none; it says why.
    """
    if not 0 < len(name) <= LONGEST_NAME or "\0" in name:
        raise ValueError(f"a script's name has 1 to {LONGEST_NAME} characters, and no NUL")
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise ValueError(f"{name!r} leads out of SCRIPTS_DIR")


class Scripts:
    """Runs scripts of one folder, so many at a time."""

    def __init__(self, folder: Path | None, *, seconds: float, memory: int, at_once: int) -> None:
        """Take the folder (None: there are no scripts) and the bounds of a script.

        `seconds` and `memory` (bytes of address space) are what one script may take.
        """
        self._folder = folder
        self._bounds = Bounds(seconds, memory, LONGEST_OUTPUT)
        self._turns = asyncio.Semaphore(at_once)

    def find(self, name: str) -> Path:
        """Return the real path of a script, which may be run.

        Raises:
            ValueError: there is none, or it must not be run; it says why.
        """
        if self._folder is None:
            raise ValueError("there are no scripts: SCRIPTS_DIR is not set")
        check_name(name)
        try:
            folder = self._folder.resolve(strict=True)
            path = (folder / name).resolve(strict=True)
            if not path.is_relative_to(folder):
                raise ValueError(f"{name!r} is a link out of SCRIPTS_DIR")
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise ValueError(f"{name!r} is no file")
            if not os.access(path, os.X_OK):
                raise ValueError(f"{name!r} is not executable: chmod +x")
            inside = [each for each in path.parents if each.is_relative_to(folder)]
            for each in (path, *inside):
                if each.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise ValueError(f"others may write to {str(each)!r}: chmod go-w")
        except OSError as error:
            raise ValueError(f"there is no script {name!r}: {error.strerror}") from None
        except RuntimeError:  # before Python 3.13, of links in a circle
            raise ValueError(f"{name!r} is a link to itself") from None
        return path

    async def run(self, name: str, message: bytes) -> str:
        """Run a script with a message (JSON) as its input, and return what it wrote.

        Raises:
            DeliveryError: it must not be run, was ended, or ended with a status but 0.
        """
        async with self._turns:
            try:
                path = await asyncio.to_thread(self.find, name)
            except ValueError as error:
                raise DeliveryError(str(error), is_final=True) from None
            try:
                ending = await run([str(path)], message, path.parent, self._bounds)
            except DeliveryError as error:
                raise DeliveryError(f"{name!r} {error}") from error
        if ending.status == 0:
            return ending.output
        output = ending.output[:LONGEST_REASON].strip()
        if ending.status == CANNOT_RUN:
            raise DeliveryError(f"{name!r} can't be run: {output}", is_final=True)
        raise DeliveryError(f"{name!r} ended with status {ending.status}: {output}".rstrip(": "))
