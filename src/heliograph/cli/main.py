"""`heliograph`: the command line. Each command is a file, read when it is called."""

import atexit
import contextlib
import gc
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from heliograph.errors import StartError, StoreUnavailableError
from heliograph.nearest import did_you_mean
from heliograph.printable import printable

COMMANDS = {
    "serve": "Start the server.",
    "initialize": "Wait for the database, migrate it, make the first administrator.",
    "migrate": "Bring the database to the newest revision.",
    "backup": "Write a backup of the database while the server runs, and verify it.",
    "restore": "Put a backup in the place of the database, and move what was there aside.",
    "doctor": "Look at database, disk, files, clock, broker and limits, and say what to do.",
    "settings": "Show the effective settings, secrets masked.",
    "secrets": "Encrypt the secrets of settings and channels, and make the key for it.",
    "user": "Make accounts, list them, set their passwords, take them out of use.",
    "device": "Register devices, show them, renew and end their keys, take them out of use.",
    "network": "Make networks, list them.",
    "channel": "Make channels, where alerts are told, list them, try and delete them.",
    "action": "See what rules have begun, and have it done again.",
    "rule": "Make rules, change them, try them on what is stored.",
    "alert": "List alerts, acknowledge them, clear them by hand.",
    "silence": "Silence alerts for a time, list silences, end them.",
    "audit": "List who changed what, newest first.",
    "broker": "Tell a broker that is not ours who may do what: the rules of the listener.",
    "export": "Write what was measured, logged and confirmed as CSV, JSON Lines or Parquet.",
    "import": "Send a file to the server: CSV, JSON Lines, Parquet, InfluxDB's line protocol.",
    "clock": "Say that the clock is right, though newer rows are stored.",
    "retention": "Tell what is due by the retention of networks and sensors, and remove it.",
    "pack": "Pack old measurements into compressed columns, read as before.",
    "compact": "Make SQLite's file as small as what is in it, while no server runs.",
    "rejected": "List messages that could not be accepted, read them, submit them again.",
    "tail": "Follow what sensors send, as it is committed.",
    "simulate": "Send what many sensors would send, over MQTT, and count what is acknowledged.",
}

# typer does not export it, and has moved it.
UsageError: Any = typer.BadParameter.__base__

_CHOICE = re.compile(r"'(?P<given>.*)' is not one of (?P<choices>'.*')\.?", re.DOTALL)
_QUOTED = re.compile(r"'([^']*)'")

_WHOLE = "{given!r} is not a whole number"
_WORDS = {
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": "{given!r} is not a number",
    "uuid_parsing": "{given!r} is not a UUID",
    "greater_than_equal": "{given} is less than {ge}",
    "less_than_equal": "{given} is more than {le}",
}


class LazyGroup(TyperGroup):
    """A group that imports a command's file only to run it: `--help` needs none of them."""

    def __init__(self, **attributes: Any) -> None:
        stand_ins = {
            name: TyperCommand(name=name, help=text, callback=None)
            for name, text in COMMANDS.items()
        }
        super().__init__(**{**attributes, "commands": stand_ins})

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the command line."""
        with _reworded():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read what comes behind the command's name, and run it."""
        with _reworded():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of its stand-in, then go on as usual."""
        if args and args[0] in COMMANDS:
            module = _imported(args[0])
            if "structlog" in sys.modules:
                _log_to_standard_error()
            command = self.commands[args[0]] = typer.main.get_command(module.app)
            if isinstance(command, TyperGroup):
                command.help = COMMANDS[args[0]]
            _let_flow(command)
            if not gc.isenabled():
                # What `run` has put off. The first search would go through all that was imported:
                # a start in twelve.
                gc.freeze()
                gc.enable()
        return super().resolve_command(ctx, args)


def _let_flow(command: Any) -> None:
    """Have the lines of a help text end where the terminal's do, not where those of the code do."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    for each in getattr(command, "commands", {}).values():
        _let_flow(each)


def _imported(name: str) -> Any:
    """Return a command's module."""
    module = f"heliograph.cli.{name}"
    if name != "serve":
        return importlib.import_module(module)
    from heliograph.cli.quick_imports import quickly  # noqa: PLC0415 - for a server alone

    with quickly():
        return importlib.import_module(module)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings come from environment variables and .env; heliograph settings shows them.",
)


def _log_to_standard_error() -> None:
    """Have what the store warns of stand apart from what a command prints, which programs read.

    Commands that tell more of their work, and the server, log as their settings have it instead.
    """
    from heliograph import logs  # noqa: PLC0415 - what logs nothing need not load it

    logs.configure("warning")


def _print_version(value: bool) -> None:
    if value:
        from heliograph.version import VERSION  # noqa: PLC0415 - no other command reads it

        typer.echo(f"heliograph {VERSION}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """A self-hosted telemetry server for sensor networks."""


def run() -> None:
    """Run the command line; what a person can mend is one line on standard error."""
    # Nearly all that imports make stays: to look for garbage among it takes a sixth of their time.
    gc.disable()
    # As Python ends it would go through all of it once more: a quarter of what `--help` takes, and
    # nearly half a second after a server.
    atexit.register(gc.freeze)
    # No package that happens to be installed takes part in reading settings and requests; to look
    # for one takes a tenth of what settings take.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app()
    except StartError as error:
        line = str(error)
    except StoreUnavailableError as error:
        line = f"the database does not answer: {error}"
    else:
        return
    sys.stderr.write(f"heliograph: {printable(' '.join(line.split()))}\n")
    sys.exit(1)


@contextlib.contextmanager
def _reworded() -> Iterator[None]:
    """Have a usage error from within say in our words what is wrong, and what may be meant.

    Those of the libraries are for programmers.
    """
    try:
        yield
    except UsageError as error:
        _reword(error)
        raise


def _reword(error: Any) -> None:
    """Change the error's message; one that was changed stays as it is."""
    if options := getattr(error, "possibilities", None):
        error.message = f"{error.message}: did you mean {' or '.join(sorted(options))}?"
        error.possibilities = None
    problems = getattr(error.__cause__, "errors", None)
    if problems is not None:
        error.message = "; ".join(map(_words, problems()))
        error.__cause__ = None
    if choice := _CHOICE.fullmatch(error.message):
        choices = _QUOTED.findall(choice["choices"])
        meant = did_you_mean(choice["given"], choices)
        error.message = f"{choice['given']!r} is not one of {', '.join(choices)}{meant}"


def _words(problem: Mapping[str, Any]) -> str:
    """Return one of pydantic's problems with a value."""
    limits = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(limits["error"])
    words = _WORDS.get(problem["type"])
    if words is None:
        return str(problem["msg"]).removeprefix("Input ")
    return words.format(given=problem["input"], **limits)
