"""The canonical text of a JSON value, and the fingerprint by which repeats are recognised."""

from collections.abc import Callable
from typing import Any

import msgspec
import xxhash

from heliograph.model.records import Kind

_hash = xxhash.xxh3_64_intdigest

_SIGN = 1 << 63
_RANGE = 1 << 64


# Returns the value's one JSON text: sorted keys, no white space, UTF-8. Not wrapped in a
# function, since it runs for every measurement.
canonical: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted").encode


def signed64(number: int) -> int:
    """Return an unsigned 64-bit integer as the signed one that both databases store."""
    return number - _RANGE if number & _SIGN else number


def fingerprint(kind: Kind, *content: Any, element_id: str | None = None) -> int:
    """Return the signed 64-bit hash of a record's kind and all its content, times excluded."""
    if element_id is not None:
        content = (*content, element_id)
    return signed64(_hash(canonical((kind.value, *content))))


def telling_text(value: Any, text: bytes) -> bytes:
    """Return what of a value's canonical text goes into its fingerprint.

    That of `{"value": v}` is that of v, which has the same one attribute; unless v is an object,
    whose attributes are its own members.
    """
    is_wrapped = value.__class__ is dict and len(value) == 1 and "value" in value
    if is_wrapped and value["value"].__class__ is not dict:
        return text[len(b'{"value":') : -1]
    return text


def measurement_fingerprint(
    revision: int | None, text: bytes, element_id: str | None = None
) -> int:
    """Return what `fingerprint(Kind.MEASUREMENT, revision, value)` does, given the value's text.

    The text is the one that `telling_text` returns.
    """
    if element_id is not None:
        number = _hash(
            b'["measurement",%b,%b,%b]' % (canonical(revision), text, canonical(element_id))
        )
    elif revision is None:
        number = _hash(b'["measurement",null,' + text + b"]")
    else:
        number = _hash(b'["measurement",%d,%b]' % (revision, text))
    return number - _RANGE if number & _SIGN else number
