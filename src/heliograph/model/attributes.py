r"""The attributes of a value: what of it has a name, a newest value and aggregates.

Members of nested objects have dotted names; `.` and `\` in keys are escaped with `\`. An array is
the value of one attribute. Objects without members have none. A value that is not an object is the
attribute `value`.
"""

import functools
import re
from collections.abc import Iterator, KeysView, Sequence
from typing import Any, Final, TypeAlias

import msgspec

_STEP = re.compile(r"((?:[^.\\]|\\.)*)(\.|\Z)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# What a value that is not an object appears as.
WHOLE: Final = ("value",)
VALUE_ONLY: Final = frozenset(WHOLE)

# The keys of a flat object whose keys need no escapes (no copy), else the escaped names.
Attributes: TypeAlias = KeysView[str] | frozenset[str]


class NoValue:
    """Stands for no value, where null is one."""


MISSING: Final = NoValue()


@functools.lru_cache(maxsize=8_192)
def keys_of(name: str) -> tuple[str, ...]:
    """Return the keys that lead to the attribute."""
    keys: list[str] = []
    at = 0
    while step := _STEP.match(name, at):
        keys.append(_ESCAPED.sub(r"\1", step[1]))
        at = step.end()
        if not step[2]:
            break
    return tuple(keys)


def value_at(document: Any, keys: tuple[str, ...]) -> Any:
    """Return what stands there, or `MISSING`; an object there is other attributes' parent."""
    if type(document) is not dict:
        return document if keys == WHOLE else MISSING
    node = document
    for key in keys:
        if type(node) is not dict or key not in node:
            return MISSING
        node = node[key]
    return MISSING if type(node) is dict else node


def member_text(keys: tuple[str, ...]) -> str:
    """Return what a value's canonical text contains if it has the attribute (or a namesake)."""
    return msgspec.json.encode(keys[-1]).decode() + ":"


def column(documents: Sequence[Any], keys: tuple[str, ...]) -> list[Any]:
    """Return what stands there in each of the documents, where something does."""
    if len(keys) == 1 and keys != WHOLE:
        key = keys[0]
        return [row[key] for row in documents if type(row) is dict and key in row]
    values = [value_at(document, keys) for document in documents]
    return [value for value in values if value is not MISSING]


def values_at(documents: Sequence[Any], keys: tuple[str, ...]) -> list[Any]:
    """Return what stands there in each of the documents; None where nothing does."""
    found = [value_at(document, keys) for document in documents]
    return [None if value is MISSING else value for value in found]


def columns(documents: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the same for every attribute, by its name."""
    found: dict[str, list[Any]] = {}
    for document in documents:
        if type(document) is dict:
            _collect(document, "", found)
        else:
            found.setdefault(WHOLE[0], []).append(document)
    return found


def _collect(document: dict[str, Any], prefix: str, found: dict[str, list[Any]]) -> None:
    for key, value in document.items():
        name = prefix + escape(key)
        if type(value) is dict:
            _collect(value, name + ".", found)
        elif name in found:
            found[name].append(value)
        else:
            found[name] = [value]


@functools.lru_cache(maxsize=8_192)
def escape(key: str) -> str:
    """Return the key as it stands in an attribute's name."""
    return key.replace("\\", "\\\\").replace(".", "\\.")


def attributes_of(value: Any) -> Attributes:
    """Return the names of the value's attributes."""
    if not isinstance(value, dict):
        return VALUE_ONLY
    joined = "".join(value)
    if "." in joined or "\\" in joined or dict in map(type, value.values()):
        return frozenset(_names(value, ""))
    return value.keys()


def _names(value: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, member in value.items():
        name = prefix + escape(key)
        if isinstance(member, dict):
            yield from _names(member, name + ".")
        else:
            yield name
