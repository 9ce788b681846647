"""`heliograph secrets`: encrypts what `.env` and the database hold.

No secret is given or shown in clear.
"""

import sys
from pathlib import Path

import typer

from heliograph.cli.database import with_store
from heliograph.cli.output import echo
from heliograph.environment import read_variables
from heliograph.errors import StartError
from heliograph.model.counting import counted
from heliograph.secrets import KEY_FILE, UndecipherableError, add_key
from heliograph.settings import encrypting_secrets, load_settings
from heliograph.store import Store

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
        text = typer.prompt("Secret", hide_input=True, confirmation_prompt=True, err=True)
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


@app.command()
def renew() -> None:
    """Encrypt the secrets of channels anew, with the first of the keys."""
    settings = load_settings()

    async def work(store: Store) -> tuple[int, list[str]]:
        count, unreadable = 0, []
        for channel in await store.channels.with_secrets():
            secrets = settings.secrets()
            try:
                encrypted = secrets.encrypt(secrets.decrypt(channel.secrets or ""))
            except UndecipherableError:
                unreadable.append(channel.name)
                continue
            # Those that somebody changes meanwhile are encrypted with that key anyway.
            count += await store.channels.encrypt(channel, encrypted)
        return count, unreadable

    count, unreadable = with_store(work, settings)
    echo(f"{counted(count, 'channel')}")
    if unreadable:
        names = ", ".join(map(repr, unreadable))
        raise StartError(f"encrypted with a key that is not there: {names}")
