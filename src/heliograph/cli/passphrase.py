"""The passphrase of the secrets that lie beside a backup: never among the arguments."""

import sys

import typer

from heliograph.environment import read_variables
from heliograph.errors import StartError

VARIABLE = "BACKUP_PASSPHRASE"


def read_passphrase(*, new: bool) -> str:
    """Return BACKUP_PASSPHRASE, or the file's text that BACKUP_PASSPHRASE_FILE names, or ask.

    Raises:
        StartError: there is none, and nobody to ask.
    """
    if given := read_variables([VARIABLE]).get(VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise StartError(f"{VARIABLE}: required for secrets; or {VARIABLE}_FILE, a file's path")
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True))
