"""The format that needs a package which is not always there."""

import importlib
from types import ModuleType


class FormatUnavailableError(Exception):
    """A package is missing that the format needs; the message names it."""


def parquet() -> ModuleType:
    """Return the module that writes and reads Parquet; loading it takes a fifth of a second.

    Raises:
        FormatUnavailableError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("heliograph.exchange.parquet")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise FormatUnavailableError(
            "parquet needs the package pyarrow: pip install 'heliograph[parquet]'"
        ) from error
