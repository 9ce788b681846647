"""`heliograph secrets`: encrypts what `.env` is to hold. No secret is given or shown in clear."""

import sys
from pathlib import Path

import typer

from heliograph.cli.output import echo
from heliograph.environment import read_variables
from heliograph.errors import StartError
from heliograph.secrets import KEY_FILE, add_key
from heliograph.settings import encrypting_secrets

app = typer.Typer(add_completion=False, no_args_is_help=True)

LONGEST = 64 << 10


@app.command()
def encrypt() -> None:
    """Print a secret encrypted, as `enc:…`, for .env.

    It is read from standard input up to its end, or asked for at a terminal, and its line's end is
    not part of it.
    """
    secrets = encrypting_secrets()
    if sys.stdin.isatty():
        text = typer.prompt("Secret", hide_input=True, confirmation_prompt=True)
    else:
        text = sys.stdin.read(LONGEST + 1).rstrip("\r\n")
    if not text or len(text) > LONGEST:
        raise StartError(f"a secret has 1 to {LONGEST} characters")
    echo(secrets.encrypt(text))


@app.command()
def key(
    file: Path | None = typer.Argument(
        None, help="The file that holds the keys; secrets_key in DATA_DIRECTORY if not given."
    ),
) -> None:
    """Make a key, and put it in front of those that the file holds.

    What is encrypted from now on is encrypted with it; the former keys go on decrypting.
    """
    if file is None:
        found = read_variables(["DATA_DIRECTORY", "SECRETS_KEY"])
        if found.get("SECRETS_KEY"):
            raise StartError("SECRETS_KEY is set: name the file that holds its keys")
        file = Path(found.get("DATA_DIRECTORY") or "./data") / KEY_FILE
    count = add_key(file)
    echo(f"{file}: {count} {'key' if count == 1 else 'keys, of which the first is new'}")
