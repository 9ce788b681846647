"""`heliograph restore`."""

from pathlib import Path

import typer

from heliograph.backup_files import SECRETS_SUFFIX
from heliograph.backup_secrets import decrypt, put_back
from heliograph.cli.output import echo
from heliograph.cli.passphrase import read_passphrase
from heliograph.cli.termination import undone_when_terminated
from heliograph.database_url import parse_database_url
from heliograph.errors import StartError
from heliograph.settings import load_settings
from heliograph.store.backups import restore as put_in_place

app = typer.Typer(add_completion=False)


@app.command()
def restore(
    file: Path = typer.Argument(help="A backup, as heliograph backup writes it."),
    *,
    with_secrets: bool = typer.Option(
        False,
        "--with-secrets",
        help="Put back the secrets in FILE.secrets too, under BACKUP_PASSPHRASE.",
    ),
) -> None:
    """Put a backup in the place of the database, and move what was there aside.

    It is the database that the settings name, and no server may use it. Nothing is deleted.
    """
    settings = load_settings()
    url = parse_database_url(settings.database_url)
    secrets = None
    if with_secrets:
        beside = file.with_name(file.name + SECRETS_SUFFIX)
        try:
            content = beside.read_bytes()
        except OSError as error:
            raise StartError(f"can't read {beside}: {error.strerror}") from error
        secrets = decrypt(content, read_passphrase(new=False))
    with undone_when_terminated():
        contents, replaced = put_in_place(file, url)
    echo(f"{url.place}: restored, {contents.summary}")
    if replaced is not None:
        echo(f"what was there before: {replaced}; delete it once it is not needed any more")
    if secrets is not None:
        for path in put_back(secrets, settings.data_directory):
            echo(f"written: {path}")
    echo("start the server: it migrates what is of an earlier version, and devices send on")
