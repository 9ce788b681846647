"""What commands say in lines of text; see `output` for tables and JSON."""

import typer

from heliograph.printable import printable_lines


def echo(text: str, *, err: bool = False) -> None:
    """Print text, every line of it as it is: no control characters; `err`: on standard error."""
    typer.echo(printable_lines(text), err=err)
