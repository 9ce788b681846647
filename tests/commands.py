"""`heliograph` as from a shell, but within this process: a process of its own costs a second."""

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest import mock

import shared
from heliograph import logs
from heliograph.cli.main import run

# What commands handle in a way of their own.
_CHANGED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)


class _Captured(io.TextIOWrapper):
    """A stream that is no terminal and keeps what is written."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", newline="", write_through=True)

    @property
    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()


@contextlib.contextmanager
def _no_logs_of_others() -> Iterator[None]:
    """Log as a new process does: to nowhere unless told, and leave nothing that logs here.

    A server beside the command, in threads that were there before it, does not write to the
    command's standard error.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    configure = logs.configure

    def configured(*arguments: Any, **options: Any) -> None:
        configure(*arguments, **options)
        for handler in root.handlers:
            handler.addFilter(lambda record: record.thread not in others)

    # Without any handler, a warning would go to standard error.
    root.handlers[:] = [logging.NullHandler()]
    root.setLevel(logging.WARNING)
    try:
        with mock.patch.object(logs, "configure", configured):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    """Handle signals afterwards as before.

    A command may end at a closed pipe (SIGPIPE): the tests' process would end at any closed socket.
    """
    before = {number: signal.getsignal(number) for number in _CHANGED}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def called(
    *arguments: str, environment: Mapping[str, str], folder: Path, typed: str = ""
) -> CompletedProcess[str]:
    """Return what the program says, called in the folder with this environment alone."""
    output, errors = _Captured(), _Captured()
    status: object = 0
    # What the command starts belongs to the run of the tests.
    run_of_tests = {shared.VARIABLE: os.environ[shared.VARIABLE]}
    with (
        mock.patch.dict(os.environ, {**environment, **run_of_tests}, clear=True),
        mock.patch.object(sys, "argv", ["heliograph", *arguments]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode()))),
        contextlib.chdir(folder),
        _no_logs_of_others(),
        _kept_signals(),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            run()
        except SystemExit as end:
            status = end.code or 0
    return CompletedProcess(arguments, status, output.text, errors.text)
