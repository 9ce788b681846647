"""`heliograph backup`."""

from pathlib import Path

import typer

from heliograph.backup_files import SECRETS_SUFFIX, path_for, thin_out, written
from heliograph.backup_secrets import collect, encrypt
from heliograph.cli.database import require_file
from heliograph.cli.output import Json, echo, print_json
from heliograph.cli.passphrase import read_passphrase
from heliograph.cli.termination import undone_when_terminated
from heliograph.database_url import parse_database_url
from heliograph.errors import StartError
from heliograph.model.time import now
from heliograph.settings import load_settings
from heliograph.store.backups import back_up, suffix_of

app = typer.Typer(add_completion=False)


@app.command()
def backup(
    given: str = typer.Argument(
        metavar="path", help="The file to write; of a folder: one with the time as name."
    ),
    *,
    keep: int | None = typer.Option(
        None, min=1, help="How many dated backups stay in the folder; older ones are deleted."
    ),
    with_secrets: bool = typer.Option(
        False,
        "--with-secrets",
        help="Write keys and secrets too, encrypted under BACKUP_PASSPHRASE, to FILE.secrets.",
    ),
    as_json: Json = False,
) -> None:
    """Write a backup of the database while the server runs, and verify it.

    All that was acknowledged before is in it. The server may be stopped as well. Of SQLite it is a
    database, of PostgreSQL a dump in pg_dump's custom format.
    """
    path = Path(given)
    # A name that ends in a slash means a folder: it must not become a file.
    if (given.endswith("/") or keep is not None) and not path.exists():
        raise StartError(f"there is no folder {path}")
    if keep is not None and not path.is_dir():
        raise typer.BadParameter("--keep goes with a folder, in which backups have dated names")
    settings = load_settings()
    url = parse_database_url(settings.database_url)
    require_file(url)
    suffix = suffix_of(url)
    target = path_for(path, suffix, now())
    if url.is_sqlite and target.exists() and target.samefile(url.path):
        raise StartError(f"{target} is the database itself: give another name, or a folder")
    # Asked for first: the backup may take long.
    encrypted = encrypt(collect(settings), read_passphrase(new=True)) if with_secrets else None
    beside = target.with_name(target.name + SECRETS_SUFFIX)
    with undone_when_terminated(), written(target) as part:
        contents = back_up(url, part)
        if encrypted is not None:
            with written(beside) as part_beside:
                part_beside.write_bytes(encrypted)
    gone = [] if keep is None else thin_out(path, suffix, keep)
    size = target.stat().st_size
    if as_json:
        members = {
            "file": str(target),
            "bytes": size,
            "revision": contents.revision,
            "rows": contents.rows,
            "secrets": str(beside) if with_secrets else None,
            "deleted": [str(each) for each in gone],
        }
        print_json(members)
        return
    echo(f"{target}: {size:,} bytes, verified: {contents.summary}")
    if with_secrets:
        echo(f"{beside}: secrets, encrypted")
    for each in gone:
        echo(f"deleted: {each}")
