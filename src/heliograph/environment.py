"""Where settings come from: the environment, `.env`, and files that hold a secret."""

import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from heliograph.errors import StartError
from heliograph.nearest import nearest

ENV_FILE = Path(".env")
FILE_SUFFIX = "_FILE"
_LONGEST_SECRET = 64 * 1024
# How alike a name has to be to one of ours: MYSQL_PASSWORD is none, and what stands in our own file
# is more likely one.
LIKELY = 0.82
CERTAIN = 0.9


def read_variables(names: Collection[str], env_file: Path = ENV_FILE) -> dict[str, str]:
    """Return the text of those of the named variables that are set.

    The environment wins over `.env`, whichever form (NAME or NAME_FILE) either uses. A name
    that is set to nothing is in the answer as an empty text.

    Raises:
        StartError: a source cannot be read, or gives both NAME and NAME_FILE.
    """
    found = _resolve(_read_env_file(env_file, names), names, f" in {env_file}")
    found.update(_resolve(os.environ, names, ""))
    return found


class Mistyped(NamedTuple):
    """A variable that is none of ours, which of ours may be meant by it, and where it is set."""

    name: str
    meant: str
    source: str


def mistyped(names: Collection[str], env_file: Path = ENV_FILE) -> list[Mistyped]:
    """Return the variables that are probably meant to be one of the named ones.

    In the environment, which is full of others', only what begins like one of them is looked at.

    Raises:
        StartError: `.env` cannot be read.
    """
    known = {*names, *(name + FILE_SUFFIX for name in names)}
    beginnings = tuple({name.partition("_")[0] + "_" for name in names if "_" in name})
    in_file = _read_env_file(env_file, names)
    taken = {name.removesuffix(FILE_SUFFIX) for name in (*os.environ, *in_file) if name in known}
    unset = {name for name in known if name.removesuffix(FILE_SUFFIX) not in taken}
    found: list[Mistyped] = []
    for name in in_file:
        if name not in known:
            meant = nearest(name, unset, 1, LIKELY) or nearest(name, known, 1, CERTAIN)
            found += [
                Mistyped(name, each, str(env_file)) for each in meant if _may_mean(name, each)
            ]
    for name in os.environ:
        if name not in known and name.startswith(beginnings):
            meant = nearest(name, unset, 1, CERTAIN)
            found += [Mistyped(name, each, "the environment") for each in meant]
    return found


def _may_mean(name: str, meant: str) -> bool:
    # What one of ours begins with may be another's own: a word alone often is.
    return "_" in name or len(meant) <= len(name) + 2


def _resolve(
    variables: Mapping[str, str | None], names: Collection[str], where: str
) -> dict[str, str]:
    """Return the named variables of one source, with NAME_FILE replaced by what it holds."""
    found: dict[str, str] = {}
    for name in names:
        value, path = variables.get(name), variables.get(name + FILE_SUFFIX)
        if value and path:
            raise StartError(f"{name}: set together with {name}{FILE_SUFFIX}{where}; keep one")
        if path:
            found[name] = _read_secret(name + FILE_SUFFIX, Path(path))
        elif value is not None:
            found[name] = value.strip()
    return found


def _read_secret(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_SECRET + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"{name}: cannot read {str(path)!r}: {reason}") from error
    if len(content) > _LONGEST_SECRET:
        raise StartError(f"{name}: {str(path)!r} is longer than {_LONGEST_SECRET} bytes")
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise StartError(f"{name}: {str(path)!r} is not UTF-8 text") from error
    if not text:
        raise StartError(f"{name}: {str(path)!r} is empty")
    return text


def _read_env_file(path: Path, names: Collection[str]) -> Mapping[str, str | None]:
    """Return the file's variables; what other programs keep in it is of no concern here."""
    try:
        content = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise StartError(f"{path}: cannot read it: {reason}") from error
    for binding in parse_stream(io.StringIO(content)):
        text = binding.original.string
        if binding.error and (name := _begins_with(text, names)):
            blank = text[: len(text) - len(text.lstrip())].count("\n")
            line = binding.original.line + blank
            raise StartError(f"{path}: {name} on line {line} is not NAME=value")
    return dotenv_values(stream=io.StringIO(content))


def _begins_with(line: str, names: Collection[str]) -> str | None:
    """Return which variable a line that is no assignment was meant to set, if it is ours."""
    word = line.strip().removeprefix("export ").lstrip().split("=")[0].strip()
    return word if word.removesuffix(FILE_SUFFIX) in names else None
