"""`heliograph settings`."""

from itertools import filterfalse
from typing import Any

import typer

from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.cli.output import echo, print_json
from heliograph.printable import printable
from heliograph.settings import load_settings, mistyped_variables

app = typer.Typer(add_completion=False)


@app.command()
def settings(*, json: bool = typer.Option(False, "--json", help="Print one JSON object.")) -> None:
    """Show the effective settings, secrets masked.

    They come from environment variables, then .env in the working directory, then defaults.
    """
    effective = load_settings()
    for each in mistyped_variables():
        warning = f"{each.name}, in {each.source}, is no setting: did you mean {each.meant}?"
        echo(printable(warning), err=True)
    masked = effective.masked()
    if json:
        print_json(masked)
        return
    changeable = {name.upper() for name in effective.changeable}
    echo("# GET /rereadenv reads these again while the server runs")
    for name in filter(changeable.__contains__, masked):
        echo(f"{name}={printable(_text(masked[name]))}")
    echo("# others count from the next start on")
    for name in filterfalse(changeable.__contains__, masked):
        echo(f"{name}={printable(_text(masked[name]))}")
    kept = effective.data_directory / SECRET_KEY_FILE
    if effective.api_secret_key is None and kept.exists():
        echo(f"# API_SECRET_KEY is the one in {printable(str(kept))}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
