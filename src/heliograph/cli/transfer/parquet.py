"""Parquet on the command line."""

from types import ModuleType

from heliograph.errors import StartError
from heliograph.exchange.availability import FormatUnavailableError, parquet


def load_parquet() -> ModuleType:
    """Return what writes and reads Parquet.

    Raises:
        StartError: it is not installed.
    """
    try:
        return parquet()
    except FormatUnavailableError as error:
        raise StartError(str(error)) from error
