"""What tells two records of one sensor and time apart: a hash of their kind and content."""

from typing import Any, Final

import xxhash

from heliograph.model.canonical import canonical
from heliograph.model.records import Kind

_hash = xxhash.xxh3_64_intdigest
_SIGN: Final = 1 << 63
_RANGE: Final = 1 << 64


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
