"""The quick way to read telemetry, for messages in which nothing at all is wrong.

msgspec checks types, depth and integers while it parses. What it glosses over, repeated keys,
is found by counting: each colon and each brace of the payload has to be accounted for. A colon
that remains is that of a repeated key or stands in a text, a brace one of a nested object or in
a text. Whatever a quick reader can't vouch for, it raises one of `DOUBTFUL` for, and the exact
one reads the message again.
"""

from typing import Annotated, Any, TypeAlias

import msgspec

from heliograph.ingest.elements import MAXIMUM_IDENTITY, MAXIMUM_REVISION
from heliograph.ingest.json_checks import (
    MAXIMUM_ELEMENTS,
    Integer,
    Rejected,
    has_suspicious_escape,
)

_Identity: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAXIMUM_IDENTITY)]
_Revision: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAXIMUM_REVISION)]

BACKSLASH = 0x5C


class DoubtfulError(Exception):
    """The quick way can't vouch for the message."""


DOUBTFUL = (msgspec.MsgspecError, UnicodeError, RecursionError, Rejected, DoubtfulError)


class Framed(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What every element may say beside its content."""

    timestamp: Integer | float | str | msgspec.UnsetType | None = msgspec.UNSET
    revision: _Revision | msgspec.UnsetType | None = msgspec.UNSET
    id: _Identity | msgspec.UnsetType | None = msgspec.UNSET


def account_for(
    payload: bytes, message: Any, enveloped: Any, *, has_escapes: bool
) -> tuple[Any, int, int]:
    """Return a parsed message's elements, and the colons and braces left for their members.

    `enveloped` is what the message holds if it is an envelope, else UNSET; `has_escapes` tells
    whether the payload has a backslash.

    Raises:
        DoubtfulError: there are too many elements, or escapes hide what would be counted.
    """
    if has_escapes and has_suspicious_escape(payload):
        raise DoubtfulError
    colons = payload.count(b":")
    braces = payload.count(b"{")
    if message.__class__ is list:
        elements = message
    elif enveloped is msgspec.UNSET:
        elements = [message]
    else:
        elements = enveloped
        colons -= 1
        braces -= 1
    if len(elements) > MAXIMUM_ELEMENTS:
        raise DoubtfulError
    return elements, colons, braces - len(elements)
