"""`heliograph doctor`: what an installation is like, and what to do where it is wrong."""

import asyncio

import httpx
import typer

from heliograph.cli.database import require_file
from heliograph.cli.local_server import default_url
from heliograph.cli.output import Json, echo, print_json
from heliograph.database_url import parse_database_url
from heliograph.doctor import (
    Finding,
    Grade,
    examine_broker,
    examine_database,
    examine_machine,
    of_readiness,
    of_start,
    worst,
)
from heliograph.errors import StartError
from heliograph.printable import printable
from heliograph.settings import Settings, load_settings
from heliograph.store import open_store

app = typer.Typer(add_completion=False)

# As monitoring plugins have it.
STATUS = {Grade.OK: 0, Grade.WARNING: 1, Grade.FAILURE: 2}
SERVER_SECONDS = 10.0


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Look at database, disk, files, clock, broker and limits, and say what to do.

    It ends with 0 if all is well, 1 if there are warnings, 2 if something is wrong.
    """
    findings = _findings()
    status = worst(findings)
    if as_json:
        members = [finding._asdict() for finding in findings]
        print_json({"status": status, "findings": members})
    else:
        for finding in findings:
            echo(f"{finding.state:<8} {finding.check:<13} {printable(finding.found)}")
            if finding.advice is not None:
                echo(f"{'':<22} → {printable(finding.advice)}")
    raise typer.Exit(STATUS[status])


def _findings() -> list[Finding]:
    try:
        settings = load_settings()
    except StartError as error:
        advice = "correct them: docs/guide/settings.md"
        return [Finding("settings", Grade.FAILURE, str(error), advice)]
    try:
        require_file(parse_database_url(settings.database_url))
        of_database = asyncio.run(_of_database(settings))
    except StartError as error:
        of_database = [of_start(error)]
    return [*of_database, *_of_server(settings), *examine_machine(settings)]


async def _of_database(settings: Settings) -> list[Finding]:
    store = await open_store(settings.database_url)
    try:
        return await examine_database(settings, store)
    finally:
        await store.close()


def _of_server(settings: Settings) -> list[Finding]:
    """Ask the server of this machine, if one runs; else look at its broker from here."""
    url = default_url("127.0.0.1")
    try:
        answer = httpx.get(f"{url}/readyz", timeout=SERVER_SECONDS).json()
        return of_readiness(map(str, answer["reasons"]), map(str, answer["warnings"]))
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        said = str(error) or type(error).__name__
        none = Finding("server", Grade.SKIPPED, f"none answers at {url}: {said}")
        broker = asyncio.run(examine_broker(settings))
        return [none] if broker is None else [none, broker]
