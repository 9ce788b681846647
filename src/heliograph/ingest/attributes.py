r"""The attributes of a value: what of it has a name, a newest value and aggregates.

Members of nested objects have dotted paths; `.` and `\` in keys are escaped with `\`. An
array is the value of one attribute. Objects without members have none. A value that is not
an object is the attribute `value`.
"""

from collections.abc import Iterator, KeysView
from typing import Any, TypeAlias

# The keys of a flat object whose keys need no escapes (no copy), else the escaped names.
Attributes: TypeAlias = KeysView[str] | frozenset[str]

VALUE_ONLY: frozenset[str] = frozenset({"value"})


def attributes_of(value: Any) -> Attributes:
    """Return the names of the value's attributes."""
    if not isinstance(value, dict):
        return VALUE_ONLY
    joined = "".join(value)
    if "." in joined or "\\" in joined or dict in map(type, value.values()):
        return frozenset(_names(value, ""))
    return value.keys()


def attribute_names(names: Attributes) -> set[str]:
    """Return an element of `Decoded.attributes` as a set of escaped, dotted names."""
    return set(names)


def _names(value: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, member in value.items():
        name = prefix + key.replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(member, dict):
            yield from _names(member, name + ".")
        else:
            yield name
