"""`heliograph` as from a shell, but within this process: a process of its own costs a second."""

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from heliograph.cli.main import run


class _Captured(io.TextIOWrapper):
    """A stream that is no terminal and keeps what is written."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", newline="", write_through=True)

    @property
    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()


def called(*arguments: str, environment: Mapping[str, str], folder: Path) -> CompletedProcess[str]:
    """Return what the program says, called in the folder with this environment alone."""
    output, errors = _Captured(), _Captured()
    status: object = 0
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["heliograph", *arguments]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO())),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            run()
        except SystemExit as end:
            status = end.code or 0
    return CompletedProcess(arguments, status, output.text, errors.text)
